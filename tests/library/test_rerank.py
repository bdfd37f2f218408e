"""Searching with a re-ranker: a real model over a small library."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.library.colours import NAMES, ColourBackbone, write_video
from tests.test_embedding import CONFIG, make_embedder
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import ConfigError, DataError
from videoclip.library.library import VideoLibrary, moment_features
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.rerank import PairScorer

QUERY = "w1 w2"


class OtherColours(ColourBackbone):
    """Another backbone, in whose features the colours have other places."""

    name = "others"
    spec = FeatureSpec(len(NAMES), 1.0, "others", True, "a-backbone")

    def embed_frames(self, frames):
        return np.roll(super().embed_frames(frames), 2, axis=1)


def embedder_of_colours(num_cross_layers, backbone=ColourBackbone):
    embedder = make_embedder(
        replace(
            CONFIG,
            feature_dim=len(NAMES),
            backbone=backbone.name,
            num_cross_layers=num_cross_layers,
        )
    )
    embedder._given_backbone = backbone()
    if num_cross_layers:
        embedder.model.reranker.weight.fill_(-10.0)  # corrections large enough to change an order
    return embedder


@pytest.fixture
def library(tmp_path):
    videos = [  # no two alike, so that no moments are as similar as each other
        write_video(tmp_path / f"{name}.mp4", [name] * 3 + [other] * 2)
        for name, other in zip(NAMES[:3], NAMES[3:], strict=True)
    ]
    with VideoLibrary(tmp_path / "library", embedder_of_colours(1)) as library:
        library.update(videos)
        yield library


def test_the_best_moments_come_in_the_rerankers_order(library):
    options = SearchOptions(top_k=6)
    (once,) = library.search_many([QUERY], options)
    (twice,) = library.search_many([QUERY], replace(options, rerank_top=4))
    stores = [FeatureStore.open(path) for path in library.folder.glob("features-*")]
    features = [moment_features(m, stores, library._catalog) for m in once[:4]]
    scores = [
        PairScorer(library.embedder, [QUERY], [clip])(
            torch.tensor([0]), torch.tensor([0]), torch.tensor([moment.similarity])
        ).item()
        for clip, moment in zip(features, once, strict=False)
    ]
    expected = [once[i] for i in sorted(range(4), key=lambda i: -scores[i])]
    assert twice == expected + once[4:]
    assert twice != once


def test_features_of_the_present_backbone_are_compared_after_a_rebuild(library, tmp_path):
    def found_in(some):
        (moments,) = some.search_many([QUERY], SearchOptions(top_k=6, rerank_top=4))
        return [(moment.path, moment.start, moment.end) for moment in moments]

    videos = [video.path for video in library.videos()]
    with VideoLibrary(tmp_path / "rebuilt", embedder_of_colours(1, OtherColours)) as other:
        other.update(videos)
        assert found_in(other) != found_in(library)
    with VideoLibrary(tmp_path / "rebuilt", embedder_of_colours(1), rebuild=True) as rebuilt:
        rebuilt.update(videos)
        assert len(list(rebuilt.folder.glob("features-*"))) == 2
        assert found_in(rebuilt) == found_in(library)


def test_pages_are_cut_after_reranking(library):
    whole = SearchOptions(top_k=4, rerank_top=4)
    (everything,) = library.search_many([QUERY], whole)
    pages = [replace(whole, top_k=2, offset=offset) for offset in (0, 2)]
    assert [m for p in pages for m in library.search_many([QUERY], p)[0]] == everything


def test_only_words_and_only_with_a_reranker(library, tmp_path):
    options = SearchOptions(rerank_top=2)
    with pytest.raises(ConfigError, match="search by words"):
        library.search_like(tmp_path / "red.mp4", options)
    with VideoLibrary(tmp_path / "plain", embedder_of_colours(0)) as plain:
        plain.update([tmp_path / "red.mp4"])
        with pytest.raises(ConfigError, match="no re-ranker"):
            plain.search_many([QUERY], options)
    with pytest.raises(ConfigError, match="rerank_top at least 0"):
        SearchOptions(rerank_top=-1)


def test_features_that_were_not_kept_are_asked_for(library):
    (moments,) = library.search_many([QUERY])
    strange = replace(moments[0], path=moments[0].path.with_name("other.mp4"))
    with pytest.raises(DataError, match="no frozen features"):
        moment_features(strange, [], library._catalog)
