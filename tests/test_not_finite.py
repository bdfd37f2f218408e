"""One number that is none, or one too large, among many good ones is refused at every door."""

from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.model.tiny_models import make_model
from videoclip.config import PlanConfig
from videoclip.data.batch_plan import make_plan
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.errors import CheckpointError, ConfigError, DataError, VideoCLIPError
from videoclip.library.vectors import MatrixStore
from videoclip.training.run import _Run
from videoclip.weights.files import read_weights


@pytest.fixture(params=[np.nan, np.inf, -np.inf, 1e6], ids=str)
def number(request):
    return request.param


def with_one(number, *shape):
    """Numbers of which one in the middle is bad."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values.flat[values.size // 2] = number
    return values


def test_among_embeddings_and_features(tmp_path, number):
    store = MatrixStore(tmp_path / "v.f16", 4)
    with pytest.raises(DataError, match="an embedding is not finite in half precision"):
        store.append(with_one(number, 5, 4))
    assert store.num_rows == 0
    with FeatureStore.create(tmp_path / "store", FeatureSpec(4, 1.0, "x", False, "")) as features:
        with pytest.raises(DataError, match="cannot add 'v': features that are not finite"):
            features.append("v", with_one(number, 5, 4))
        assert len(features) == 0


def test_among_weights_and_what_a_model_sees(tmp_path, number):
    if np.isfinite(number):
        pytest.skip("large weights are weights")
    path = tmp_path / "model.safetensors"
    weights = torch.from_numpy(with_one(number, 5, 4))
    tensors = {"a": torch.ones(3), "b": weights, "c": torch.ones(3)}
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(CheckpointError, match="'b' holds NaN or infinite values"):
        read_weights(path)
    model = make_model()
    video = torch.from_numpy(with_one(number, 3, 5, model.config.feature_dim))
    mask = torch.ones(3, 5, dtype=torch.bool)
    with pytest.raises(DataError, match="features hold NaN or infinite values"):
        model.encode_video(video, mask)
    model.encode_video(video, torch.isfinite(video).all(dim=-1))  # where it is only padding
    with pytest.raises(ConfigError, match="are not all finite numbers"):
        make_plan(
            PlanConfig(kind="retrieval", first_epoch=1),
            6,
            seed=0,
            epoch=2,
            vectors=with_one(number, 6, 4),
        )
    parameter = list(model.parameters())[-1]
    parameter.data.view(-1)[-1] = number
    trainer = SimpleNamespace(model=model, position=SimpleNamespace(update=7))
    with pytest.raises(VideoCLIPError, match=r"update 7: .* is no longer finite and was not saved"):
        _Run.save(SimpleNamespace(trainer=trainer, files=None))
