"""Jobs run one after another, and end as they are told to."""

import threading

import pytest

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
from starlette.exceptions import HTTPException

from videoclip.errors import DataError
from videoclip.web import jobs as module
from videoclip.web.jobs import Job, Jobs


@pytest.fixture
def jobs():
    jobs = Jobs(lambda message: message.replace("/v/", ""))
    yield jobs
    jobs.close()


def wait_for(jobs):
    """Wait until all jobs that were started are over."""
    done = threading.Event()
    last = jobs._pool.submit(done.set)
    assert done.wait(10)
    last.result()


def test_jobs_run_in_their_order_and_one_at_a_time(jobs):
    running, most, order = [], [], []

    def work(job, on_progress):
        running.append(job)
        most.append(len(running))
        on_progress(1, 2)
        order.append((job.kind, job.state, job.done, job.total))
        running.remove(job)

    started = [jobs.start(kind, work) for kind in "abc"]
    wait_for(jobs)
    assert most == [1, 1, 1] and order == [(kind, "running", 1, 2) for kind in "abc"]
    assert [job.kind for job in jobs.list()] == ["c", "b", "a"]
    assert all(job.state == "done" and job.is_over for job in started)
    assert jobs.find(started[1].id) is started[1]
    with pytest.raises(HTTPException, match="no such job") as refused:
        jobs.find("none")
    assert refused.value.status_code == 404
    assert len({job.id for job in started}) == 3


def test_what_became_of_a_job(jobs, caplog):
    def fail(error):
        def work(job, on_progress):
            job.failed["x"] = "no"
            raise error

        return work

    known = jobs.start("index", fail(DataError("is damaged", "/v/a.mp4")))
    bug = jobs.start("index", fail(ValueError("odd\n  /v/b.mp4")))
    after = jobs.start("index", lambda job, on_progress: setattr(job, "message", "2 added"))
    wait_for(jobs)
    assert [(job.state, job.message) for job in (known, bug, after)] == [
        ("failed", "a.mp4: is damaged"),
        ("failed", "odd b.mp4"),
        ("done", "2 added"),
    ]
    assert [record.message for record in caplog.records] == ["a job of videoclip serve failed"]
    assert known.as_dict() == {
        "id": known.id,
        "kind": "index",
        "state": "failed",
        "done": 0,
        "total": 0,
        "message": "a.mp4: is damaged",
        "failed": {"x": "no"},
        "seconds_left": None,
        "has_result": False,
    }


def test_a_job_is_cancelled_between_two_videos_or_before_it_begins(jobs):
    begun, go_on, reached = threading.Event(), threading.Event(), []

    def work(job, on_progress):
        try:
            begun.set()
            go_on.wait(10)
            reached.append("first")
            on_progress(1, 2)
            reached.append("second")
        except Exception:  # noqa: BLE001 - as work does that lists errors
            reached.append("caught")

    running, waiting = (jobs.start("index", work) for _ in range(2))
    assert begun.wait(10)
    for job in (running, waiting):
        jobs.cancel(job)
        assert not job.is_over
    go_on.set()
    wait_for(jobs)
    message = "what was done is kept"
    assert [(j.state, j.message) for j in (running, waiting)] == [("cancelled", message)] * 2
    assert reached == ["first"] and (running.done, running.total) == (1, 2)


def test_too_many_jobs_are_refused_and_old_ones_forgotten(jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    go_on, number = threading.Event(), iter(range(99))

    def work(job, on_progress):
        go_on.wait(10)
        job.result = tmp_path / f"{next(number)}.zip"
        job.result.write_text("")

    first = [jobs.start("clips", work) for _ in range(3)]
    with pytest.raises(HTTPException, match="too many jobs are waiting") as refused:
        jobs.start("clips", work)
    assert refused.value.status_code == 503 and refused.value.headers == {"Retry-After": "30"}
    go_on.set()
    wait_for(jobs)
    assert all(
        (tmp_path / f"{i}.zip").exists() and first[i].as_dict()["has_result"] for i in range(3)
    )
    later = jobs.start("clips", work)
    assert jobs.list() == [later, *first[:0:-1]]
    assert not (tmp_path / "0.zip").exists() and (tmp_path / "1.zip").exists()
    wait_for(jobs)


def test_a_job_is_started_while_another_one_is(jobs, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def work(job, on_progress):
        begun.set()
        go_on.wait(10)

    other = threading.Thread(target=jobs.start, args=("other", work))

    def start_other(job):
        if not other.ident:
            other.start()
            other.join(0.05)
        return False

    for kind in "ab":
        jobs.start(kind, work)
    assert begun.wait(10)
    with monkeypatch.context() as patch:
        patch.setattr(Job, "is_over", property(start_other))
        jobs.start("c", work)
        other.join(10)
    assert [job.kind for job in jobs.list()] == ["other", "c", "b", "a"]
    go_on.set()
    wait_for(jobs)


def test_time_that_is_left(monkeypatch):
    monkeypatch.setattr(module, "time", lambda: 130.0)
    job = Job("index", state="running", done=3, total=12, began=100.0)
    assert job.seconds_left == 90.0 == job.as_dict()["seconds_left"]
    for changes in ({"state": "done"}, {"done": 0}, {"began": None}, {"state": "waiting"}):
        assert (
            Job(
                **{"kind": "x", "state": "running", "done": 3, "total": 12, "began": 1.0} | changes
            ).seconds_left
            is None
        )


def test_closing_cancels_what_runs_and_what_waits():
    jobs, begun, done = Jobs(), threading.Event(), []

    def work(job, on_progress):
        begun.set()
        while True:
            on_progress(len(done), 10)
            done.append(1)

    first, second = (jobs.start("index", work) for _ in range(2))
    assert begun.wait(10)
    jobs.close()
    assert first.state == "cancelled" and second.state in ("waiting", "cancelled")
