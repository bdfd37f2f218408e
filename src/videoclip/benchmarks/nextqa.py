"""NExT-QA: questions about why, how and when, with five answers to choose from.

Files: val.csv (`video,frame_count,width,height,question,answer,qid,type,a0..a4`).
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, MultipleChoiceExample
from videoclip.benchmarks.files import find_file, read_rows, unique

NUM_CHOICES = 5
CHOICE_COLUMNS = tuple(f"a{i}" for i in range(NUM_CHOICES))


def read_nextqa(path: Path) -> list[MultipleChoiceExample]:
    """Read questions in the order of the file; `kind` is for instance CH (causal how).

    Args:
        path: A file, or the folder of val.csv.
    """
    columns = ("video", "question", "answer", "qid", "type", *CHOICE_COLUMNS)
    rows = read_rows(find_file(path, "val.csv"), columns)
    return [
        MultipleChoiceExample(
            example_id,
            row.text("video"),
            tuple(row.text(column) for column in CHOICE_COLUMNS),
            row.choice("answer", NUM_CHOICES),
            row.text("question"),
            row.text("type"),
        )
        for example_id, row in unique(
            rows, "question", lambda row: f"{row.text('video')}_{row.text('qid')}"
        ).items()
    ]


BENCHMARKS = {"nextqa": Benchmark("multiple_choice", read_nextqa)}
