"""Fixtures shared by all tests."""

import multiprocessing
import os
import pkgutil
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import settings

import videoclip
from tests import approved
from tests.disk_calls import DiskCalls
from tests.fork_server import SERVER
from tests.library.colours import ColourEmbedder, write_video
from videoclip.errors import MissingExtraError
from videoclip.library.library import VideoLibrary

# Time is measured under bench/; a busy machine must not fail a test. `make test` tries the same
# examples each time, so that it passes or fails for a reason; `make test-all` explores others.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("gate")


FAST = "not slow and not gpu and not peers"


def pytest_addoption(parser):
    parser.addoption("--approve", action="store_true", help="write the files of tests/approved")
    parser.addoption("--fast", action="store_true", help=f"only {FAST}, and what -m says")


def pytest_configure(config):
    approved.approve = config.getoption("--approve")
    if config.getoption("--fast"):
        more = config.option.markexpr
        config.option.markexpr = f"{FAST} and ({more})" if more else FAST


@pytest.fixture(autouse=True, scope="session")
def imported():
    """Import every module: one first imported while a test replaces a function would keep that."""
    for module in pkgutil.walk_packages(videoclip.__path__, "videoclip."):
        with suppress(ImportError, MissingExtraError):  # of extras that are not installed
            import_module(module.name)


@pytest.fixture(autouse=True, scope="session")
def fast_disk():
    """Do not wait for the disk: `tests/faulty.py` imitates a power cut, and `disk_calls` syncs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(os, "fdatasync", lambda handle: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def forked_workers():
    """Fork the processes that would be spawned; those of commands in a process are spawned."""
    get_context = multiprocessing.get_context
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            multiprocessing,
            "get_context",
            lambda method=None: SERVER if method == "spawn" else get_context(method),
        )
        yield


def pytest_collection(session):
    """Import from the last test module on in the second worker: each compiles half of them."""
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1" and session.config.args == ["tests"]:
        root = Path(__file__).parents[1]
        for path in sorted(root.glob("tests/**/test_*.py"), reverse=True):
            with suppress(Exception, pytest.skip.Exception):  # which collecting it reports
                import_module(".".join(path.relative_to(root).with_suffix("").parts))


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers, annotations and clips; it lies beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"reference folder {SHARED} is absent")
    return SHARED


ONIONS = """WEBVTT

00:00:02.000 --> 00:00:04.000
Hello and welcome to my kitchen.

00:00:21.000 --> 00:00:24.000
Now we are chopping the onions finely.
"""


@pytest.fixture(scope="session")
def made_videos(tmp_path_factory):
    """Three videos, one of them narrated; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    write_video(folder / "a.mp4", ["red"] * 10 + ["blue"] * 12 + ["green"] * 10)
    write_video(folder / "b.mp4", ["black"] * 20 + ["yellow"] * 5 + ["black"] * 10)
    write_video(folder / "sub" / "c d.mp4", ["white"] * 3)
    (folder / "b.en.vtt").write_text(ONIONS)
    return folder


@pytest.fixture
def videos(made_videos, tmp_path):
    """The same in a folder of the test's own, as hard links."""
    for path in sorted(made_videos.rglob("*.*")):
        link = tmp_path / "videos" / path.relative_to(made_videos)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(path)
    return tmp_path / "videos"


@pytest.fixture
def embedder():
    return ColourEmbedder()


@pytest.fixture
def library(tmp_path, embedder):
    with VideoLibrary(tmp_path / "library", embedder, model="colours") as library:
        yield library


@pytest.fixture
def no_workers(monkeypatch):
    """Read videos in this process where no number of workers is given: each imports torch anew."""
    monkeypatch.setattr("videoclip.features.extract.num_cores", lambda: 0)


@pytest.fixture(scope="module")
def indexed(made_videos, tmp_path_factory):
    """A library of three videos, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("indexed") / "library"
    with VideoLibrary(folder, ColourEmbedder(), model="colours") as library:
        library.update([made_videos])
        yield library


@pytest.fixture
def disk_calls(tmp_path, monkeypatch):
    """The syncs and renames under `tmp_path` from here on."""
    return DiskCalls(tmp_path, monkeypatch)
