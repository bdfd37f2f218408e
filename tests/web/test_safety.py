"""Requests that must not be answered."""

import asyncio

import pytest

from tests.library.colours import ColourEmbedder
from tests.web.conftest import LOCAL, TOKEN
from videoclip.errors import ConfigError
from videoclip.library.library import VideoLibrary

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")

from starlette.exceptions import HTTPException

from videoclip.web import safety
from videoclip.web.app import create_app
from videoclip.web.safety import MAX_BODY, ServeSettings
from videoclip.web.served import ServedLibrary

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    return problem["detail"]


def test_beyond_loopback_a_long_token_is_required():
    with pytest.raises(ConfigError, match="token"):
        ServeSettings(host="0.0.0.0")
    with pytest.raises(ConfigError, match="32"):
        ServeSettings(host="0.0.0.0", token="short")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1@evil", "a b", "", "[::::]", "["]
)
def test_unknown_host_names_are_refused(client, host):
    refused(client.get("/api/v1/videos", headers={"Host": host}), 421)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8000"])
def test_names_of_loopback_are_known(client, host):
    assert client.get("/api/v1/videos", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "http://[", "http://9127.0.0.1:8000"],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_pages_of_other_origins_change_nothing(client, origin, method):
    answer = client.request(method, "/api/v1/labels/fit", headers={"Origin": origin})
    refused(answer, 403)


def test_every_request_beyond_loopback_needs_the_token(remote):
    for address in ("/api/v1/videos", "/metrics", "/openapi.json", "/api/v1/jobs"):
        refused(remote.get(address), 401)
        wrong = {"Authorization": f"Bearer {TOKEN[:-1]}x"}
        refused(remote.get(address, headers=wrong), 401)
    assert remote.get("/api/v1/videos", headers=BEARER).status_code == 200
    assert remote.get("/healthz").status_code == 200
    for off in ("/docs", "/openapi.json"):
        assert remote.get(off, headers=BEARER).status_code == 404
    refused(remote.get("/api/v1/videos", headers={**BEARER, "Host": "other.example"}), 421)


def test_the_token_is_exchanged_for_a_cookie(remote):
    page = remote.get("/?q=red", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2F%3Fq%3Dred")
    wrong = remote.post("/login", data={"token": "no", "next": "/"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    assert remote.post("/login", content=b"&a=b" * 1000).status_code == 401
    right = remote.post("/login", data={"token": TOKEN, "next": "/?q=red"})
    assert (right.status_code, right.headers["location"]) == (303, "/?q=red")
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN.lower() not in cookie
    assert remote.get("/api/v1/videos").status_code == 200
    remote.cookies.clear()
    refused(remote.get("/api/v1/videos"), 401)


def test_htmx_is_sent_to_the_login_and_back_to_its_page(remote):
    """A page may be older than the server, and so may its cookie."""
    here = {"HX-Request": "true", "HX-Current-URL": "http://videos.example/videos?where=duration"}
    for send in (remote.get, remote.post):
        answer = send("/jobs", headers=here)
        refused(answer, 401)
        assert answer.headers["hx-redirect"] == "/login?next=%2Fvideos%3Fwhere%3Dduration"
    assert "hx-redirect" not in remote.get("/jobs").headers


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", ""]
)
def test_the_login_leads_to_no_other_server(remote, target):
    answer = remote.post("/login", data={"token": TOKEN, "next": target})
    assert answer.headers["location"] == "/"
    remote.cookies.clear()


def test_exports_beyond_loopback_name_no_folder(remote, ids, made_videos):
    moments = [{"video": ids["a.mp4"], "start": 10, "end": 22, "label": "blue"}]
    for form in ("csv", "json", "edl", "fcpxml"):
        asked = {"format": form, "moments": moments}
        answer = remote.post("/api/v1/export", json=asked, headers=BEARER)
        assert "a.mp4" in answer.text
        assert str(made_videos) not in answer.text


@pytest.mark.parametrize(
    "id", ["..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "1", "0" * 24, "%00", "a.mp4", "é"]
)
def test_an_id_is_no_path(client, id):
    for what in ("", "/media", "/narration", "/thumbnail", "/clip?start=0&end=1", "/curve?q=red"):
        refused(client.get(f"/api/v1/videos/{id}{what}"), 404)


def test_ids_of_another_library_are_unknown(client, tmp_path, made_videos):
    with VideoLibrary(tmp_path / "other", ColourEmbedder()) as other:
        other.update([made_videos / "a.mp4"])
        served = ServedLibrary(other, ServeSettings())
        foreign = served.id_of(made_videos / "a.mp4")
        assert served.find(foreign)
        served.close()
    refused(client.get(f"/api/v1/videos/{foreign}/media"), 404)
    asked = {"video": foreign, "labels": ["red"]}
    refused(client.post("/api/v1/segment", json=asked), 404)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/%2e%2e%2fapp.py"]
)
def test_static_files_are_in_their_folder(client, path):
    refused(client.get(path), 404)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"q": ""},
        {"q": "x" * 1001},
        {"q": "red", "limit": 101},
        {"q": "red", "limit": 0},
        {"q": "red", "cursor": "x"},
        {"q": "red", "cursor": "offfffff"},
        {"q": "red", "vision": -1},
        {"q": "red", "vision": 0, "speech": 0},
        {"q": "red", "vision": "inf"},
        {"q": "red", "strictness": "extreme"},
        {"q": "red", "where": "nonsense"},
        {"q": "red", "where": "1; drop table videos"},
        {"q": "red", "unknown": 1},
        {"like": "../x"},
    ],
)
def test_wrong_searches(client, params):
    detail = refused(client.get("/api/v1/search", params=params), 422)
    assert "\n" not in detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"video": "\\ud800", "labels": ["red"]}',
        b'{"video": "000000000000000000000000", "labels": []}',
        b'{"video": "000000000000000000000000", "labels": ["red"], "threshold": 1e999}',
        b"[" * 10_000,
    ],
)
def test_wrong_bodies(client, body):
    answer = client.post(
        "/api/v1/segment", content=body, headers={"Content-Type": "application/json"}
    )
    refused(answer, answer.status_code)
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/api/v1/segment", [(b"content-type", b"application/json")]),
        ("PUT", "/api/v1/uploads/a.mp4", []),
    ],
)
def test_a_request_that_pauses_is_ended(own_client, monkeypatch, method, path, headers):
    """Clients that never finish theirs would otherwise use up all places."""
    monkeypatch.setattr(safety, "MAX_PAUSE", 0.05)
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent = []

    async def receive():
        return parts.pop() if parts else await asyncio.Future()

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), *headers],
    }
    asyncio.run(asyncio.wait_for(own_client.app(scope, receive, send), 60))
    assert sent[0]["status"] == 408
    assert b"nothing came for 0.05 s" in sent[1]["body"]


def test_huge_bodies_are_refused_while_they_come(client, own_client):
    def pieces(number):
        for _ in range(number):
            yield b"x" * 65536

    refused(client.post("/api/v1/segment", content=b"x" * (MAX_BODY + 1)), 413)
    refused(client.post("/api/v1/segment", content=pieces(MAX_BODY // 65536 + 2)), 413)
    refused(own_client.put("/api/v1/uploads/big.mp4", content=pieces(20)), 413)
    folder = own_client.app.state.served.library.folder / "uploads"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["x.txt", ".mp4", ".x.mp4", "..%2Fx.mp4", "x%00.mp4", "x" * 300 + ".mp4"]
)
def test_names_of_uploads(own_client, name):
    answer = own_client.put(f"/api/v1/uploads/{name}", content=b"x")
    refused(answer, answer.status_code)
    assert answer.status_code in (404, 422)


def test_uploads_are_off_by_default(client):
    refused(client.put("/api/v1/uploads/x.mp4", content=b"x"), 403)
    refused(client.post("/api/v1/jobs", json={"kind": "index"}), 409)


def test_headers_of_every_answer(client):
    for address in ("/", "/api/v1/videos", "/nothing", "/static/style.css"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_too_many_requests_are_told_to_come_again(indexed):
    served = ServedLibrary(indexed, ServeSettings())
    while served._places.acquire(blocking=False):
        pass
    with pytest.raises(HTTPException) as refusal, served.computing():
        pass
    assert (refusal.value.status_code, refusal.value.headers) == (503, {"Retry-After": "2"})
    served.close()


def test_a_bug_is_not_explained_to_users(indexed, monkeypatch):
    from starlette.testclient import TestClient

    def fail(*arguments):
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(ServedLibrary, "search", fail)
    app = create_app(indexed)
    with TestClient(app, base_url=LOCAL, raise_server_exceptions=False) as client:
        answer = client.get("/api/v1/search?q=red")
        assert "secret" not in refused(answer, 500)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        page = client.get("/?q=red", headers={"Accept": "text/html"})
        assert "Not possible" in page.text


def test_beyond_loopback_the_server_may_be_called_by_its_address(remote, client):
    assert remote.get("/healthz", headers={"Host": "192.168.0.7:8000"}).status_code == 200
    refused(client.get("/healthz", headers={"Host": "192.168.0.7:8000"}), 421)


def test_a_library_that_cannot_be_written(own_client, library, monkeypatch):
    (video,) = own_client.get("/api/v1/videos").json()["items"]
    (library.folder / "web").write_text("in the way")
    spans = own_client.put(f"/api/v1/videos/{video['id']}/spans", json=[])
    span = {"video": video["id"], "start": 0, "end": 1}
    label = own_client.post("/api/v1/labels", json={**span, "query": "x", "is_correct": True})
    for answer in (spans, label):
        assert str(library.folder) not in refused(answer, 500)
