"""Answers of the API and of the pages, as a whole, compared with what was approved."""

import io
import json
import os
import re
import socket
import time
import zipfile
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests import approved
from tests.library.colours import write_video
from tests.web.conftest import TOKEN
from videoclip.errors import CheckpointError, DataError, MissingExtraError
from videoclip.library.indexer import UpdateReport
from videoclip.library.labels import LabelledQuery
from videoclip.library.library import VideoLibrary
from videoclip.zeroshot.moments import Moment

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
from starlette.exceptions import HTTPException

from videoclip.web import app, jobs, media, pages, safety, schemas, served
from videoclip.web.safety import HEADERS, Guard, Metrics, ServeSettings

USUAL = {name.lower() for name in HEADERS} | {"content-length", "etag", "last-modified"}
"""Headers that every answer has, or that depend on bytes of the day."""


class Names:
    """Replaces what differs between runs by words."""

    def __init__(self, client, **places):
        items = client.get("/api/v1/videos").json()["items"]
        self.ids = {video["name"]: video["id"] for video in items}
        self.words = {video["id"]: video["name"] for video in items}
        self.words |= {str(place): word for word, place in places.items()}

    def __call__(self, text):
        for value, word in self.words.items():
            text = text.replace(value, f"<{word}>")
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "<time>", text)
        text = re.sub(r"(request_seconds_total.*) \d.*", r"\1 SECONDS", text)
        text = re.sub(r"/api/v1/jobs/[\w-]+", "/api/v1/jobs/<job>", text)
        text = re.sub(r'"id":"[\w-]{12}"', '"id":"<job>"', text)
        return re.sub(r"-?\d+\.\d{6,}", lambda match: f"{float(match[0]):.5g}", text)


def answer_of(response, names):
    """Status, unusual headers and content of an answer."""
    kind = response.headers.get("content-type", "")
    headers = {k: names(v) for k, v in response.headers.items() if k not in USUAL}
    if kind.startswith("text/html"):
        content = page_of(response.text, names)
    elif "json" in kind and response.text:
        content = compact(json.loads(names(response.text)))
        if "problem" in kind:
            assert (content["type"], content["status"]) == ("about:blank", response.status_code)
            content = f"{content['title']}: {content['detail']}"
    elif kind.startswith(("text", "application/xml")):
        content = names(response.text).splitlines()
    else:
        content = f"{len(response.content) > 100} {response.content[:3]!r}"
    usual = ("no-store", "application/json", "application/problem+json", "text/html; charset=utf-8")
    shown = [f"{name}: {value}" for name, value in headers.items() if value not in usual]
    return [response.status_code, *shown, content]


def compact(content):
    """JSON without what is empty."""
    if isinstance(content, list):
        return [compact(one) for one in content]
    if isinstance(content, dict):
        empty = (None, "", [], {}, False)
        return {key: compact(value) for key, value in content.items() if value not in empty}
    return content


class PageReader(HTMLParser):
    """Texts, links and fields of a page, in order."""

    LINKS = ("href", "src", "action", "method", "name", "value", "poster", "points", "role")

    def __init__(self):
        super().__init__()
        self.found, self.skipped = [], 0

    def handle_starttag(self, tag, attributes):
        self.skipped += tag in ("script", "style", "svg") and tag != "svg"
        links = [
            f"{name}={value}"
            for name, value in attributes
            if name in self.LINKS or name.startswith(("data-", "hx-"))
        ]
        flags = [
            name
            for name, _ in attributes
            if name in ("disabled", "checked", "selected", "hidden", "open", "autofocus")
        ]
        if (links or flags) and tag not in ("meta", "link", "script"):
            self.found.append(f"{tag} {' '.join(links + flags)}")

    def handle_endtag(self, tag):
        self.skipped -= tag in ("script", "style")

    def handle_data(self, data):
        if data.strip() and not self.skipped:
            self.found.append(" ".join(data.split()))


def page_of(text, names):
    reader = PageReader()
    reader.feed(text)
    stills = [one for one in reader.found if "thumbnail?t=" in one or "#t=" in one][3:]
    return [names(one)[:120] for one in reader.found if one not in stills]


SEARCHES = [
    "q=yellow&limit=2",
    "q=yellow&limit=1&cursor=o1",
    "q=red, then green&limit=1",
    "q=onions&vision=0&strictness=low",
    "like=A&start=11&end=12&limit=1&speech=0",
    "q=red&where=duration>33&limit=1",
    "q=red&limit=0",
    "q=red&limit=101",
    "q=red&cursor=x1",
    "q=red&cursor=o",
    "q=red&cursor=oFF",
    "q=red&cursor=o3e8",
    "q=red&like=A",
    "q=",
    "q=red&where=nothing",
    "q=red&unknown=1",
    "q=red&vision=-1",
    "q=red&vision=0&speech=0",
    "q=red&strictness=sure",
    "like=000000000000000000000000",
    "like=x",
    "picture=000000000000000000000000",
]


@pytest.fixture
def names(client, indexed, made_videos):
    return Names(client, LIBRARY=indexed.folder, VIDEOS=made_videos)


def get(client, address):
    return client.get(address.replace("#", "%23"))


def test_what_the_api_returns(client, names):
    a, b = names.ids["a.mp4"], names.ids["b.mp4"]
    addresses = [
        "videos",
        "videos?limit=1",
        "videos?limit=1&cursor=o2",
        "videos?limit=2&cursor=o1",
        "videos?limit=3",
        "videos?where=duration<10",
        "videos?where=nope=1",
        "videos?limit=0",
        f"videos/{a}",
        "videos/0",
        f"videos/{b}/narration",
        f"videos/{a}/curve",
        f"videos/{names.ids['c d.mp4']}/curve?q=white",
        f"videos/{a}/media",
        f"videos/{a}/clip?start=1&end=1.5",
        f"videos/{a}/clip?start=1&end=1",
        f"videos/{a}/clip?start=1&end=400",
        f"videos/{a}/clip?start=-1&end=1",
        f"videos/{a}/thumbnail?t=3",
        f"videos/{a}/spans",
        "jobs",
        "jobs/x",
        "jobs/x/result",
        "jobs/x/events",
        "pictures/000000000000000000000000",
        "nothing",
        *(f"search?{query.replace('=A', f'={a}')}" for query in SEARCHES),
    ]
    approved.check(
        "web-api",
        {
            names(address): answer_of(get(client, f"/api/v1/{address}"), names)
            for address in addresses
        },
    )


def test_questions(client, names, indexed):
    a, b = names.ids["a.mp4"], names.ids["b.mp4"]
    spans = [
        {"video": a, "start": 1, "end": 2.5, "label": "=cut", "confidence": "low"},
        {"video": a, "start": 12, "end": 13},
    ]
    both = [*spans, {"video": b, "start": 0, "end": 1}]
    asked = [
        ("segment", {"video": a, "labels": ["red", "green", "w"]}),
        ("segment", {"video": a, "labels": [" red "], "threshold": 2.5, "switch_cost": 0}),
        ("segment", {"video": a, "labels": ["red", "green"], "switch_cost": 1000}),
        ("segment", {"video": a, "labels": []}),
        ("segment", {"video": a, "labels": ["!"]}),
        ("segment", {"video": a, "labels": ["red", "red"]}),
        ("localize", {"video": a, "steps": ["green", "red"]}),
        ("localize", {"video": a, "steps": ["green", "red"], "ordered": False, "threshold": 2}),
        ("ask", {"video": a, "question": "green or", "choices": ["red", "yellow", "blue"]}),
        ("ask", {"video": a, "choices": ["red"]}),
        *(("export", {"format": f, "moments": spans}) for f in ("csv", "edl", "vtt", "youtube")),
        ("export", {"format": "fcpxml", "moments": spans[:1], "title": "T <x>"}),
        ("export", {"format": "json", "moments": spans[1:]}),
        ("export", {"format": "vtt", "moments": both}),
        ("export", {"format": "xml", "moments": spans}),
        ("export", {"format": "csv", "moments": [{"video": a, "start": 2, "end": 1}]}),
        ("labels/fit", {}),
        ("jobs", {"kind": "index"}),
        ("jobs", {"kind": "other"}),
        ("pictures", {}),
        ("labels", {"query": " ", "video": a, "start": 0, "end": 1, "is_correct": True}),
    ]
    decoded = len(indexed.embedder.backbone.decoded)
    found = [
        [
            names(f"{name} {json.dumps(body)}")[:90],
            *answer_of(client.post(f"/api/v1/{name}", json=body), names),
        ]
        for name, body in asked
    ]
    assert len(indexed.embedder.backbone.decoded) == decoded  # what is indexed is not decoded again
    approved.check("web-questions", found)


PAGES = [
    "/videos?where=duration>1&cursor=o1",
    "/",
    "/?q=yellow",
    "/?q=red&strictness=none&vision=0.5&where=duration>1",
    "/?q=zzz&strictness=high",
    "/?q=zzy&strictness=high&cursor=o2",
    "/?q=red&where=nope",
    "/?like=A&start=1&end=2",
    "/?q=red&strictness=sure",
    "/?q=red&strictness=none&cursor=o1",
    f"/?q=red&picture={'0' * 24}",
    "/videos",
    "/videos?where=duration<10",
    "/videos?where=nope=",
    "/videos/A?q=blue&start=1&end=3",
    "/videos/A?start=30&end=99",
    "/videos/A?start=2&end=2",
    "/videos/B",
    "/videos/000",
    "/jobs",
    "/login?next=/videos",
    "/login?next=//evil",
    "/nothing",
    "/api/v1/videos/000",
]


def test_pages(client, names, monkeypatch):
    listed = served.ServedLibrary.list_videos
    monkeypatch.setattr(  # as if there were more
        served.ServedLibrary, "list_videos", lambda self, where, at, _: listed(self, where, at, 1)
    )
    ids = {
        "=A": f"={names.ids['a.mp4']}",
        "/A": f"/{names.ids['a.mp4']}",
        "/B": f"/{names.ids['b.mp4']}",
    }
    found = {}
    for address in PAGES:
        full = address
        for word, id in ids.items():
            full = full.replace(word, id)
        response = client.get(full, headers={"accept": "text/html"})
        found[address] = answer_of(response, names)
    seen = set()  # what was on a page before is not listed again
    for answer in found.values():
        if isinstance(answer[-1], list):
            answer[-1] = [line for line in answer[-1] if line not in seen]
            seen.update(answer[-1])
    approved.check("web-pages", found)


def test_forms_of_a_video(client, names):
    """What a page shows after each of its forms, beside what it shows anyway."""
    address = f"/videos/{names.ids['a.mp4']}"
    texts = "green\n red \n\nyellow"
    forms = {
        "steps": ("find", {"texts": texts}),
        "in any order": ("find", {"texts": texts, "kind": "any"}),
        "labels": ("find", {"texts": texts, "kind": "labels"}),
        "no texts": ("find", {"texts": " ", "kind": "labels"}),
        "a question": ("ask", {"question": "which?", "choices": "red\nwhite\nblue"}),
        "one choice": ("ask", {"question": "which?", "choices": "red"}),
        "wrong spans": ("spans", {"label": "x", "start": "5", "end": "2"}),
    }
    html = {"accept": "text/html"}
    usual = answer_of(client.get(address, headers=html), names)[-1]
    found = {}
    for name, (place, form) in forms.items():
        response = client.post(f"{address}/{place}", data=form, headers=html)
        answer = answer_of(response, names)
        if isinstance(answer[-1], list):
            answer[-1] = [line for line in answer[-1] if line not in usual]
        found[name] = answer
    approved.check("web-forms", found)


def wait(client, place):
    for _ in range(600):
        status = client.get(place).json()
        if status["state"] in ("done", "failed", "cancelled"):
            return status
        time.sleep(0.02)
    raise AssertionError(status)


def test_what_changes_a_library(own_client, library, videos, tmp_path):
    names = Names(own_client, LIBRARY=library.folder, VIDEOS=videos, TMP=tmp_path)
    a = names.ids["a.mp4"]
    found = {}

    def keep(name, response):
        found[name] = answer_of(response, names)
        return response

    def job_of(name, response):
        found[name] = answer_of(response, names)[:-1]
        status = wait(own_client, response.headers["location"])
        status["id"] = "<job>"
        found[f"{name}: job"] = json.loads(names(json.dumps(status)))
        return response.headers["location"]

    keep("spans", own_client.put(f"/api/v1/videos/{a}/spans", json=[{"start": 1, "end": 2}]))
    keep("wrong spans", own_client.put(f"/api/v1/videos/{a}/spans", json=[{"start": 2, "end": 1}]))
    form = {"label": "x", "start": "3", "end": "4", "next": "//evil"}
    keep("spans of a form", own_client.post(f"/videos/{a}/spans", data=form))
    page = own_client.post(f"/videos/{a}/find", data={"texts": "white", "kind": "labels"})
    found["spans after nothing was found"] = page.text.count('value="3.000"')
    found["spans before"] = own_client.get(f"/videos/{a}").text.count('value="3.000"')
    keep("saved spans", own_client.get(f"/api/v1/videos/{a}/spans"))
    judged = {"query": "red", "video": a, "start": 0, "end": 9}
    for is_correct in (True, False):
        keep(
            f"judged {is_correct}",
            own_client.post("/api/v1/labels", json=judged | {"is_correct": is_correct}),
        )
    keep(
        "judged again",
        own_client.post(
            "/api/v1/labels", json=judged | {"start": 20, "end": 30, "is_correct": True}
        ),
    )
    form = {"query": "red", "video": a, "start": "0", "end": "9", "is_correct": "on"}
    for target in ("/videos?x=1", "//evil"):
        judged_by_form = own_client.post("/labels", data=form | {"next": target})
        keep(f"judged by a form at {target}", judged_by_form)
    keep("fit", own_client.post("/api/v1/labels/fit"))
    broken = videos / "broken.mp4"
    broken.write_text("x")
    job_of("index", own_client.post("/api/v1/jobs", json={"kind": "index"}))
    job_of("upload in capitals", own_client.put("/api/v1/uploads/BAD.MP4", content=b"x"))
    content = write_video(tmp_path / "new.mp4", ["green", "red"]).read_bytes()
    job_of("upload", own_client.put("/api/v1/uploads/new.mp4", content=content))
    for name in ("new.mp4", ".hidden.mp4", "x.txt", "y" * 250 + ".mp4", "a%0a.mp4"):
        keep(f"upload {name[:20]}", own_client.put(f"/api/v1/uploads/{name}", content=b"x"))
    keep("large", own_client.put("/api/v1/uploads/z.mp4", content=bytes(1_000_001)))
    spans = [{"video": a, "start": 1, "end": 1.5}, {"video": a, "start": 50, "end": 51}]
    place = job_of(
        "clips", own_client.post("/api/v1/export", json={"format": "clips", "moments": spans})
    )
    result = keep("result", own_client.get(f"{place}/result"))
    with zipfile.ZipFile(io.BytesIO(result.content)) as archive:
        found["archive"] = archive.namelist()
    events = own_client.get(f"{place}/events").text
    found["events"] = names(re.sub(r'"id": ?"[^"]*"', '"id":"<job>"', events)).splitlines()
    keep("cancelled", own_client.delete(place))
    job = own_client.app.state.served.jobs.find(place.rpartition("/")[2])
    job.state = "running"
    keep("result of a running job", own_client.get(f"{place}/result"))
    job.state = "done"
    job.result.unlink()
    keep("result that is gone", own_client.get(f"{place}/result"))
    picture = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (30, 30, 220), np.uint8)).save(picture, "PNG")
    sent = own_client.post("/api/v1/pictures", content=picture.getvalue())
    found["picture"] = [sent.status_code, len(sent.json()["id"])]
    keep("sent picture", own_client.get(f"/api/v1/pictures/{sent.json()['id']}"))
    names.words[sent.json()["id"]] = "picture"
    keep("like it", own_client.get(f"/api/v1/search?picture={sent.json()['id']}&limit=1"))
    keep("no picture", own_client.post("/api/v1/pictures", content=b"GIF8"))
    (videos / "a.mp4").unlink()
    for name in ("media", "clip?start=0&end=1", "thumbnail", ""):
        keep(f"gone {name}", own_client.get(f"/api/v1/videos/{a}/{name}".rstrip("/")))
    found["state"] = sorted(
        names(path.relative_to(library.folder).as_posix())
        for folder in ("web", "uploads")
        for path in (library.folder / folder).iterdir()
    )
    approved.check("web-changes", found)


def test_who_may_ask(remote, indexed, client):
    names = Names(client, LIBRARY=indexed.folder)
    bearer = {"authorization": f"Bearer {TOKEN}"}
    cookie = remote.post("/login", data={"token": f" {TOKEN} ", "next": "/videos"})
    session = {"cookie": cookie.headers["set-cookie"].partition(";")[0]}
    remote.cookies.clear()
    own = {"origin": f"http://{remote.base_url.netloc.decode()}"}
    cases = {
        "nobody": ("GET", "/api/v1/videos", {}),
        "nobody, a page": ("GET", "/videos?where=a b", {"accept": "text/html"}),
        "bearer": ("GET", "/api/v1/jobs", bearer),
        "lower case": ("GET", "/api/v1/jobs", {"authorization": f"bearer  {TOKEN}"}),
        "wrong": ("GET", "/api/v1/jobs", {"authorization": f"Bearer {TOKEN}x"}),
        "basic": ("GET", "/api/v1/jobs", {"authorization": f"Basic {TOKEN}"}),
        "cookie": ("GET", "/api/v1/jobs", session),
        "other cookie": ("GET", "/api/v1/jobs", {"cookie": "videoclip_session=x"}),
        "health": ("GET", "/healthz", {}),
        "ready": ("GET", "/readyz", {}),
        "metrics": ("GET", "/metrics", bearer),
        "docs": ("GET", "/docs", bearer),
        "description": ("GET", "/openapi.json", bearer),
        "other host": ("GET", "/healthz", {"host": "evil.example"}),
        "address": ("GET", "/healthz", {"host": "10.0.0.5:8000"}),
        "odd host": ("GET", "/healthz", {"host": "a b"}),
        "foreign page": ("POST", "/api/v1/labels/fit", bearer | {"origin": "http://evil"}),
        "foreign read": ("GET", "/api/v1/jobs", bearer | {"origin": "http://evil"}),
        "foreign question": ("OPTIONS", "/api/v1/jobs", bearer | {"origin": "http://evil"}),
        "own page": ("POST", "/api/v1/pictures", bearer | own),
        "large": ("POST", "/api/v1/segment", bearer | {"content-length": str((1 << 20) + 1)}),
        "upload": ("PUT", "/api/v1/uploads/a.mp4", bearer),
        "index": ("POST", "/api/v1/jobs", bearer),
    }
    found = {}
    for name, (method, address, headers) in cases.items():
        body = {"json": {"kind": "index"}} if name == "index" else {}
        found[name] = answer_of(remote.request(method, address, headers=headers, **body), names)
    found["login"] = [
        cookie.status_code,
        cookie.headers["location"],
        cookie.headers["set-cookie"].partition("; ")[2],
    ]
    found["login without a token"] = client.post("/login", data={"token": ""}).status_code
    found["wrong login"] = answer_of(
        remote.post("/login", data={"token": "x", "next": "//y"}), names
    )
    exported = {"format": "json", "moments": [{"video": names.ids["a.mp4"], "start": 0, "end": 1}]}
    found["names only"] = answer_of(
        remote.post("/api/v1/export", headers=bearer, json=exported), names
    )
    found["headers"] = {k: v for k, v in remote.get("/healthz").headers.items() if k in USUAL}
    found["static"] = remote.get("/static/style.css").headers["cache-control"]
    hosts = [
        "127.0.0.1",
        "localhost:80",
        "[::1]:9",
        "LOCALHOST",
        "x.example",
        "10.0.0.1",
        "[::2]",
        "",
    ]
    found["hosts"] = {
        host: [
            ServeSettings().knows_host(host),
            ServeSettings(host="0.0.0.0", token=TOKEN, allowed_hosts=("x.example",)).knows_host(
                host
            ),
        ]
        for host in hosts
    }
    found["settings"] = [
        approved.outcome(call)
        for call in (
            partial(ServeSettings, host="0.0.0.0"),
            partial(ServeSettings, token="short"),
            partial(ServeSettings, token="x" * 31),
            partial(ServeSettings, token="ä" * 40),
            lambda: ServeSettings(token="x" * 32).session,
        )
    ]
    approved.check("web-access", found)


def test_errors_of_the_server(indexed, monkeypatch):
    errors = {
        "of the library": DataError("is damaged", indexed.folder / "catalog.sqlite"),
        "of a file": DataError("is odd", "/elsewhere/x.csv"),
        "missing": MissingExtraError("this", "lance"),
        "checkpoint": CheckpointError("no model"),
        "refused": HTTPException(418, "no tea", {"X-Tea": "no"}),
        "bug": ZeroDivisionError("a secret"),
    }
    found = {}
    testclient = pytest.importorskip("starlette.testclient")
    application = app.create_app(indexed, ServeSettings())
    client = testclient.TestClient(application, "http://127.0.0.1", raise_server_exceptions=False)
    for name, error in errors.items():

        def fail(*arguments, error=error):
            raise error

        monkeypatch.setattr(application.state.served, "list_videos", fail)
        for accept in ("application/json", "text/html"):
            address = "/api/v1/videos" if "json" in accept else "/videos"
            if accept == "text/html" and isinstance(error, DataError):
                continue
            response = client.get(address, headers={"accept": accept})
            found[f"{name} {accept}"] = answer_of(response, str)
    application.state.served.close()
    approved.check("web-errors", found)


def test_the_end_of_the_server(indexed):
    testclient = pytest.importorskip("starlette.testclient")
    application = app.create_app(indexed, ServeSettings())
    folder = application.state.served.media.folder
    with testclient.TestClient(application, "http://127.0.0.1"):
        assert folder.is_dir()
    assert not folder.exists()


def test_a_library_that_cannot_be_read_is_not_ready(indexed, monkeypatch):
    def fails(library):
        raise DataError("is damaged", indexed.folder)

    testclient = pytest.importorskip("starlette.testclient")
    application = app.create_app(indexed, ServeSettings())
    client = testclient.TestClient(application, "http://127.0.0.1")
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(VideoLibrary, "__len__", fails)
    assert [client.get(f"/{path}").status_code for path in ("readyz", "healthz")] == [500, 200]
    application.state.served.close()


def test_jobs_one_after_the_other(tmp_path):
    queue = jobs.Jobs(lambda message: message.replace("secret", "***"))
    found, calls = {}, []

    def work(job, on_progress):
        calls.append([job.state, job.done, job.total, job.seconds_left])
        on_progress(1, 4)
        calls.append([job.done, job.total, job.seconds_left is not None])
        job.message = "fine"

    def fail(job, on_progress):
        raise DataError("a secret place")

    def bug(job, on_progress):
        raise KeyError("secret\nkey")

    def cancelled(job, on_progress):
        queue.cancel(job)
        on_progress(2, 3)

    for name, what in (("work", work), ("fail", fail), ("bug", bug), ("cancelled", cancelled)):
        job = queue.start(name, what)
        while not job.is_over:
            time.sleep(0.005)
        found[name] = {k: v for k, v in job.as_dict().items() if k != "id"}
    found["listed"] = [job.kind for job in queue.list()]
    found["not found"] = approved.outcome(partial(queue.find, "x"))
    halted = jobs.threading.Event()
    waiting = [
        queue.start("wait", lambda job, p: halted.wait()) for _ in range(jobs.MAX_WAITING - 1)
    ]
    never = queue.start("cancelled before it began", work)
    found["too many"] = approved.outcome(partial(queue.start, "more", work))
    queue.cancel(never)
    halted.set()
    while not never.is_over:
        time.sleep(0.005)
    found["cancelled before it began"] = [never.state, never.done, len(waiting)]

    def endless(job, on_progress):
        while True:
            on_progress(1, 2)
            time.sleep(0.001)

    last = queue.start("endless", endless)
    while last.state == "waiting":
        time.sleep(0.005)
    queue.close()
    found["when the server ends"] = last.state
    job = jobs.Job("k", "running", done=2, total=6)
    job.began = 0.0
    found["left"] = [job.seconds_left > 1e6, jobs.Job("k").seconds_left]
    result = tmp_path / "r.zip"
    result.write_text("x")
    keeper = jobs.Jobs()
    for i in range(jobs.MAX_KEPT + 3):
        old = jobs.Job(f"{i}", "done", result=result if i == 1 else None)
        keeper._jobs[old.id] = old
    keeper.start("new", lambda job, p: None)
    keeper.close()
    found["kept"] = [len(keeper.list()), keeper.list()[-1].kind, result.exists()]
    approved.check("web-jobs", [found, calls])


def test_the_cache_of_media(tmp_path, monkeypatch):
    cache = media.MediaCache()
    made = []

    def make(name, size, age):
        def write(out):
            made.append(name)
            out.write_bytes(bytes(size))

        path = cache._made(name, ".mp4", write)
        os.utime(path, (age, age))
        return path

    monkeypatch.setattr(media, "MAX_CACHE", 100)
    first = make("a", 50, 10)
    make("b", 50, 20)
    again = cache._made("a", ".mp4", lambda out: made.append("again"))
    used = again.stat().st_mtime > 1000
    os.utime(first, (30, 30))
    cache._drop_oldest(first)  # they are as large as may be
    whole = len(list(cache.folder.iterdir()))
    make("c", 55, 40)
    left = sorted(len(path.read_bytes()) for path in cache.folder.iterdir())
    make("d", 500, 50)
    alone = [len(path.read_bytes()) for path in cache.folder.iterdir()]
    kinds = [
        cache._path("a", ".x").name[:8],
        media._file(first, ".webm").media_type,
        media._file(first, ".avi").media_type,
    ]
    cache.close()
    marks = {
        b"\xff\xd8\xffx": 0,
        b"\x89PNG\r\nx": 0,
        b"RIFFxxxxWEBP": 0,
        b"RIFF": 0,
        b" \x89PNG\r\n": 0,
    }
    other = media.MediaCache()
    monkeypatch.setattr(media, "existing", lambda video: Path("/v/a.mp4"))
    monkeypatch.setattr(media, "_file", lambda path, suffix: suffix)
    clips = []
    cuts = []
    monkeypatch.setattr(media, "cut_clip", lambda *args, **more: cuts.append([*args, more]))
    monkeypatch.setattr(
        other, "_made", lambda key, suffix, make: clips.append([key, suffix, make("out")])
    )
    video = SimpleNamespace(content_hash="0123", duration=9.0)
    for kind in ("direct", "remux", "transcode"):
        monkeypatch.setattr(media, "playback_kind", lambda video, kind=kind: (kind, ".webm"))
        clips.append(approved.outcome(partial(other.whole, video)))
    for span in ((0.0, 300.0), (0.0, 300.1), (1.0, 301.0), (5.0, 5.0), (5.0, 5.001), (-0.1, 2.0)):
        clips.append(approved.outcome(partial(other.clip, video, *span)))
    stills = []
    monkeypatch.setattr(media, "_thumbnail", lambda *asked: stills.append(asked))
    video = SimpleNamespace(duration=9.0, mtime_ns=77, path="/v/a.mp4")
    for asked in (-1.0, 0.04, 8.86, 8.98, 20.0):
        media.thumbnail(video, asked)
    media.thumbnail(SimpleNamespace(duration=0.05, mtime_ns=78, path="/v/b.mp4"), 0.04)
    monkeypatch.undo()
    monkeypatch.setattr(media, "existing", lambda video: Path(video.path))
    monkeypatch.setattr(media, "_playback", lambda *asked: stills.append(asked))
    media.playback_kind(video)
    monkeypatch.undo()
    found = [approved.outcome(partial(other.add_picture, mark)) for mark in marks]
    known = [
        str(other.picture(id)[1]) for id in found if "Error" not in id and "Exception" not in id
    ]
    other.close()
    approved.check(
        "web-media",
        [
            made,
            used,
            whole,
            left,
            alone,
            kinds,
            found,
            known,
            first.parent.exists(),
            clips,
            cuts,
            stills,
        ],
    )


def test_small_parts(monkeypatch):
    metrics = Metrics()
    metrics.requests["/a", 200] += 2
    metrics.requests["/a", 404] += 1
    metrics.seconds["/a"] = 1.5
    metrics.in_flight = 3
    listening = [app.listen(host, 0) for host in ("127.0.0.1", "::1")] if socket.has_ipv6 else []
    addresses = [re.sub(r":\d+$", ":PORT", app.address_of(one)) for one in listening]
    port = listening[0].getsockname()[1]
    taken = str(approved.outcome(partial(app.listen, "127.0.0.1", port))).replace(str(port), "PORT")
    delays = [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) > 0 for one in listening]
    for one in listening:
        one.close()
    started = []
    server = SimpleNamespace(run=lambda sockets: started.append(sockets))
    monkeypatch.setattr(
        app.uvicorn, "Config", lambda application, **o: started.append(o) or "config"
    )
    monkeypatch.setattr(app.uvicorn, "Server", lambda config: started.append(config) or server)
    app.run("app", "socket")
    rows = [[0.0, 1.0, 0.5], [1.0, 2.0, -3.0], [2.0, 3.0, 4.0]]
    approved.check(
        "web-parts",
        {
            "metrics": str(metrics).splitlines(),
            "addresses": addresses,
            "without delay": delays,
            "taken": taken,
            "started": started,
            "curves": [pages._curve(rows, 2.5, 2.0), pages._curve(rows[:1], 0.0, 9.0)],
            "targets": [pages._local(t) for t in ("/a?b", "//x", "/\\x", "x", "/a\nb", "/")],
            "links": [pages.address("/x", a=1, b="", c=None, d="é &", e=0), pages.address("/x")],
            "cursors": [
                approved.outcome(partial(served.offset_of, cursor))
                for cursor in ("off", "", "o", "o0", "o12345678", "o123456789", "oG", "12", "O1")
            ]
            + [served.cursor_of(255), served.cursor_of(0)],
            "problem": safety.problem(404, "gone"),
            "is address": [safety._is_address(x) for x in ("1.2.3.4", "::1", "a.b")],
        },
    )


def test_the_end_of_a_search(indexed, monkeypatch):
    """How far one may page."""
    library = served.ServedLibrary(indexed, ServeSettings())
    monkeypatch.setattr(served, "MAX_FOUND", 5)
    found = {}
    for limit in (1, 2, 3, 5, 6):
        for offset in (0, 2, 3, 4, 5):
            query = schemas.SearchQuery(
                q="red", limit=limit, cursor=served.cursor_of(offset), strictness="none"
            )
            outcome = approved.outcome(partial(library.search, query))
            more = [len(outcome[0]), outcome[1]] if isinstance(outcome, tuple) else outcome
            found[f"{limit} from {offset}"] = more
    library.close()
    approved.check("web-end-of-search", found)


def test_who_waits_for_a_processor(indexed):
    library, calls = served.ServedLibrary(indexed, ServeSettings()), []
    free = True

    class Semaphore:
        def __init__(self, name):
            self.name = name

        def acquire(self, **how):
            calls.append([self.name, how])
            return free or self.name == "places"

        def release(self):
            calls.append([self.name, "released"])

    library._places, library._slots = Semaphore("places"), Semaphore("slots")
    with library.computing():
        calls.append("computing")
    free = False
    with pytest.raises(HTTPException, match="too much to do at once"), library.computing():
        calls.append("never")
    wait = {"timeout": served.MAX_WAIT_SECONDS}
    asked = [["places", {"blocking": False}], ["slots", wait]]
    given_back = [["slots", "released"], ["places", "released"]]
    assert calls == [*asked, "computing", *given_back, *asked, given_back[1]]
    library.close()


def test_the_guard():
    import asyncio

    sent = []

    async def send(message):
        sent.append({k: v for k, v in message.items() if k != "headers"})

    async def application(scope, receive, send):
        sent.append(scope["type"])

    guard = Guard(application, ServeSettings(), Metrics())
    for kind in ("lifespan", "websocket"):
        asyncio.run(guard({"type": kind}, None, send))
    guard.metrics.in_flight = safety.MAX_REQUESTS
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
    }
    asyncio.run(guard(scope, None, send))
    guard.metrics.in_flight = safety.MAX_REQUESTS - 1
    asyncio.run(guard(scope, None, send))

    def bodies(path, sizes, announced=None):
        """How many pieces of a body come through."""
        head = [] if announced is None else [(b"content-length", announced)]
        pieces = iter([{"body": bytes(size), "more_body": True} for size in sizes])

        async def receive():
            return next(pieces)

        async def read():
            limited = guard._limited({"path": path, "headers": head}, receive)
            return [len((await limited())["body"]) for _ in sizes]

        return approved.outcome(lambda: asyncio.run(read()))

    guard.settings = ServeSettings(max_upload=3_000_000)
    most = 1 << 20
    limits = {
        "as much as may be": bodies("/x", (most - 5, 5)),
        "one byte more": bodies("/x", (most - 5, 6)),
        "announced": bodies("/x", (1,), b"1048577"),
        "announced as text": bodies("/x", (1,), b"many"),
        "upload": bodies("/api/v1/uploads/a", (most, most)),
        "large upload": bodies("/api/v1/uploads/a", (most, most, most)),
    }
    approved.check("web-guard", [limits, sent, guard.metrics.requests, guard.metrics.in_flight])


def test_names_instead_of_paths(indexed, made_videos, tmp_path, monkeypatch):
    library = served.ServedLibrary(indexed, ServeSettings(sources=(tmp_path / "more",)))
    messages = [
        f"{made_videos}/a.mp4: odd",
        f"{made_videos / 'sub'}/c d.mp4: odd",
        f"{indexed.folder}/catalog.sqlite\x07",
        f"in {made_videos}",
        f"{tmp_path}/more/x and {library.media.folder}/y",
    ]
    found = [library.without_paths(message) for message in messages]
    with VideoLibrary(tmp_path / "other", indexed.embedder) as another:
        other = served.ServedLibrary(another, ServeSettings())
        same = library.id_of("/a.mp4") == other.id_of("/a.mp4")
        other.close()
    ids = len({library.id_of(path) for path in ("/a.mp4", "/a\udcff.mp4", "/a\udcfe.mp4")})
    odd = replace(indexed.videos()[0], path=f"/v/a\x07{'n' * 90}.mp4")
    moment = Moment(Path(odd.path), 0.0, 2.0, "red", best=1.25)
    described = [library.describe(odd)["name"]]
    described += [library.describe_moment(moment)[name] for name in ("name", "thumbnail")]

    def finished(job):
        while not job.is_over:
            time.sleep(0.005)
        return job

    class Updated:
        def __init__(self, address, embedder):
            """As a library is opened."""

        def __enter__(self):
            return self

        def __exit__(self, *error):
            """As a library is closed."""

        def update(self, sources, on_progress):
            return UpdateReport(failed={str(made_videos / "a\x07.mp4"): f"in {made_videos}/x"})

    monkeypatch.setattr(served, "VideoLibrary", Updated)
    monkeypatch.setattr(library, "find", lambda id: odd)
    monkeypatch.setattr(served, "existing", lambda video: Path(video.path))
    monkeypatch.setattr(served, "cut_clip", lambda source, start, end, out: out.write_text("x"))
    failed = finished(library.index([])).failed
    with zipfile.ZipFile(
        finished(library.cut([SimpleNamespace(video="", start=0, end=1)])).result
    ) as z:
        clips = z.namelist()
    judged = [
        LabelledQuery("red", odd.path, 0.0, 3.0),
        LabelledQuery("red", odd.path, 1.0, 9.0, True),
    ]
    answers = [
        served.is_correct(moment, query, labels)
        for query in ("red", " red ", "blue")
        for labels in (judged, judged[::-1], [])
    ]
    library.close()
    approved.check(
        "web-names",
        [found, same, ids, described, failed, clips, answers, len(library.id_of("/a.mp4"))],
        MADE=made_videos.name,
        ID=library.id_of(odd.path),
    )
