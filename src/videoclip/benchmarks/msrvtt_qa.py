"""MSR-VTT multiple choice: which of five captions belongs to the video.

Files: MSR_MC_test.csv (tab separated despite its name; columns are found by name) or
msrvtt_multi_choice_qa.jsonl.
"""

from __future__ import annotations

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, MultipleChoiceExample
from videoclip.benchmarks.files import find_file, read_json_lines, read_rows, unique

NUM_CHOICES = 5
CHOICE_COLUMNS = tuple(f"a{i}" for i in range(1, NUM_CHOICES + 1))


def read_msrvtt_qa(path: Path) -> list[MultipleChoiceExample]:
    """Read the test questions, in the order of the file."""
    found = find_file(path, "MSR_MC_test.csv", "MSR_MC_test.tsv", "msrvtt_multi_choice_qa.jsonl")
    if ".jsonl" in found.suffixes:
        return _read_json_lines(found)
    rows = read_rows(found, ("key", "vid_key", *CHOICE_COLUMNS, "answer"), delimiter="\t")
    return [
        MultipleChoiceExample(
            row.text("key"),
            row.text("vid_key").replace("msr", "video"),
            tuple(row.text(name) for name in CHOICE_COLUMNS),
            row.choice("answer", NUM_CHOICES),
        )
        for row in unique(rows, "key", lambda row: row.text("key"))
    ]


def _read_json_lines(path: Path) -> list[MultipleChoiceExample]:
    examples = []
    for row in unique(read_json_lines(path), "qid", lambda row: row.text("qid")):
        choices = tuple(str(choice).strip() for choice in row.items("options"))
        if len(choices) != NUM_CHOICES or not all(choices):
            raise row.error(f"needs {NUM_CHOICES} options, none blank: fix the row")
        examples.append(
            MultipleChoiceExample(
                row.text("qid"), row.text("clip_name"), choices, row.choice("answer", NUM_CHOICES)
            )
        )
    return examples


BENCHMARKS = {
    "msrvtt_qa": Benchmark(
        "multiple choice among captions", "MSR_MC_test.csv", "multiple_choice", read_msrvtt_qa
    )
}
