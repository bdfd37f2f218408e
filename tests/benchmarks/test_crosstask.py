"""CrossTask's release folder, made up."""

import numpy as np
import pytest

from videoclip.benchmarks import crosstask
from videoclip.benchmarks.examples import Segment, StepVideo, Task
from videoclip.errors import DataError

TASKS = """16815
Make Vanilla Ice
http://somewhere
2
add vanilla_extract,stir

9
Fix a Wheel
http://elsewhere
1
turn

"""


@pytest.fixture
def release(write):
    def release(files=(), tasks=TASKS, videos="16815,-a_b,url\n9,-a_b,url\n9,c,url\n77,d,url\n"):
        folder = write("crosstask_release/tasks_primary.txt", tasks).parent
        write("crosstask_release/videos.csv", videos)
        write("crosstask_release/videos_val.csv", "9,c,url\n")
        write("crosstask_release/annotations/16815_-a_b.csv", "2,3.5,9\n1,1.25,4\n")
        write("crosstask_release/annotations/9_-a_b.csv", "1,0,4\n")
        write("crosstask_release/annotations/9_c.csv", "1,0,4\n")
        for name, content in files:
            write(f"crosstask_release/annotations/{name}", content)
        return folder

    return release


def test_videos_are_known_by_task_and_id(release):
    folder = release()
    read = crosstask.read_crosstask(folder)
    assert read == crosstask.read_crosstask(folder.parent)
    (folder / "tasks_primary.txt").write_text(TASKS.rstrip() + "\n" * 9)
    assert read == crosstask.read_crosstask(folder)
    assert read.tasks["16815"] == Task("16815", "Make Vanilla Ice", ("add vanilla_extract", "stir"))
    assert [(v.task.task_id, v.video_id) for v in read.videos] == [
        ("16815", "-a_b"),
        ("9", "-a_b"),
        ("9", "c"),
    ]
    assert read.videos[0].segments == (Segment(3.5, 9.0, 1), Segment(1.25, 4.0, 0))
    assert read.validation == {("9", "c")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": [("9_c.csv", "2,0,4\n")]}, r"9_c\.csv:1: step 2, but task 9 has 1"),
        ({"files": [("9_c.csv", "1,0\n")]}, r"9_c\.csv:1: 2 of 3 fields"),
        ({"files": [("9_zzz.csv", "1,0,4\n")]}, r"9_zzz\.csv: belongs to no video of videos\.csv"),
        ({"videos": "9,c,url\n9,c,url\n"}, r"videos\.csv:2: task and video .* occurs twice"),
        (
            {"tasks": TASKS.replace("\n2\n", "\n3\n")},
            r"primary\.txt:5: 2 steps, not 3",
        ),
        ({"tasks": TASKS + TASKS}, r"primary\.txt:13: task 16815 occurs twice"),
        ({"tasks": TASKS + "5\nmore\n"}, r"primary\.txt:13: a task needs five lines"),
        ({"tasks": TASKS.replace("stir\n\n", "stir\n")}, "a task needs five lines and a blank one"),
    ],
)
def test_files_that_do_not_fit_together(release, changes, message):
    with pytest.raises(DataError, match=message):
        crosstask.read_crosstask(release(**changes))


def test_the_folder_must_be_whole(release, tmp_path):
    folder = release()
    for path in (folder / "annotations").iterdir():
        path.unlink()
    (folder / "annotations").rmdir()
    with pytest.raises(DataError, match="unpack the whole crosstask_release"):
        crosstask.read_crosstask(folder)
    with pytest.raises(DataError, match="no such file"):
        crosstask.read_tasks(tmp_path / "nothing.txt")


def test_released_split_repeats_the_draw_of_the_release():
    tasks = {name: Task(name, name, ("a",)) for name in "xyz"}
    sizes = {"y": 33, "x": 30, "z": 40}  # in order of first appearance
    videos = [StepVideo(f"{t}{i}", tasks[t], ()) for t, n in sizes.items() for i in range(n)]
    videos.append(StepVideo("absent", tasks["x"], ()))
    validation = {("y", "y0")}
    available = {v.video_id for v in videos} - {"absent"}
    train, test = crosstask.released_split(videos, validation, available)

    np.random.seed(0)  # noqa: NPY002 - as the release draws
    expected = {
        name: np.random.choice(  # noqa: NPY002
            [f"{name}{i}" for i in range(n) if (name, f"{name}{i}") not in validation],
            30,
            replace=False,
        ).tolist()
        for name, n in sizes.items()
        if name != "x"  # has no more than 30
    }
    few = {f"x{i}" for i in range(30)}  # a task of no more than 30 is all training
    assert {v.video_id for v in train} == {*few, *expected["y"], *expected["z"]}
    assert len(train) == 90 and len(test) == 2 + 10
    assert not {v.video_id for v in train} & {v.video_id for v in test}
    assert crosstask.released_split(videos, validation, available, seed=1)[1] != test


def test_a_set_in_which_no_task_has_more_than_30_videos_is_all_test():
    tasks = {name: Task(name, name, ("a",)) for name in "xy"}
    videos = [StepVideo(f"{t}{i}", tasks[t], ()) for t in "xy" for i in range(30)]
    everything = {video.video_id for video in videos}
    assert crosstask.released_split(videos, {("x", "x0")}, everything) == ([], videos[1:])
