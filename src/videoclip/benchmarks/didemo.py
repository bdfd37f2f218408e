"""DiDeMo: sentences and their moments in short videos, or paragraphs and whole videos.

Two benchmarks on the same files (test_data.json, val_data.json) whose numbers do not compare:
finding the moment of each of 4,021 sentences, as the paper does, and finding the video by all its
sentences.

`times` are inclusive indices of five-second chunks: [1, 1] is 5 to 10 s. The same video may occur
with several extensions, or a bare dot, in one file: its id is the name without extension.
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, MomentExample, RetrievalExample, paper
from videoclip.benchmarks.files import Record, find_file, read_json, unique
from videoclip.errors import DataError

CHUNK_SECONDS = 5
NUM_CHUNKS = 6


def read_didemo_moments(path: Path) -> list[MomentExample]:
    """Read every sentence with the moments that annotators marked, in the order of the file.

    Args:
        path: A file, or the folder of test_data.json.
    """
    return [
        MomentExample(
            str(number),
            _video_id(record),
            record.text("description"),
            _moments(record),
            float(CHUNK_SECONDS * record.integer("num_segments")),
        )
        for number, record in _records(path).items()
    ]


def read_didemo_paragraphs(path: Path) -> list[RetrievalExample]:
    """Return the sentences of each video, in the order of the file, as one text."""
    sentences: dict[str, list[str]] = {}
    for record in _records(path).values():
        sentences.setdefault(_video_id(record), []).append(record.text("description"))
    return [RetrievalExample(video_id, " ".join(texts)) for video_id, texts in sentences.items()]


def _read_test_and_validation(path: Path) -> tuple[list[MomentExample] | None, ...]:
    validation = path / "val_data.json"
    examples = read_didemo_moments(validation) if validation.is_file() else None
    return read_didemo_moments(path), examples


def _records(path: Path) -> dict[int, Record]:
    path = find_file(path, "test_data.json")
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError("expected a list of sentences; wrong file?", path)
    records = [Record(row, path, f"sentence {i}") for i, row in enumerate(rows)]
    return unique(records, "annotation_id", lambda record: record.integer("annotation_id"))


def _video_id(record: Record) -> str:
    name = record.text("video")
    return name.rpartition(".")[0] or name


def _moments(record: Record) -> tuple[tuple[float, float], ...]:
    moments = record.items("times")
    for moment in moments:
        chunks = range(NUM_CHUNKS)
        right = isinstance(moment, list) and len(moment) == 2 and all(m in chunks for m in moment)
        if not right or moment[0] > moment[1]:
            raise record.error(f"times must be pairs of chunks 0..{NUM_CHUNKS - 1}, got {moment!r}")
    if not moments:
        raise record.error("no annotator marked a moment: remove the row")
    return tuple(
        (float(first * CHUNK_SECONDS), float((last + 1) * CHUNK_SECONDS)) for first, last in moments
    )


BENCHMARKS = {
    "didemo": Benchmark(
        "chunks",
        _read_test_and_validation,
        (
            paper(
                "zero-shot",
                {"rank@1": 0.166, "rank@5": 0.469},
                ", where it is called retrieval; below the frequency prior",
            ),
        ),
    ),
    "didemo_paragraph": Benchmark("retrieval", read_didemo_paragraphs),
}
