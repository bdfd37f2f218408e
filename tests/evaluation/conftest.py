"""A world where every word is an axis: what is shown is what is said, or it is not."""

import numpy as np
import pytest

from videoclip.data.feature_store import FeatureSpec, FeatureStore

WORDS = ("nothing", "pour", "stir", "cut", "fry", "serve", "wash", "peel")


class WordEncoder:
    """Embeds words as axes, and features as they are."""

    name = "words"
    temperature = 0.1
    classes = ()
    max_clip_features = 32

    def check(self, spec):
        assert spec.dim == len(WORDS)

    def embed_text(self, texts):
        rows = [[float(word in text.split()) for word in WORDS] for text in texts]
        return np.array(rows, dtype=np.float32)

    def embed_windows(self, features, spans):
        rows = features.astype(np.float32)
        return np.stack([rows[start:stop].mean(axis=0) for start, stop in spans])

    def embed_seconds(self, features, *, attend_cls):
        return features.astype(np.float32)


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def make_store(tmp_path):
    """Make a store from what each feature of each video shows."""

    def make_store(videos, rate=1.0, name="store"):
        spec = FeatureSpec(len(WORDS), rate, "test", True, "none")
        store = FeatureStore.create(tmp_path / name, spec)
        for video_id, shown in videos.items():
            store.append(video_id, np.eye(len(WORDS))[[WORDS.index(word) for word in shown]])
        return store

    return make_store


@pytest.fixture
def random_store(tmp_path):
    """Make a store of random unit features for video ids and their numbers of features."""

    def random_store(lengths, dim=8, seed=0, backbone="test"):
        rng = np.random.default_rng(seed)
        spec = FeatureSpec(dim, 1.0, backbone, True, "none")
        store = FeatureStore.create(tmp_path / "random", spec)
        for video_id, length in lengths.items():
            features = rng.normal(size=(length, dim))
            store.append(video_id, features / np.linalg.norm(features, axis=1, keepdims=True))
        return store

    return random_store
