"""QVHighlights: queries, each with all the moments of a 150-second video that match it.

Three raters marked how well each two seconds of these moments match, from 0 to 4.

Files: highlight_val_release.jsonl and others; the released test file has no answers.
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, MomentExample
from videoclip.benchmarks.files import Record, find_file, read_json_lines, unique

ANSWERS = "relevant_windows"
CLIP_SECONDS = 2
"""Length of the clips that raters marked."""
NUM_RATERS = 3
MARKS = range(5)


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
            _saliency(row) if "saliency_scores" in row.values else (),
        )
        for qid, row in unique(rows, "qid", lambda row: row.integer("qid")).items()
    ]


def _saliency(row: Record) -> tuple[tuple[int, ...], ...]:
    """Return the marks of every two seconds of the video, 0 outside of the moments."""
    num_clips = int(row.number("duration") / CLIP_SECONDS)
    clips, marks = row.items("relevant_clip_ids"), row.items("saliency_scores")
    if len(clips) != len(marks):
        raise row.error(f"{len(clips)} relevant_clip_ids but {len(marks)} saliency_scores")
    saliency = [(0,) * NUM_RATERS] * num_clips
    for clip, of_raters in zip(clips, marks, strict=True):
        if clip not in range(num_clips):
            raise row.error(f"marks clip {clip!r}, but the video has {num_clips}: fix the row")
        right = isinstance(of_raters, list) and len(of_raters) == NUM_RATERS
        if not right or not all(m in MARKS for m in of_raters):
            raise row.error(f"needs {NUM_RATERS} marks from 0 to 4 of a clip, got {of_raters!r}")
        saliency[clip] = tuple(of_raters)
    return tuple(saliency)


BENCHMARKS = {"qvhighlights": Benchmark("moments", read_qvhighlights)}
