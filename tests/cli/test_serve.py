"""`serve`, as a user starts it."""

import socket
import sys

import pytest

pytest.importorskip("uvicorn", reason="the extra 'web' is not installed")

import uvicorn

from tests.library.colours import ColourEmbedder
from videoclip.cli import main
from videoclip.embedding import Embedder
from videoclip.web.app import listen


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The servers that were started: configuration and address."""
    monkeypatch.setattr(Embedder, "from_pretrained", lambda model, device: ColourEmbedder(model))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDEOCLIP_TOKEN", raising=False)
    found = []

    def run(server, sockets):
        found.append((server.config.app.state.served, sockets[0].getsockname()))
        sockets[0].close()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return found


def test_serve_prints_its_address(started, made_videos, capsys):
    assert main(["serve", str(made_videos), "--port", "0"]) == 0
    ((served, (host, port)),) = started
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().err
    assert (host, served.settings.token) == ("127.0.0.1", None)
    assert served.settings.sources == (made_videos,)


def test_beyond_loopback_a_token_is_printed(started, capsys, monkeypatch):
    assert main(["serve", "--allow-upload", "--host", "0.0.0.0", "--port", "0"]) == 0
    token = started[0][0].settings.token
    assert len(token) >= 32
    assert f"token: {token}" in capsys.readouterr().err
    monkeypatch.setenv("VIDEOCLIP_TOKEN", "x" * 32)
    assert main(["serve", "--allow-upload", "--host", "0.0.0.0", "--port", "0"]) == 0
    assert started[1][0].settings.token == "x" * 32
    assert "x" * 32 not in capsys.readouterr().err
    monkeypatch.setenv("VIDEOCLIP_TOKEN", "short")
    assert main(["serve", "--allow-upload", "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "at least 32" in capsys.readouterr().err


def test_the_end_of_an_answer_is_sent_at_once():
    with listen("127.0.0.1", 0) as server, socket.create_connection(server.getsockname()):
        connection, _ = server.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_is_one_line(started, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--allow-upload", "--port", str(port)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"port {port}" in error
    assert "--port" in error
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--port", "99999"])


def test_a_missing_library_is_one_line(started, capsys):
    assert main(["serve", "--library", "none"]) == 1
    assert "none" in capsys.readouterr().err


def test_without_the_extra_the_command_names_it(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "videoclip.web.app", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 1
    assert "videoclip[web]" in capsys.readouterr().err
