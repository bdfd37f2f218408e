"""Extraction and indexing on Ray: what comes out is what one process makes, whatever dies."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.features.ray_in_process import Death, RayInProcess
from tests.features.toy_backbones import MeanColour
from tests.library.colours import NAMES, ColourBackbone, ColourEmbedder, write_video
from tests.traced_colours import TracedColours, pids
from videoclip.cli import main
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import ConfigError, MissingExtraError
from videoclip.features import cluster
from videoclip.features.backbones import load_backbone
from videoclip.features.cluster import MAX_TRIES, run_on_cluster
from videoclip.features.contained import STUCK
from videoclip.features.extract import extract_features
from videoclip.features.workers import Computed, Failed
from videoclip.library.library import VideoLibrary

# Ray leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = Path(__file__).parents[2]
NUM_CLIPS = 200


@pytest.fixture(scope="module")
def ray():
    """A Ray of this test run, of one machine with five CPUs, on however few cores."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 5, "object_store_memory": 80 << 20, "include_dashboard": False},
    )
    ray.init(cluster.address, log_to_driver=False)
    ray.test_cluster = cluster
    yield ray
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for number in range(NUM_CLIPS):
        shown = [NAMES[(number // 6**place) % 6] for place in range(2 + number % 3)]
        write_video(folder / f"{number:03d}.mp4", shown, frame_rate=2)
    return folder


@pytest.fixture(scope="module")
def expected(clips, tmp_path_factory):
    """The store of an unbroken extraction in this process."""
    store = FeatureStore.create(tmp_path_factory.mktemp("expected") / "store", ColourBackbone.spec)
    with store:
        extract_features([clips], store, ColourBackbone(), num_workers=0)
        yield store


@pytest.fixture
def trace(tmp_path):
    (tmp_path / "trace").mkdir()
    return tmp_path / "trace"


@pytest.fixture
def store(tmp_path):
    with FeatureStore.create(tmp_path / "store", ColourBackbone.spec) as store:
        yield store


def assert_same(store, expected):
    store.verify()
    assert sorted(store.video_ids) == sorted(expected.video_ids)
    for name in expected.video_ids:
        np.testing.assert_array_equal(store.read(name), expected.read(name))


def order(moment):
    return -moment.similarity, moment.path, moment.start


def killer(trace, *moments):
    """Progress that kills another worker at each of these numbers of finished videos."""
    left, killed = list(moments), set()

    def on_progress(done, total):
        if left and done >= left[0]:
            left.pop(0)
            victim = min(pids(trace) - killed)
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)

    return on_progress, killed


@pytest.mark.slow
def test_features_are_the_same_when_two_of_four_workers_are_killed(
    ray, clips, expected, store, trace
):
    on_progress, killed = killer(trace, 60, 120)
    backbone = TracedColours(trace, 4)
    report = extract_features(
        [clips], store, backbone, cluster="auto", num_workers=4, on_progress=on_progress
    )
    assert len(killed) == 2 and not report.failed
    assert len(report.done) == NUM_CLIPS
    assert report.video_seconds == sum(map(expected.num_features, expected.video_ids))
    assert_same(store, expected)
    assert len(pids(trace)) >= 4 and os.getpid() not in pids(trace)
    assert len(list(trace.iterdir())) <= NUM_CLIPS + 2  # only what they had in hand was lost


@pytest.mark.slow
def test_a_lost_machine_costs_only_the_videos_in_hand(ray, clips, expected, store, trace):
    machine = ray.test_cluster.add_node(num_cpus=2, object_store_memory=80 << 20)

    def lose_machine(done, total):
        nonlocal machine
        if done >= 50 and machine is not None:
            ray.test_cluster.remove_node(machine, allow_graceful=False)
            machine = None

    report = extract_features(
        [clips],
        store,
        TracedColours(trace, 6),
        cluster="auto",
        num_workers=6,
        on_progress=lose_machine,
    )
    assert machine is None and not report.failed
    assert_same(store, expected)
    assert NUM_CLIPS <= len(list(trace.iterdir())) <= NUM_CLIPS + 2


@pytest.mark.slow
def test_a_library_is_the_same_when_two_of_four_workers_are_killed(ray, clips, tmp_path, trace):
    on_progress, killed = killer(trace, 60, 120)
    embedder = ColourEmbedder()
    embedder.backbone = TracedColours(trace, 4)
    with (
        VideoLibrary(tmp_path / "cluster", embedder) as library,
        VideoLibrary(tmp_path / "alone", ColourEmbedder()) as alone,
    ):
        report = library.update(clips, cluster="auto", num_workers=4, on_progress=on_progress)
        assert len(report.added) == NUM_CLIPS and not report.failed and len(killed) == 2
        alone.update(clips)
        for query in ("red", "blue", "yellow and white"):
            ours, theirs = library.search(query, 5 * NUM_CLIPS), alone.search(query, 5 * NUM_CLIPS)
            assert len(ours) > NUM_CLIPS / 2
            assert sorted(ours, key=order) == sorted(theirs, key=order)  # ties are by row
        num_traces = len(list(trace.iterdir()))
        assert library.update(clips, cluster="auto").unchanged == NUM_CLIPS
        assert len(list(trace.iterdir())) == num_traces


@pytest.mark.slow
def test_what_fails_is_listed_as_without_a_cluster(ray, clips, store, trace, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "text.mp4").write_text("not a video")
    for name in ("000", "killed", "bug"):
        (folder / f"{name}.mp4").hardlink_to(clips / "000.mp4")
    with FeatureStore.create(tmp_path / "alone", store.spec) as alone:
        paths = [folder / f"{name}.mp4" for name in ("text", "000", "none", "bug")]
        (tmp_path / "alone-trace").mkdir()
        report = extract_features(paths, alone, TracedColours(tmp_path / "alone-trace"))
    videos = [folder, folder / "none.mp4"]
    on_cluster = extract_features(
        videos, store, TracedColours(trace), cluster="auto", num_workers=1
    )
    assert on_cluster.done == report.done == ("000",)
    died = f"its worker process or machine died (out of memory?), in each of {MAX_TRIES} tries"
    assert "no such colour" in report.failed[folder / "bug.mp4"]
    assert on_cluster.failed == report.failed | {folder / "killed.mp4": died}
    tries = [path.name.split()[0] for path in trace.iterdir()]
    assert tries.count("killed") == MAX_TRIES and tries.count("bug") == 1


@pytest.mark.slow
def test_a_worker_without_progress_is_ended_once(ray, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "MAX_SILENCE", 3.0)
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("000", "001", "slow"):
        (folder / f"{name}.mp4").hardlink_to(clips / "000.mp4")
    started = time.monotonic()
    with FeatureStore.create(tmp_path / "means", MeanColour.spec) as store:
        report = extract_features([folder], store, MeanColour(), cluster="auto", num_workers=2)
    assert time.monotonic() - started < 50  # it sleeps for a minute
    assert sorted(report.done) == ["000", "001"]
    assert report.failed == {folder / "slow.mp4": STUCK}


@pytest.mark.slow
def test_an_interrupted_run_on_a_ray_of_its_own_ends_soon_and_goes_on(clips, tmp_path):
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    command = [sys.executable, "-m", "videoclip", "extract", str(clips), "--backbone", "motion"]
    command += ["--features", str(tmp_path / "store"), "--cluster", "--workers", "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    spec = load_backbone("motion").spec
    with FeatureStore.open_or_create(tmp_path / "store", spec) as store:
        while len(store) < 20 and process.poll() is None:
            time.sleep(0.05)
            store.refresh()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        started = time.monotonic()
        err = process.communicate(timeout=60)[1]
        assert time.monotonic() - started < 15
        assert (process.returncode, err) == (130, "videoclip: interrupted\n")
        store.refresh()
        store.verify()
        num_kept = len(store)
    assert 20 <= num_kept < NUM_CLIPS
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{NUM_CLIPS - num_kept} added" in again.stdout
    assert f"{num_kept} already there, 0 failed" in again.stdout
    with FeatureStore.open(tmp_path / "store") as store:
        store.verify()
        assert len(store) == NUM_CLIPS


EXTRACTING = """
import sys
from pathlib import Path
from tests.traced_colours import TracedColours
from videoclip.data.feature_store import FeatureStore
from videoclip.features.extract import extract_features

folder, clips, trace, address = sys.argv[1:]
backbone = TracedColours(Path(trace))
with FeatureStore.open_or_create(folder, backbone.spec) as store:
    report = extract_features([clips], store, backbone, cluster=address, num_workers=2)
assert not report.failed, report.failed
print(len(report.done), len(report.skipped))
"""


def start_driver(ray, *arguments):
    command = [sys.executable, "-c", EXTRACTING, *arguments, ray.test_cluster.address]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_same_call_continues_after_the_driver_is_killed(ray, clips, expected, store, trace):
    driver = start_driver(ray, store.folder, clips, trace)
    while len(store) < 50 and driver.poll() is None:
        time.sleep(0.02)
        store.refresh()
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    store.refresh()
    num_kept = len(store)
    report = extract_features([clips], store, TracedColours(trace), cluster="auto", num_workers=2)
    assert (len(report.done), len(report.skipped)) == (NUM_CLIPS - num_kept, num_kept)
    assert_same(store, expected)


@pytest.mark.slow
def test_two_drivers_share_one_store(ray, clips, expected, store, trace):
    drivers = [start_driver(ray, store.folder, clips, trace) for _ in range(2)]
    counts = [tuple(map(int, driver.communicate()[0].split())) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0]
    assert sum(done for done, _ in counts) == NUM_CLIPS
    assert [done + skipped for done, skipped in counts] == [NUM_CLIPS, NUM_CLIPS]
    assert len(list(trace.iterdir())) == NUM_CLIPS  # no video was computed twice
    store.refresh()
    assert_same(store, expected)


@pytest.mark.slow
def test_workers_that_cannot_start_are_reported(ray, clips, store):
    class Nowhere(ColourBackbone):
        def __reduce__(self):
            return Path, (0,)

    with pytest.raises(ConfigError, match="workers cannot start: TypeError: "):
        extract_features([clips], store, Nowhere(), cluster="auto", num_workers=2)
    on_gpu = ColourBackbone()
    on_gpu.device = "cuda"
    with pytest.raises(ConfigError, match="no machine of the Ray cluster has a GPU"):
        extract_features([clips], store, on_gpu, cluster="auto")


@pytest.mark.slow
def test_a_cluster_that_cannot_be_reached_is_reported(videos, tmp_path):
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    command = [sys.executable, "-m", "videoclip", "extract", str(videos), "--backbone", "motion"]
    command += ["--features", str(tmp_path / "store"), "--cluster", "127.0.0.1:1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "cannot connect to Ray at '127.0.0.1:1': " in done.stderr and "refused" in done.stderr


@pytest.mark.slow
def test_the_command_starts_a_ray_of_its_own(videos, tmp_path):
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    (videos / "text.mp4").write_text("not a video")
    command = [sys.executable, "-m", "videoclip", "extract", "--cluster", str(videos)]
    command += ["--features", str(tmp_path / "store"), "--backbone", "motion", "--workers", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1 and ": 3 added (" in done.stdout
    assert done.stderr.startswith(f"videoclip: failed: {videos / 'text.mp4'}: not a video")
    assert done.stderr.count("\n") == 1


def test_without_ray_the_extra_is_named(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        FeatureStore.create(tmp_path / "store", ColourBackbone.spec) as store,
        pytest.raises(MissingExtraError, match=r"--cluster needs the extra 'cluster': pip install"),
    ):
        extract_features([videos], store, ColourBackbone(), cluster="local")
    features = str(tmp_path / "motion")
    command = ["extract", str(videos), "--features", features, "--backbone", "motion", "--cluster"]
    assert main(command) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_ray_is_not_started_when_nothing_is_left_to_do(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with FeatureStore.create(tmp_path / "store", ColourBackbone.spec) as store:
        extract_features([videos], store, ColourBackbone(), num_workers=0)
        report = extract_features([videos], store, ColourBackbone(), cluster="local")
    assert len(report.skipped) == 3


# --- with a stand-in for Ray, in this process


class Seconds:
    """Work on videos that are named after their seconds, and what happens to their worker."""

    def __init__(self):
        self.tried = []

    def __call__(self, path, on_features):
        self.tried.append(path.stem)
        number, _, fate = path.stem.partition(" ")
        if fate == "dies" or (fate == "dies once" and self.tried.count(path.stem) == 1):
            raise Death
        if fate == "bug":
            raise ZeroDivisionError("no such colour")
        if fate == "unread":
            return Failed(path, "not a video")
        for _ in range(int(number)):
            on_features(1)
        return Computed(path, np.full((int(number), 2), int(number)), None)


@pytest.fixture
def alone(monkeypatch):
    """Function of what Ray does: replaces it."""
    monkeypatch.setattr(cluster, "load_work", lambda pickled, num_threads: WORK[num_threads])

    def alone(**how):
        ray = RayInProcess(**({"CPU": 3.0} | how))
        monkeypatch.setitem(sys.modules, "ray", ray)
        return ray

    yield alone
    WORK.clear()


WORK = {}  # by the threads that a worker may use


def run_alone(names, num_workers=None, address="auto", uses_gpu=False):
    """Return the results by name, what was tried, and the features that were counted."""
    WORK[1], counts = Seconds(), []
    paths = [Path(f"{name}.mp4") for name in names]
    found = run_on_cluster(
        str, iter(paths), len(paths), address, num_workers, uses_gpu, counts.append
    )
    results = {result.path.stem: result for result in found}
    return results, WORK[1].tried, counts


def test_every_video_is_computed_once_by_as_many_workers_as_there_are_cpus_but_one(alone):
    ray = alone(CPU=4.0)
    results, tried, counts = run_alone(["3", "1", "4", "5 unread", "2"])
    assert sorted(tried) == ["1", "2", "3", "4", "5 unread"]
    assert results.pop("5 unread") == Failed(Path("5 unread.mp4"), "not a video")
    assert {name: result.features.tolist() for name, result in results.items()} == {
        str(number): [[number, number]] * number for number in (1, 2, 3, 4)
    }
    assert sorted(counts) == [0, 1, 2, 3, 4] and not ray.killed
    assert [worker.options for worker in ray.started] == [
        {"num_cpus": 1, "num_gpus": 0, "max_concurrency": 2}
    ] * 3
    assert set(ray.timeouts) == {cluster.MAX_SILENCE / 10}
    assert [worker._target.progress() for worker in ray.started] != [0, 0, 0]


@pytest.mark.parametrize(
    ("cpus", "asked", "num_videos", "wanted"),
    [(9.0, None, 3, 3), (9.0, 2, 3, 2), (9.0, 0, 20, 8), (1.0, None, 3, 1), (2.0, 5, 9, 5)],
)
def test_number_of_workers_on_a_cluster(alone, cpus, asked, num_videos, wanted):
    ray = alone(CPU=cpus)
    results, *_ = run_alone(map(str, range(1, num_videos + 1)), asked)
    assert len(ray.started) == wanted and len(results) == num_videos


def test_a_video_whose_worker_dies_is_tried_again_by_a_new_worker(alone):
    ray = alone()
    results, tried, counts = run_alone(["1", "2 dies once", "3 dies", "4 bug", "5"])
    died = f"its worker process or machine died (out of memory?), in each of {MAX_TRIES} tries"
    assert results["3 dies"].reason == died
    assert results["4 bug"].reason == (
        f"ZeroDivisionError: no such colour, in each of {MAX_TRIES} tries"
    )
    assert {len(results[name].features) for name in ("1", "2 dies once", "5")} == {1, 2, 5}
    assert [tried.count(name) for name in ("1", "2 dies once", "3 dies", "4 bug")] == [1, 2, 3, 3]
    assert len(ray.killed) == 1 + MAX_TRIES  # a bug in a video does not end its worker
    assert sorted(counts) == [0, 0, 1, 2, 5]


def test_a_video_of_its_last_worker_does_not_start_another(alone):
    ray = alone(CPU=2.0)
    results, *_ = run_alone(["1", "3 dies"])
    assert len(results) == 2 and len(ray.killed) == len(ray.started) == MAX_TRIES


def test_workers_that_never_start_end_the_run_after_a_few_tries_of_each(alone, monkeypatch):
    ray = alone()
    num_loaded = []

    def fail(pickled, num_threads):
        num_loaded.append(1)
        raise ImportError("No module named 'videoclip'")

    monkeypatch.setattr(cluster, "load_work", fail)
    message = "Ray's workers cannot start: ImportError: No module named 'videoclip'"
    with pytest.raises(ConfigError, match=message):
        run_alone(["1", "2", "3"], num_workers=2)
    assert len(num_loaded) == MAX_TRIES * 2 and ray.calls[-1] == "shutdown"


def test_workers_that_start_at_times_do_not_end_the_run(alone, monkeypatch):
    ray = alone()
    num_loaded = []

    def fail_mostly(pickled, num_threads):
        num_loaded.append(1)
        if len(num_loaded) % MAX_TRIES:
            raise ImportError("a machine that is not ready")
        return WORK[num_threads]

    monkeypatch.setattr(cluster, "load_work", fail_mostly)
    results, *_ = run_alone(["1", "2 dies", "3"], num_workers=1)
    assert {len(results[name].features) for name in "13"} == {1, 3}
    assert len(num_loaded) > MAX_TRIES and len(ray.started) == len(num_loaded)


def test_a_worker_without_progress_is_ended_and_one_with_progress_is_not(alone, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    ray, steps = alone(), []

    def on_wait(timeout):
        """Let a tenth of the longest silence pass until one worker was ended."""
        if timeout < cluster.MAX_SILENCE / 10:  # asked how far they are
            return False
        now[0] += cluster.MAX_SILENCE / 10 + 0.001
        busy = [worker for worker in ray.started if worker not in ray.killed]
        if len(steps) > 2:
            busy[0]._target._count(1)  # the first worker makes progress
        steps.append(now[0])
        return len(steps) > 2 and not ray.killed

    ray.on_wait, ray.takes_turns = on_wait, True
    results, *_ = run_alone(["1", "2"], num_workers=2)
    stuck = [result for result in results.values() if isinstance(result, Failed)]
    assert [one.reason for one in stuck] == [STUCK] and len(results) == 2
    assert ray.killed == [ray.started[1]]
    silent = steps[-1] - steps[1]
    assert cluster.MAX_SILENCE < silent <= 1.31 * cluster.MAX_SILENCE
    assert sorted(set(ray.timeouts)) == [cluster.MAX_SILENCE / 30, cluster.MAX_SILENCE / 10]


@pytest.mark.parametrize(
    ("resources", "num_workers", "wanted"),
    [({"GPU": 2.0}, 3, 0.6666), ({"GPU": 8.0}, 2, 1), ({"GPU": 1.0}, 3, 0.3333)],
)
def test_workers_share_the_gpus_of_a_cluster(alone, resources, num_workers, wanted):
    ray = alone(CPU=9.0, **resources)
    run_alone(["1", "2", "3"], num_workers, uses_gpu=True)
    assert [worker.options["num_gpus"] for worker in ray.started] == [wanted] * num_workers
    without = alone(CPU=9.0)
    with pytest.raises(ConfigError, match="no machine of the Ray cluster has a GPU; use --device"):
        run_alone(["1"], uses_gpu=True)
    assert without.calls[-1] == "shutdown"


def test_connecting_to_a_cluster(alone, monkeypatch):
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    here = quiet | {"include_dashboard": False, "object_store_memory": cluster.OBJECT_STORE_BYTES}
    for num_workers, wanted in (None, None), (3, 4):
        ray = alone()
        run_alone(["1"], num_workers, "local")
        assert ray.calls == [("init", "local", here | {"num_cpus": wanted}), "shutdown"]
    ray = alone()
    run_alone(["1"])
    assert ray.calls == [("init", "auto", quiet), "shutdown"]
    connected = []
    monkeypatch.setattr(
        cluster.socket,
        "create_connection",
        lambda address, timeout: connected.append((address, timeout)) or io.BytesIO(),
    )
    ray = alone()
    run_alone(["1"], address="[::1]:6379")
    assert connected == [(("[::1]", 6379), 10)]
    assert ray.calls == [("init", "[::1]:6379", quiet), "shutdown"]
    ray = alone()
    ray.is_connected = True
    run_alone(["1"], address="elsewhere")
    assert ray.calls == []
    ray = alone()
    monkeypatch.setattr(ray, "init", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_alone(["1"])

    def refuse(*_, **__):
        raise RuntimeError("Could not find any running Ray. Start one\nsomewhere")

    monkeypatch.setattr(ray, "init", refuse)
    reason = "cannot connect to Ray at 'auto': Could not find any running Ray$"
    with pytest.raises(ConfigError, match=reason):
        run_alone(["1"])
    with pytest.raises(ConfigError, match="cannot connect to Ray at 'host:port': invalid literal"):
        run_alone(["1"], address="host:port")
    assert ray.calls == []  # a Ray that was not started is not shut down


def test_extraction_hands_its_settings_to_the_cluster(videos, tmp_path, monkeypatch):
    asked = []

    def record(work, paths, num_videos, address, num_workers, uses_gpu, on_features):
        asked.append((num_videos, address, num_workers, uses_gpu))
        for path in paths:
            yield work(path, lambda num: None)

    monkeypatch.setattr("videoclip.features.extract.run_on_cluster", record)
    on_gpu = ColourBackbone()
    on_gpu.device = "cuda"
    for name, backbone in ("cpu", ColourBackbone()), ("gpu", on_gpu):
        with FeatureStore.create(tmp_path / name, ColourBackbone.spec) as store:
            report = extract_features([videos], store, backbone, cluster="a:1", num_workers=7)
            assert len(report.done) == len(store) == 3
    assert asked == [(3, "a:1", 7, False), (3, "a:1", 7, True)]
