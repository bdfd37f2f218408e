"""ActivityNet Captions: paragraphs about whole videos; paragraph-to-video retrieval.

Files: val_1.json, val_2.json, train.json: {"v_<id>": {duration, timestamps, sentences}}.
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, RetrievalExample
from videoclip.benchmarks.files import entries, find_file, read_json


def read_activitynet_paragraphs(path: Path) -> list[RetrievalExample]:
    """Return the sentences of each video as one text, in the order of the file.

    Args:
        path: A file, or the folder of val_1.json, the usual test.
    """
    found = find_file(path, "val_1.json")
    examples = []
    for video in entries(read_json(found), found, "video"):
        sentences, times = video.texts("sentences"), video.items("timestamps")
        if len(sentences) != len(times):
            raise video.error(f"{len(sentences)} sentences but {len(times)} timestamps")
        examples.append(RetrievalExample(video.key, " ".join(sentences)))
    return examples


BENCHMARKS = {"activitynet": Benchmark("retrieval", read_activitynet_paragraphs)}
