"""Run a function in two processes that find each other, as torchrun's would."""

import os
import socket

import torch
import torch._dynamo
from torch import multiprocessing

from videoclip.distributed import joined


def on_two_ranks(work, folder):
    """Return what `work(world)` returned in each of two gloo processes, in order of rank."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    multiprocessing.start_processes(  # forked: importing torch again takes seconds
        _be_rank, args=(work, port, folder), nprocs=2, start_method="fork"
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _be_rank(rank, work, port, folder):
    os.environ |= {
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    with joined("cpu") as world:
        torch.save(work(world), folder / f"{rank}.pt")
