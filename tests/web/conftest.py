"""A served library of plain colours."""

from contextlib import contextmanager

import pytest

LOCAL = "http://127.0.0.1:8000"
TOKEN = "a-token-of-more-than-32-characters"


@contextmanager
def serving(library, base_url=LOCAL, **settings):
    """A client of a server in this process."""
    reason = "the extra 'web' is not installed"
    testclient = pytest.importorskip("starlette.testclient", reason=reason)
    app = pytest.importorskip("videoclip.web.app", reason=reason)
    from videoclip.web.safety import ServeSettings

    served = app.create_app(library, ServeSettings(**settings))
    with testclient.TestClient(served, base_url=base_url, follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(indexed):
    with serving(indexed) as client:
        yield client


@pytest.fixture(scope="module")
def ids(client):
    """The ids of the videos by their names."""
    return {video["name"]: video["id"] for video in client.get("/api/v1/videos").json()["items"]}


@pytest.fixture
def own_client(library, videos):
    """A server that may be changed: it can index the folder `videos`, and takes uploads."""
    library.update([videos / "a.mp4"])
    with serving(library, sources=(videos,), allow_upload=True, max_upload=1_000_000) as client:
        yield client


@pytest.fixture(scope="module")
def remote(indexed):
    """A server beyond loopback."""
    who = {"host": "0.0.0.0", "token": TOKEN, "allowed_hosts": ("videos.example",)}
    with serving(indexed, "http://videos.example", **who) as client:
        yield client
