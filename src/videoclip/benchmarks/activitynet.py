"""ActivityNet Captions: paragraphs about whole videos, or sentences and their moments.

Files: val_1.json, val_2.json, train.json: {"v_<id>": {duration, timestamps, sentences}}.
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, MomentExample, RetrievalExample
from videoclip.benchmarks.files import Record, entries, find_file, read_json


def read_activitynet_paragraphs(path: Path) -> list[RetrievalExample]:
    """Return the sentences of each video as one text, in the order of the file.

    Args:
        path: A file, or the folder of val_1.json, the usual test.
    """
    return [
        RetrievalExample(video.key, " ".join(video.texts("sentences"))) for video in _read(path)
    ]


def read_activitynet_moments(path: Path) -> list[MomentExample]:
    """Return every sentence with its moment; a few spans have their end first and are swapped.

    Args:
        path: A file, or the folder of val_1.json, the usual test.
    """
    return [
        MomentExample(
            f"{video.key}_{i}",
            video.key,
            text,
            (video.span(sorted(span) if isinstance(span, list) else span, allow_empty=True),),
            video.number("duration"),
        )
        for video in _read(path)
        for i, (text, span) in enumerate(
            zip(video.texts("sentences"), video.items("timestamps"), strict=True)
        )
    ]


def _read(path: Path) -> list[Record]:
    found = find_file(path, "val_1.json")
    videos = entries(read_json(found), found, "video")
    for video in videos:
        sentences, times = video.texts("sentences"), video.items("timestamps")
        if len(sentences) != len(times):
            raise video.error(f"{len(sentences)} sentences but {len(times)} timestamps")
    return videos


BENCHMARKS = {
    "activitynet": Benchmark("retrieval", read_activitynet_paragraphs),
    "activitynet_moments": Benchmark("moments", read_activitynet_moments),
}
