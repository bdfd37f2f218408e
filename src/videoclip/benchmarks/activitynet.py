"""ActivityNet Captions: paragraphs about whole videos; paragraph-to-video retrieval.

Files: val_1.json, val_2.json, train.json: {"v_<id>": {duration, timestamps, sentences}}.
"""

from __future__ import annotations

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, RetrievalExample
from videoclip.benchmarks.files import entries, find_file, read_record


def read_activitynet_paragraphs(path: Path, name: str = "val_1.json") -> list[RetrievalExample]:
    """Return the sentences of each video as one text, in the order of the file.

    Args:
        path: The file, or its folder.
        name: Its name in a folder; `val_1.json` is the usual test.
    """
    found = find_file(path, name)
    examples = []
    for video in entries(read_record(found).values, found, "video"):
        sentences, times = video.texts("sentences"), video.items("timestamps")
        if len(sentences) != len(times):
            raise video.error(f"{len(sentences)} sentences but {len(times)} timestamps")
        examples.append(RetrievalExample(video.key, " ".join(sentences)))
    return examples


BENCHMARKS = {
    "activitynet": Benchmark(
        "paragraph-to-video retrieval", "val_1.json", "retrieval", read_activitynet_paragraphs
    )
}
