"""CrossTask: videos of known tasks, and the spans of the task's ordered steps.

Files of the release folder: tasks_primary.txt, videos.csv, videos_val.csv and annotations/
(<task>_<video>.csv). Video ids may hold underscores; one video may belong to several tasks.
Related tasks have no annotations and are not read.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videoclip.benchmarks.examples import Benchmark, Segment, StepVideo, Task, paper
from videoclip.benchmarks.files import find_file, open_text, read_rows, unique
from videoclip.errors import DataError

TRAIN_VIDEOS_PER_TASK = 30
BLOCK_LINES = 6
Key = tuple[str, str]


@dataclass(frozen=True)
class CrossTask:
    """The annotated videos of the primary tasks, in the order of videos.csv, and tasks by id.

    `validation` has the (task_id, video_id) of the official validation videos.
    """

    tasks: dict[str, Task]
    videos: tuple[StepVideo, ...]
    validation: frozenset[Key]

    def __len__(self) -> int:
        return len(self.videos)


def read_crosstask(folder: Path) -> CrossTask:
    """Read the release folder, or the folder that holds it.

    Raises:
        DataError: If an annotation names a step that its task does not have, or belongs to no
            video of videos.csv.
    """
    if (folder / "crosstask_release").is_dir():
        folder = folder / "crosstask_release"
    tasks = read_tasks(find_file(folder, "tasks_primary.txt"))
    listed = read_video_keys(find_file(folder, "videos.csv"))
    annotations = folder / "annotations"
    if not annotations.is_dir():
        raise DataError("no such folder: unpack the whole crosstask_release", annotations)
    files = {tuple(p.stem.split("_", 1)): p for p in sorted(annotations.glob("*.csv"))}
    if strange := sorted(set(files) - set(listed)):
        raise DataError("belongs to no video of videos.csv: remove it", files[strange[0]])
    return CrossTask(
        tasks,
        tuple(
            StepVideo(video_id, tasks[task_id], _segments(files[task_id, video_id], tasks[task_id]))
            for task_id, video_id in listed
            if task_id in tasks and (task_id, video_id) in files
        ),
        frozenset(read_video_keys(find_file(folder, "videos_val.csv"))),
    )


def read_tasks(path: Path) -> dict[str, Task]:
    """Read tasks_primary.txt: blocks of id, title, URL, number of steps, steps, blank line."""
    with open_text(path) as file:
        lines = [line.strip() for line in file.read().rstrip().splitlines()]
    tasks: dict[str, Task] = {}
    for first in range(0, len(lines), BLOCK_LINES):
        block = lines[first : first + BLOCK_LINES]
        if len(block) < BLOCK_LINES - 1 or "".join(block[BLOCK_LINES - 1 :]):
            raise DataError("a task needs five lines and a blank one; wrong file?", path, first + 1)
        task_id, title, _, num_steps, steps = block[: BLOCK_LINES - 1]
        names = tuple(step.strip() for step in steps.split(","))
        if num_steps != str(len(names)):
            raise DataError(f"{len(names)} steps, not {num_steps}", path, first + 5)
        if not all(names):
            raise DataError("a step is blank: fix the line", path, first + 5)
        if task_id in tasks:
            raise DataError(f"task {task_id} occurs twice: remove one of them", path, first + 1)
        tasks[task_id] = Task(task_id, title, names)
    return tasks


def read_video_keys(path: Path) -> list[Key]:
    """Read (task_id, video_id) pairs from videos.csv or videos_val.csv, which have no header."""
    rows = read_rows(path, names=("task_id", "video_id", "url"))
    key = "task and video"
    return list(unique(rows, key, lambda row: (row.text("task_id"), row.text("video_id"))))


def released_split(
    videos: Iterable[StepVideo],
    validation: Collection[Key],
    available: Collection[str],
    seed: int = 0,
) -> tuple[list[StepVideo], list[StepVideo]]:
    """Split videos into training and test as released: 30 random training videos a task.

    All videos of a task with no more than that are training videos. Where every task has so few,
    the set is too small for this rule, and all its videos are tested.

    The split depends on which videos have features: the others are dropped before the draw.

    Args:
        videos: In the order of videos.csv.
        validation: Keys of validation videos, in neither part.
        available: Video ids with features.
        seed: Of the draw; 0 in the release.

    Source: the CrossTask release (numpy's legacy generator, tasks in order of first appearance).
    """
    groups: dict[str, list[StepVideo]] = {}
    for video in videos:
        if video.video_id in available and (video.task.task_id, video.video_id) not in validation:
            groups.setdefault(video.task.task_id, []).append(video)
    if all(len(group) <= TRAIN_VIDEOS_PER_TASK for group in groups.values()):
        return [], [video for group in groups.values() for video in group]
    legacy = np.random.RandomState(seed)  # the generator that the release used
    train: list[StepVideo] = []
    test: list[StepVideo] = []
    for group in groups.values():
        chosen = set(range(len(group)))
        if len(group) > TRAIN_VIDEOS_PER_TASK:
            chosen = set(legacy.choice(len(group), TRAIN_VIDEOS_PER_TASK, replace=False).tolist())
        train += [video for i, video in enumerate(group) if i in chosen]
        test += [video for i, video in enumerate(group) if i not in chosen]
    return train, test


def _segments(path: Path, task: Task) -> tuple[Segment, ...]:
    segments = []
    for row in read_rows(path, names=("step", "start", "end")):
        step = row.integer("step")
        if not 1 <= step <= len(task.steps):
            raise row.error(f"step {step}, but task {task.task_id} has {len(task.steps)}")
        segments.append(Segment(*row.span([row.number("start"), row.number("end")]), step - 1))
    return tuple(segments)


BENCHMARKS = {
    "crosstask": Benchmark(
        "steps",
        read_crosstask,
        (
            paper("zero-shot", {"average recall": 0.339}),
            paper("fine-tuned", {"average recall": 0.473}),
        ),
    )
}
