"""Two gloo processes against one: gathered rows, their gradients, and the small messages."""

import os
import socket

import pytest
import torch
import torch.nn.functional as F
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from videoclip.distributed import World, joined, start
from videoclip.errors import ConfigError

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


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def set_rank(rank, port):
    """Pretend to be one of two processes torchrun started."""
    os.environ |= {
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)


def two_ranks(rank, port, results):
    set_rank(rank, port)
    with joined("cpu") as world:
        own = slice(sum(ROWS[:rank]), sum(ROWS[: rank + 1]))
        inputs = all_inputs()[:, own]
        model = DistributedDataParallel(tower())
        video, text = model(inputs).unbind()
        loss = info_nce(world.gather_with_gradient(video), world.gather_with_gradient(text))
        loss.backward()
        answers = {
            "gradients": [p.grad for p in model.parameters()],
            "loss": loss.item(),
            "rows": world.gather_rows(torch.full((rank, 2), rank)),  # none from rank 0
            "broadcast": world.broadcast({"from": rank}),
            "mean": world.mean({"a": float(rank), "b": 4.0}),
            "main": world.on_main,
        }
        world.barrier()
        torch.save(answers, f"{results}/{rank}.pt")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    results = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(  # forked: importing torch again takes seconds
        two_ranks, args=(free_port(), str(results)), nprocs=2, start_method="fork"
    )
    return [torch.load(results / f"{rank}.pt", weights_only=True) for rank in range(2)]


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
    assert [answer["main"] for answer in answers] == [True, False]


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as world:
        assert world == World(0, 1, torch.device("cpu")) and world.on_main
        rows = torch.ones(2, 3, requires_grad=True)
        assert world.gather_with_gradient(rows) is rows
        assert not world.gather_rows(rows).requires_grad
        assert world.broadcast("x") == "x" and world.mean({"a": 1.0}) == {"a": 1.0}
        world.barrier()


def test_processes_without_a_meeting_point_are_told_to_use_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match=r"MASTER_ADDR.*torchrun"):
        start("cpu")
