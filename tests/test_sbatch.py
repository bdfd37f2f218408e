"""The Slurm script queues its job again before its time ends."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "pretrain.sbatch"


@pytest.fixture
def slurm(tmp_path):
    """What stands for Slurm: `srun` runs until it is ended, or at once; both note their words."""
    log = tmp_path / "log"
    log.touch()
    commands = {
        "srun": f'echo "srun $*, $GPUS GPUs" >> {log}\n[ "$3" = done ] || exec sleep 60',
        "scontrol": f'echo "scontrol $*" >> {log}',
    }
    for name, command in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}

    def start(*arguments):
        with (tmp_path / "errors").open("w") as errors:
            return subprocess.Popen(["sh", SCRIPT, *arguments], env=env, stderr=errors)

    return start, log


def test_a_job_whose_time_ends_goes_back_into_the_queue(slurm):
    start, log = slurm
    job = start("paper", "--out", "run")
    deadline = time.monotonic() + 30
    while "srun" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) == 0
    assert "job 7 goes back into the queue" in log.with_name("errors").read_text()
    ran, queued = log.read_text().splitlines()
    assert ran == "srun ./examples/launch_multi_node.sh paper --out run, 8 GPUs"
    assert queued == "scontrol requeue 7"


def test_a_job_that_is_done_is_not_queued_again(slurm):
    start, log = slurm
    job = start("paper", "done")
    assert job.wait(timeout=30) == 0
    assert "scontrol" not in log.read_text()
