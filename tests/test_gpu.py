"""On a GPU: training, features and collectives are those of the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.library.colours import write_video
from tests.tiny_dual_encoders import save
from tests.training.broken_runs import Broken, break_off_at
from tests.training.tiny_corpus import tiny_config, tiny_corpus, tokenizer
from tests.two_ranks import free_port
from videoclip.config import LossConfig
from videoclip.data.feature_store import FeatureStore
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.features.backbones import load_backbone
from videoclip.features.extract import extract_features
from videoclip.model.videoclip import VideoCLIP
from videoclip.training.contrastive import ContrastiveLoss
from videoclip.training.narrated import NarratedSource
from videoclip.training.performance import compile_towers
from videoclip.training.pretrain import pretrain
from videoclip.training.run_folder import read_log
from videoclip.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def gpu():
    return World(device=torch.device("cuda"))


def losses(folder):
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


def without_dropout(**changes):
    config = tiny_config(**changes)
    return replace(config, model=replace(config.model, dropout=0.0))


def run(config, corpus, folder, world=None):
    return pretrain(config, corpus, folder, tokenizer=tokenizer(), world=world, show_progress=False)


@pytest.mark.parametrize(
    "loss", [LossConfig(), LossConfig(ignore_overlapping=True, seconds_weight=1.0)]
)
def test_a_run_has_the_losses_of_one_on_the_cpu(corpus, gpu, tmp_path, loss):
    config = without_dropout(loss=loss, epochs=4)
    run(config, corpus, tmp_path / "gpu", gpu)
    run(config, corpus, tmp_path / "cpu")
    np.testing.assert_allclose(losses(tmp_path / "gpu"), losses(tmp_path / "cpu"), rtol=2e-3)


def test_a_run_with_a_reranker_learns(corpus, gpu, tmp_path):
    config = without_dropout(epochs=20, validation_share=0.0)
    config = replace(config, model=replace(config.model, num_cross_layers=1))
    run(config, corpus, tmp_path, gpu)
    found = losses(tmp_path)
    assert found[-1] < 0.5 * found[0]


@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_broken_off_run_continues(corpus, gpu, tmp_path, compile):
    config = tiny_config(epochs=4, save_every_updates=2, compile=compile)
    run(config, corpus, tmp_path / "whole", gpu)
    with pytest.raises(Broken):
        pretrain(
            config,
            corpus,
            tmp_path / "run",
            tokenizer=tokenizer(),
            world=gpu,
            on_log=break_off_at(5),
            show_progress=False,
        )
    run(config, corpus, tmp_path / "run", gpu)
    # Dropout draws the same numbers again; sums on a GPU have no fixed order.
    expected = losses(tmp_path / "whole")
    np.testing.assert_allclose(losses(tmp_path / "run"), expected, rtol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_towers_learn_the_same(corpus, gpu, precision):
    config = without_dropout(precision=precision)
    found = []
    for is_compiled in (False, True):
        torch.manual_seed(0)
        model = VideoCLIP(config.model)
        if is_compiled:
            compile_towers(model)
        trainer = Trainer(ContrastiveLoss(model, config.loss), config, gpu, 10, precision)
        source = NarratedSource(config, corpus, "random", gpu)
        found.append([trainer.step(source.sample()).loss for _ in range(5)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3 if precision == "fp32" else 2e-2)


class Alone(int):
    """One process that sends its messages nevertheless: it is not 1, but more."""

    def __eq__(self, other):
        return False

    def __gt__(self, other):
        return other == 1

    __hash__ = int.__hash__


@pytest.fixture
def nccl(monkeypatch):
    """A world of one process in which every collective goes through NCCL."""
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)
    torch.cuda.set_device(0)
    dist.init_process_group("nccl", rank=0, world_size=1)
    yield World(0, Alone(1), torch.device("cuda:0"))
    dist.destroy_process_group()


def test_messages_arrive_through_nccl(nccl):
    rows = torch.arange(6.0, device="cuda").view(3, 2).requires_grad_()
    nccl.barrier()
    assert nccl.broadcast({"from": 0}) == {"from": 0}
    assert nccl.gather("x") == ["x"]
    assert nccl.mean({"a": 3.0}) == {"a": 3.0}
    assert nccl.own_rows(3) == slice(0, 3)
    assert torch.equal(nccl.gather_rows(rows), rows)
    (nccl.gather_with_gradient(rows) ** 2).sum().backward()
    assert torch.equal(rows.grad, 2 * rows.detach())


def test_a_run_through_nccl_is_one_without(corpus, gpu, nccl, tmp_path):
    config = without_dropout(epochs=2, loss=LossConfig(negatives="global"))
    run(config, corpus, tmp_path / "nccl", nccl)
    run(config, corpus, tmp_path / "alone", gpu)
    np.testing.assert_allclose(losses(tmp_path / "nccl"), losses(tmp_path / "alone"), rtol=1e-3)


def test_an_embedder_answers_as_on_the_cpu(tmp_path):
    save("clip", tmp_path)
    video = write_video(tmp_path / "a.mp4", ["red"] * 3 + ["blue"] * 4)
    vectors = []
    for device in ("cpu", "cuda"):
        embedder = Embedder.from_pretrained(str(tmp_path), device)
        texts = embedder.embed_text(["a dog", "cutting onions"])
        vectors.append([texts, embedder.embed_video(video).pooled])
    for on_cpu, on_gpu in zip(*vectors, strict=True):
        assert (on_cpu * on_gpu).sum(axis=-1).min() > 0.999


def test_features_by_threads_are_those_of_one_video_after_the_other(tmp_path, gpu):
    save("clip", tmp_path / "model")
    videos = [
        write_video(tmp_path / f"{number}.mp4", colours * 4)
        for number, colours in enumerate([["red", "blue"], ["green"], ["white", "red", "black"]])
    ]
    backbone = load_backbone(f"image:{tmp_path / 'model'}", str(gpu.device))
    found = []
    for num_workers in (0, 3):
        store = FeatureStore.open_or_create(tmp_path / f"store-{num_workers}", backbone.spec)
        assert extract_features(videos, store, backbone, num_workers=num_workers).failed == {}
        found.append([store.read(str(number)) for number in range(len(videos))])
    for alone, together in zip(*found, strict=True):
        np.testing.assert_allclose(together, alone, atol=1e-3)
