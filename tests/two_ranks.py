"""Run a function in two processes that find each other, as torchrun's would."""

import os
import socket

import torch
import torch._dynamo
from torch import multiprocessing

from videoclip.distributed import joined


def free_port():
    """A port of this machine where processes can meet."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def announce(rank, port):
    """Set what torchrun would set in one of two processes."""
    os.environ |= {
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def on_two_ranks(work, folder):
    """Return what `work(world)` returned in each of two gloo processes, in order of rank."""
    port = free_port()
    multiprocessing.start_processes(  # forked: importing torch again takes seconds
        _be_rank, args=(work, port, folder), nprocs=2, start_method="fork"
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _be_rank(rank, work, port, folder):
    announce(rank, port)
    torch.set_num_threads(1)
    with joined("cpu") as world:
        torch.save(work(world), folder / f"{rank}.pt")
