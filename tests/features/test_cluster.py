"""Extraction and indexing on Ray: what comes out is what one process makes, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.features.toy_backbones import MeanColour
from tests.library.colours import NAMES, ColourBackbone, ColourEmbedder, write_video
from tests.traced_colours import TracedColours, pids
from videoclip.cli import main
from videoclip.data.feature_store import FeatureStore
from videoclip.errors import ConfigError, MissingExtraError
from videoclip.features import cluster
from videoclip.features.backbones import load_backbone
from videoclip.features.cluster import MAX_TRIES
from videoclip.features.contained import STUCK
from videoclip.features.extract import extract_features
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
