"""QVHighlights: queries, each with all the moments of a 150-second video that match it.

Files: highlight_val_release.jsonl and others; the released test file has no answers.
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, MomentExample
from videoclip.benchmarks.files import find_file, read_json_lines, unique

ANSWERS = "relevant_windows"


def read_qvhighlights(path: Path) -> list[MomentExample]:
    """Read queries in the order of the file; `moments` is empty where the file has none.

    Args:
        path: A file, or the folder of highlight_val_release.jsonl.
    """
    rows = read_json_lines(find_file(path, "highlight_val_release.jsonl"))
    return [
        MomentExample(
            str(qid),
            row.text("vid"),
            row.text("query"),
            tuple(map(row.span, row.items(ANSWERS) if ANSWERS in row.values else ())),
            row.number("duration"),
        )
        for qid, row in unique(rows, "qid", lambda row: row.integer("qid")).items()
    ]


BENCHMARKS = {"qvhighlights": Benchmark("moments", read_qvhighlights)}
