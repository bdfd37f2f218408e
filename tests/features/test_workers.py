"""How videos are handed to workers, with workers that are none."""

import pickle
import queue
import threading
import time
from pathlib import Path

import pytest

from videoclip.features import workers
from videoclip.features.video_file import MAX_SILENCE
from videoclip.features.workers import Failed, run_in_threads, run_in_workers


class Worker:
    """Answers with the number of features of each chunk, then with the name of its video."""

    made = None

    def __init__(self, work, num_threads):
        assert (pickle.loads(work), num_threads) == (str, 2)
        self.connection, self.path, self.alive = self, None, True
        self.taken, self.heard, self.num_stopped, self.messages = [], [], 0, []
        Worker.made.append(self)

    def start(self, path):
        assert self.alive and self.path is None
        self.path, self.taken = path, [*self.taken, path.name]
        self.messages = [1] * (int(path.name[0]) + 1)

    def receive(self):
        if len(self.messages) > 1:
            return self.messages.pop()
        path, self.path = self.path, None
        if "dies" in path.name:
            self.alive = False
            return Failed(path, "died")
        return path.name

    def end_if_stuck(self, is_heard):
        assert self.path is not None
        self.heard.append(is_heard)

    def stop(self):
        self.num_stopped += 1


@pytest.fixture
def made(monkeypatch):
    def wait(connections, timeout):
        """The first of the workers that are busy is heard, every third time none."""
        timeouts.append(timeout)
        assert all(worker.path is not None for worker in connections)
        return connections[:1] if len(timeouts) % 3 else []

    timeouts = []
    monkeypatch.setattr(workers, "_Worker", Worker)
    monkeypatch.setattr(workers, "wait", wait)
    Worker.made = []
    yield Worker.made
    assert set(timeouts) <= {MAX_SILENCE / 10}


def test_each_video_is_done_once_and_every_worker_is_stopped_once(made):
    names = ["3", "1 dies", "0", "2", "4 dies", "1", "2 dies"]
    counts, taken = [], iter(map(Path, names))
    found = list(run_in_workers(str, taken, 2, 2, counts.append))
    failed = {result.path.name for result in found if isinstance(result, Failed)}
    assert failed == {name for name in names if "dies" in name}
    assert sorted(map(str, found), key=str) == sorted(
        [name if "dies" not in name else str(Failed(Path(name), "died")) for name in names], key=str
    )
    assert sum(counts) == sum(int(name[0]) for name in names)
    assert sorted(name for worker in made for name in worker.taken) == sorted(names)
    assert [worker.num_stopped for worker in made] == [1] * len(made)
    assert 2 < len(made) <= 2 + len(failed)  # a dead one is replaced when there is work for it
    assert any(False in worker.heard for worker in made)
    assert any(True in worker.heard for worker in made)


def test_videos_are_taken_when_a_worker_is_free_and_not_before(made):
    taken = []

    def videos():
        for name in ("0 a", "1 b", "0 c", "0 d"):
            taken.append(name)
            yield Path(name)

    results = run_in_workers(str, videos(), 2, 2, lambda num: None)
    assert next(results) == "0 a" and taken == ["0 a", "1 b"]
    assert next(results) == "0 c" and taken == ["0 a", "1 b", "0 c"]
    results.close()  # as by Ctrl-C
    assert [worker.num_stopped for worker in made] == [1, 1]


def test_without_videos_workers_are_stopped(made):
    assert list(run_in_workers(str, iter(()), 3, 2, lambda num: None)) == []
    assert [worker.num_stopped for worker in made] == [1, 1, 1]


def test_threads_do_each_video_once_at_most_so_many_at_a_time():
    busy, most, counts, callers = [], [], [], set()

    def work(path, report):
        busy.append(path)
        most.append(len(busy))
        for number in range(int(path.name[0])):
            time.sleep(0.001)
            report(number)
        busy.remove(path)
        return path.name

    def count(number):
        callers.add(threading.current_thread())
        counts.append(number)

    names = ["3", "1", "0", "2", "4", "1 b"]
    assert sorted(run_in_threads(work, map(Path, names), 2, count)) == sorted(names)
    assert sorted(counts) == sorted(n for name in names for n in range(int(name[0])))
    assert callers == {threading.current_thread()} and max(most) <= 2


def test_threads_take_a_video_when_one_is_free_and_end_when_results_are_not_wanted():
    taken, ended, is_wanted = [], queue.Queue(), threading.Event()

    def videos():
        for name in ("a", "b", "c", "d"):
            taken.append(name)
            yield Path(name)

    def work(path, report):
        if path.name == "a":
            return "a"
        is_wanted.wait()
        try:
            report(1)
        except Exception as error:
            ended.put((path.name, type(error).__name__))
            raise

    results = run_in_threads(work, videos(), 2, lambda number: None)
    assert next(results) == "a" and taken == ["a", "b"]
    results.close()  # as by Ctrl-C
    is_wanted.set()
    assert ended.get(timeout=60) == ("b", "_Stopped")


def test_an_error_in_a_thread_is_raised_by_the_caller():
    with pytest.raises(MemoryError, match="of the GPU"):
        list(run_in_threads(fail, iter([Path("a"), Path("b")]), 2, lambda number: None))
    assert list(run_in_threads(fail, iter(()), 2, lambda number: None)) == []


def fail(path, report):
    raise MemoryError("of the GPU")
