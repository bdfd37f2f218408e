"""The pages as they come from the server, without a script."""

import re
from pathlib import Path

import videoclip.web


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
    total = len(page) + sum(len(client.get(file).content) for file in files)
    assert total <= 150_000


def test_labels_of_forms(client, ids):
    for address in ("/?q=red", f"/videos/{ids['a.mp4']}", "/videos"):
        page = client.get(address).text
        for tag in re.findall(r"<img[^>]*>", page):
            assert "alt=" in tag
        assert '<html lang="en">' in page


def test_scripts_name_no_other_server():
    for path in (Path(videoclip.web.__file__).parent / "static").glob("*.js"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|eval\(|innerHTML", text)
