"""Two gloo processes against one: gathered rows, their gradients, and the small messages."""

import os

import pytest
import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from tests.two_ranks import announce, free_port, on_two_ranks
from videoclip import distributed
from videoclip.distributed import World, choose_device, joined
from videoclip.errors import ConfigError, VideoCLIPError

ROWS = (3, 5)  # of rank 0 and 1: unequal on purpose


def info_nce(video, text):
    logits = video @ text.T
    labels = torch.arange(len(logits))
    return F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)


def tower():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def all_inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, sum(ROWS), 6, generator=generator, dtype=torch.float64)


def rank_answers(world):
    own = slice(sum(ROWS[: world.rank]), sum(ROWS[: world.rank + 1]))
    model = DistributedDataParallel(tower())
    video, text = model(all_inputs()[:, own]).unbind()
    loss = info_nce(world.gather_with_gradient(video), world.gather_with_gradient(text))
    loss.backward()
    world.barrier()
    return {
        "gradients": [p.grad for p in model.parameters()],
        "loss": loss.item(),
        "rows": world.gather_rows(torch.full((world.rank, 2), world.rank)),  # none from rank 0
        "own": [world.own_rows(world.rank + 2).start, world.own_rows(world.rank + 2).stop],
        "broadcast": world.broadcast({"from": world.rank}),
        "mean": world.mean({"a": float(world.rank), "b": 4.0}),
        "main": world.on_main,
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return on_two_ranks(rank_answers, tmp_path_factory.mktemp("ranks"))


def test_the_global_gradient_on_two_ranks_is_the_big_batch_gradient(answers):
    model = tower()
    loss = info_nce(*model(all_inputs()).unbind())
    loss.backward()
    for answer in answers:
        assert answer["loss"] == pytest.approx(loss.item(), rel=1e-12)
        for got, p in zip(answer["gradients"], model.parameters(), strict=True):
            torch.testing.assert_close(got, p.grad, rtol=1e-10, atol=1e-12)


def test_messages_arrive_everywhere(answers):
    for answer in answers:
        assert answer["rows"].tolist() == [[1, 1]]
        assert answer["broadcast"] == {"from": 0}
        assert answer["mean"] == {"a": 0.5, "b": 4.0}
    assert [answer["own"] for answer in answers] == [[0, 2], [2, 5]]
    assert [answer["main"] for answer in answers] == [True, False]


@pytest.mark.parametrize(("asked", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_a_process_joins_by_the_backend_of_its_device_and_waits_before_it_leaves(
    monkeypatch, asked, backend
):
    calls = []
    monkeypatch.setattr(os, "environ", os.environ.copy())
    announce(1, free_port())
    os.environ["LOCAL_RANK"] = "3"
    monkeypatch.setattr(distributed, "choose_device", lambda device: device)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(device.index))
    monkeypatch.setattr(dist, "init_process_group", calls.append)
    monkeypatch.setattr(World, "barrier", lambda world: calls.append("barrier"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("destroy"))
    with joined(asked) as world:
        calls.append("work")
    assert (world.rank, world.size) == (1, 2)
    own = [3] if asked == "cuda" else []
    assert calls == [*own, backend, "work", "barrier", "destroy"]


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as world:
        assert world == World(0, 1, torch.device("cpu")) and world.on_main
        rows = torch.ones(2, 3, requires_grad=True)
        assert world.gather_with_gradient(rows) is rows
        assert not world.gather_rows(rows).requires_grad
        assert world.broadcast("x") == "x" and world.mean({"a": 1.0}) == {"a": 1.0}
        assert world.own_rows(3) == slice(0, 3)
        world.barrier()


def test_a_device_is_chosen_only_on_request():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["warp", "gpu", "meta", "cuda:x", "cuda:99", "cpu:x", ""])
@pytest.mark.parametrize("choose", [choose_device, lambda device: joined(device).__enter__()])
def test_a_device_that_is_not_there_is_one_line(choose, device):
    with pytest.raises(ConfigError, match=f"no device '{device}'.*use one of auto, cpu") as caught:
        choose(device)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_without_a_gpu_only_the_cpu_is_named(device):
    with pytest.raises(ConfigError, match=f"no device '{device}'.*use one of auto, cpu$"):
        choose_device(device)


def test_a_gpu_without_a_number_is_the_process_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    monkeypatch.setenv("LOCAL_RANK", "1")
    with joined("cuda") as world:
        assert world.device == chosen[0] == torch.device("cuda:1")
    with joined("cuda:0") as world:
        assert world.device == torch.device("cuda:0")
    with pytest.raises(ConfigError, match=r"use one of auto, cpu, cuda, cuda:0, cuda:1$"):
        joined("cuda:2").__enter__()


def test_processes_without_a_meeting_point_are_told_to_use_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match=r"MASTER_ADDR.*torchrun"):
        joined("cpu").__enter__()


def test_a_process_whose_peer_is_gone_says_it_in_one_line(tmp_path):
    def work(world):
        world.barrier()
        if world.rank == 0:
            os._exit(3)  # as after an error of its own
        world.barrier()

    context, port = multiprocessing.get_context("fork"), free_port()

    def be(rank):
        announce(rank, port)
        try:
            with joined("cpu") as world:
                work(world)
        except VideoCLIPError as error:
            (tmp_path / str(rank)).write_text(str(error))

    processes = [context.Process(target=be, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [3, 0]
    assert (tmp_path / "1").read_text() == "another process ended; its own message gives the reason"


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), joined("cpu"):
        raise RuntimeError("shapes do not match")
