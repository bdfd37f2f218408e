"""YouCook2: clips of recipes and the sentences that describe them.

Two benchmarks on the same files: retrieval of clips by a sentence, and of whole videos by all the
sentences of a recipe.

Files, any of: youcookii_annotations_trainval.json; validation_youcook.csv, the 3,350 clips of
MIL-NCE; youcook_val.pkl, the 3,305 clips of HowTo100M that the paper uses, which only lists clips
and needs the JSON file beside it.
"""

from pathlib import Path
from typing import Literal

from videoclip.benchmarks.examples import (
    Baseline,
    Benchmark,
    RetrievalExample,
    paper,
    text_to_video,
)
from videoclip.benchmarks.files import Record, entries, find_file, read_json, read_rows
from videoclip.errors import DataError

JSON_NAME = "youcookii_annotations_trainval.json"


def read_youcook2(path: Path) -> list[RetrievalExample]:
    """Read the validation clips from the best file of a folder: pickle, CSV, then JSON."""
    found = find_file(path, "youcook_val.pkl", "validation_youcook.csv", JSON_NAME)
    if ".pkl" in found.suffixes:
        return read_youcook2_pickle(found, find_file(found.parent, JSON_NAME))
    if ".csv" in found.suffixes:
        return read_youcook2_csv(found)
    return read_youcook2_json(found)


def read_youcook2_json(
    path: Path, split: Literal["train", "val"] = "val"
) -> list[RetrievalExample]:
    """Read every clip of a split, in the order of the file.

    Raises:
        DataError: If a span ends after its video or ids are not 0, 1, 2, ...
    """
    subset = {"train": "training", "val": "validation"}[split]
    videos = [video for video in _videos(path) if video.text("subset") == subset]
    return [clip for video in videos for clip in _clips(video)]


def _videos(path: Path) -> list[Record]:
    return entries(Record(read_json(path), path).table("database"), path, "video")


def _clips(video: Record) -> list[RetrievalExample]:
    clips = []
    for i, row in enumerate(video.records("annotations", "annotation")):
        start, end = row.span(row.items("segment"))
        if end > video.number("duration"):
            raise row.error(f"segment ends at {end:g} s, after the video: fix the row")
        if row.integer("id") != i:
            raise row.error(f"id {row.integer('id')} is out of order: download the file again")
        clips.append(RetrievalExample(video.key, row.text("sentence"), start, end))
    return clips


def read_youcook2_csv(path: Path) -> list[RetrievalExample]:
    """Read validation_youcook.csv, whose column `end` precedes `start`.

    One span may occur twice with two texts.
    """
    rows = read_rows(path, ("video_id", "start", "end", "text"))
    return [
        RetrievalExample(
            row.text("video_id"),
            row.text("text"),
            *row.span([row.number("start"), row.number("end")]),
        )
        for row in rows
    ]


def read_youcook2_pickle(path: Path, annotations: Path) -> list[RetrievalExample]:
    """Read the clips that a released pickle lists; spans and sentences come from the JSON file.

    Args:
        path: List of dicts with `id` "<video_id>_<clip index>"; video ids may hold underscores.
        annotations: youcookii_annotations_trainval.json.

    Raises:
        DataError: If the pickle holds anything but lists, dicts, numbers, texts and arrays, or
            names a clip that the JSON file does not have.
    """
    clips = {video.key: _clips(video) for video in _videos(annotations)}
    examples = []
    from videoclip.weights.torch_file import read_plain_pickle  # here: torch takes long to import

    items = read_plain_pickle(path)
    if not isinstance(items, list):
        raise DataError(f"holds a {type(items).__name__}, not a list of clips: wrong file?", path)
    for i, values in enumerate(items):
        row = Record(values, path, f"item {i}")
        video_id, _, index = row.text("id").rpartition("_")
        if not index.isdecimal() or int(index) >= len(clips.get(video_id, [])):
            raise row.error(f"clip '{row.text('id')}' is not in {annotations.name}: wrong file?")
        examples.append(clips[video_id][int(index)])
    return examples


BENCHMARKS = {
    "youcook2": Benchmark(
        "retrieval",
        read_youcook2,
        (
            paper("zero-shot", text_to_video(22.7, 50.4, 63.1), "; 3,305 clips"),
            paper("fine-tuned", text_to_video(32.2, 62.6, 75.0), "; 3,305 clips"),
        ),
    ),
    "youcook2_paragraph": Benchmark(
        "paragraphs",
        read_youcook2,
        (
            Baseline(
                "VideoCLIP zero-shot",
                {"DTW, background removed R@1": 0.560},
                "arXiv 2401.16702, with the released model",
            ),
        ),
    ),
}
