"""The pages as they come from the server, without a script."""

import hashlib
import json
import re
import tomllib
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest

import videoclip.web

ROOT = Path(__file__).parents[2]
STATIC = Path(videoclip.web.__file__).parent / "static"
HTMX = STATIC / "htmx.min.js"


def test_the_search_page_shows_what_was_found(client):
    page = client.get("/", params={"q": "yellow"})
    assert page.status_code == 200
    first = re.search(r'class="card".*?</li>', page.text, re.DOTALL)[0]
    assert "b.mp4" in first
    assert 'data-start="20.0"' in first
    assert 'value="low" checked' in page.text


def test_an_ordered_query_shows_the_spans_of_its_parts(client, ids):
    page = client.get("/", params={"q": "red, then blue"}).text
    first = re.search(r'class="card".*?class="tools"', page, re.DOTALL)[0]
    assert 'data-start="0.0"\n  data-end="22.0"' in first
    assert f'href="/videos/{ids["a.mp4"]}?q=blue&amp;start=10.0&amp;end=22.0"' in first
    found = client.get("/api/v1/search", params={"q": "red, then blue"}).json()["items"][0]
    assert [part["label"] for part in found["parts"]] == ["red", "blue"]


def test_nothing_is_an_honest_answer(client):
    page = client.get("/", params={"q": "red", "strictness": "high", "where": "duration < 5"}).text
    assert "Nothing here matches" in page
    assert "strictness=none" in page


def test_a_wrong_filter_is_explained_on_the_page(client):
    page = client.get("/", params={"q": "red", "where": "length > 3"})
    assert "unknown name" in page.text


def test_what_users_write_is_escaped(client):
    text = "<script>alert(1)</script>\"'"
    for address, params in (("/", {"q": text, "where": text}), ("/videos", {"where": text})):
        assert "<script>alert" not in client.get(address, params=params).text


def test_more_moments_follow(client):
    page = client.get("/", params={"q": "red", "strictness": "none", "limit": 1}).text
    following = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    assert client.get(following).status_code == 200


def test_the_address_has_only_what_differs_from_the_defaults(client, ids):
    """As a browser without a script sends the form: every field of it."""
    form = {"q": "red", "vision": "1", "speech": "1", "where": "", "strictness": "low"}
    sent = client.get("/", params=form)
    assert (sent.status_code, sent.headers["location"]) == (303, "/?q=red")
    assert client.get("/?q=red").status_code == 200
    assert client.get("/", params={**form, "q": ""}).headers["location"] == "/"
    changed = {**form, "speech": "0.5", "strictness": "none"}
    assert (
        client.get("/", params=changed).headers["location"] == "/?q=red&strictness=none&speech=0.5"
    )
    like = {"like": ids["a.mp4"], "start": "0.0", "end": "2.0"}
    alone = client.get("/", params={**form, "q": "", **like})
    assert alone.headers["location"] == f"/?like={ids['a.mp4']}&end=2.0"
    assert client.get("/", params={**form, **like}).headers["location"] == "/?q=red"


def test_a_judgement_is_shown_when_the_page_is_opened_again(own_client):
    def judge(button, page):
        """Press a button of the first card as a browser without a script does."""
        form = re.search(r'<form class="judge".*?</form>', page, re.DOTALL)[0]
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
        fields = {name: unescape(value) for name, value in fields.items()}
        answer = own_client.post("/labels", data={**fields, "is_correct": button})
        return answer.status_code, own_client.get(answer.headers["location"]).text

    def pressed(page):
        form = re.search(r'<form class="judge".*?</form>', page, re.DOTALL)[0]
        return re.findall(r'aria-pressed="(\w+)"', form)

    page = own_client.get("/?q=blue&strictness=none").text
    assert pressed(page) == ["false", "false"]
    status, page = judge("yes", page)
    assert status == 303
    assert pressed(page) == ["true", "false"]
    assert "1 marked" in page
    status, page = judge("no", page)
    assert pressed(page) == ["false", "true"]
    assert "1 marked" in page
    assert pressed(own_client.get("/?q=red&strictness=none").text) == ["false", "false"]
    wrong = own_client.post("/labels", data={"query": "blue", "is_correct": "yes"})
    assert wrong.status_code == 422


def test_judgements_that_cannot_be_read_hide_no_moment(own_client, library):
    folder = library.folder / "web"
    folder.mkdir()
    (folder / "labels.csv").write_text("no such column\n1\n")
    page = own_client.get("/?q=red&strictness=none").text
    assert "labels.csv" in page
    assert 'class="card"' in page


def test_jobs_are_started_listed_and_cancelled_without_a_script(own_client):
    started = own_client.post("/jobs")
    assert (started.status_code, started.headers["location"]) == (303, "/jobs")
    job = own_client.get("/api/v1/jobs").json()["items"][0]
    assert f'id="job-{job["id"]}"' in own_client.get("/jobs").text
    cancelled = own_client.post(f"/jobs/{job['id']}/cancel")
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, "/jobs")
    assert own_client.post("/jobs/none/cancel").status_code == 404


def test_the_forms_of_a_videos_page_work_without_a_script(own_client):
    (video,) = own_client.get("/api/v1/videos").json()["items"]
    place = f"/videos/{video['id']}"

    def rows(page):
        page = page.split("<template")[0]
        return re.findall(r'name="(label|start|end)"[^>]* value="([^"]*)"', page)

    found = own_client.post(
        f"{place}/find", data={"texts": "green\n\n red \nred", "kind": "labels"}
    )
    labels = [value for name, value in rows(found.text) if name == "label"]
    assert labels == ["red", "green"]
    assert "green\n\n red" in found.text  # what was asked stays in the form
    assert '<option value="labels" selected>' in found.text
    missing = own_client.post(f"{place}/find", data={"texts": "red\nyellow", "kind": "any"})
    assert "Not found: yellow" in missing.text
    sent = urlencode([*rows(found.text), ("next", f"{place}?q=red")])
    saved = own_client.post(f"{place}/spans", content=sent)
    assert (saved.status_code, saved.headers["location"]) == (303, f"{place}?q=red")
    assert rows(own_client.get(place).text) == rows(found.text)
    elsewhere = urlencode([*rows(found.text), ("next", "//elsewhere.example/")])
    saved = own_client.post(f"{place}/spans", content=elsewhere)
    assert (saved.status_code, saved.headers["location"]) == (303, "/")
    spans = own_client.get(f"/api/v1{place}/spans").json()["items"]
    assert [span["label"] for span in spans] == ["red", "green"]
    wrong = {"label": "", "start": "2", "end": "1"}
    refused = own_client.post(f"{place}/spans", data=wrong)
    assert (refused.status_code, "ends after its start" in refused.text) == (422, True)
    answered = own_client.post(f"{place}/ask", data={"question": "", "choices": "blue\nyellow"})
    assert re.search(r"blue: \d+ %.*yellow: \d+ %.*blue, best seen at", answered.text, re.DOTALL)
    assert own_client.post(f"{place}/ask", data={"choices": "blue"}).status_code == 422
    for form in ("find", "spans"):
        unknown = own_client.post(f"/videos/{'0' * 24}/{form}", data={"texts": "red"})
        assert unknown.status_code == 404


def test_a_videos_page_has_curve_narration_and_stills(client, ids):
    page = client.get(
        f"/videos/{ids['b.mp4']}", params={"q": "yellow", "start": 20, "end": 25}
    ).text
    assert "chopping the onions" in page
    assert 'class="curve"' in page
    assert page.count("/thumbnail?t=") == 24
    assert 'start="20.0" end="25.0"' in page
    missing = client.get("/videos/0", headers={"Accept": "text/html"})
    assert missing.status_code == 404
    assert "no such video" in missing.text


def test_the_other_pages(client):
    assert "a.mp4" in client.get("/videos").text
    assert "Jobs" in client.get("/jobs").text


def test_no_page_has_a_script_or_style_in_it(client, ids):
    for address in (
        "/?q=red",
        "/videos",
        f"/videos/{ids['a.mp4']}?q=red",
        "/jobs",
        "/docs",
        "/login",
    ):
        page = client.get(address).text
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|https?://", page)


def test_the_first_page_is_light(client):
    page = client.get("/").text
    files = set(re.findall(r'"(/static/[^"]+)"', page)) | {"/static/shared.js"}
    assert "/static/htmx.min.js" in files
    total = len(page) + sum(len(client.get(file).content) for file in files)
    assert total <= 150_000


def test_labels_of_forms(client, ids):
    for address in ("/?q=red", f"/videos/{ids['a.mp4']}", "/videos"):
        page = client.get(address).text
        for tag in re.findall(r"<img[^>]*>", page):
            assert "alt=" in tag
        assert '<html lang="en">' in page


def test_our_scripts_name_no_other_server():
    for path in set(STATIC.glob("*.js")) - {HTMX}:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|eval\(|innerHTML", text)


def test_htmx_is_the_released_file():
    page = (ROOT / "docs" / "licences.md").read_text()
    version, digest = re.search(
        r"htmx (\d[\d.]+\d).*?SHA-256\s+`(\w{64})`", page, re.DOTALL
    ).groups()
    assert hashlib.sha256(HTMX.read_bytes()).hexdigest() == digest
    assert f'version:"{version}"' in HTMX.read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    licence = HTMX.with_name("htmx.LICENSE")
    assert "Zero-Clause BSD" in licence.read_text()
    assert str(licence.relative_to(ROOT)) in project["license-files"]  # so it is in the wheel


@pytest.mark.parametrize("address", ["/", "/videos", "/jobs", "/login", "/nothing"])
def test_htmx_keeps_to_the_policy_of_the_pages(client, address):
    page = client.get(address, headers={"Accept": "text/html"}).text
    config = json.loads(re.search(r"name=\"htmx-config\" content='([^']+)'", page)[1])
    assert config["allowEval"] is config["allowScriptTags"] is False
    assert config["includeIndicatorStyles"] is False
    assert config["selfRequestsOnly"] is True
    assert config["historyCacheSize"] == 0  # no page in the browser's storage
    assert config["refreshOnHistoryMiss"] is True
