"""Searching with a re-ranker: a real model over a small library."""

from dataclasses import replace

import pytest
import torch

from tests.library.colours import NAMES, ColourBackbone, write_video
from tests.test_embedding import CONFIG, make_embedder
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import ConfigError, DataError
from videoclip.library.library import VideoLibrary, moment_features
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.rerank import PairScorer

QUERY = "w1 w2"


def embedder_of_colours(num_cross_layers):
    embedder = make_embedder(
        replace(
            CONFIG,
            feature_dim=len(NAMES),
            backbone="colours",
            num_cross_layers=num_cross_layers,
        )
    )
    embedder._given_backbone = ColourBackbone()
    if num_cross_layers:
        embedder.model.reranker.weight.fill_(-10.0)  # corrections large enough to change an order
    return embedder


@pytest.fixture
def library(tmp_path):
    videos = [
        write_video(tmp_path / f"{name}.mp4", [name] * 3 + ["black"] * 2) for name in NAMES[:4]
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
