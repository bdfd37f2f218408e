"""Charades-STA: sentences, each with the one moment of a video that it describes.

Files: charades_sta_test.txt, charades_sta_train.txt with lines "VIDEO start end##sentence".
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, MomentExample
from videoclip.benchmarks.files import Record, find_file, read_lines
from videoclip.errors import DataError


def read_charades(path: Path) -> list[MomentExample]:
    """Read sentences in the order of the file; `example_id` is the line.

    A few spans of the training file have their end first; start and end are swapped.

    Args:
        path: A file, or the folder of charades_sta_test.txt.
    """
    found = find_file(path, "charades_sta_test.txt")
    examples = []
    for line, text in read_lines(found):
        left, mark, sentence = text.partition("##")
        parts = left.split()
        if not mark or len(parts) != 3:
            raise DataError("expected 'VIDEO start end##sentence': fix the line", found, line)
        values = dict(zip(("video", "start", "end"), parts, strict=True), sentence=sentence)
        row = Record(values, found, line=line)
        span = row.span(sorted((row.number("start"), row.number("end"))), allow_empty=True)
        examples.append(MomentExample(str(line), row.text("video"), row.text("sentence"), (span,)))
    return examples


BENCHMARKS = {"charades": Benchmark("moments", read_charades)}
