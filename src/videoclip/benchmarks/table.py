"""A benchmark of your own: a CSV or JSON-lines file with the fields `video,start,end,text`.

    video,start,end,text             {"video": "kitchen", "start": 12.5, "end": 18, "text": "chop"}
    kitchen,12.5,18,chop             {"video": "garden", "text": "plant the seeds"}
    garden,,,plant the seeds

`video` is the id of the video's features (its file name without extension); start and end are
seconds, both absent or empty for the whole video. Further columns are ignored. Rows with the same
text are one query with several right clips, rows with the same clip one clip with several texts.

A tar archive of WebDataset, or a folder of them, is such a table too: each caption file in it
(`kitchen.txt`, `.json`, `.srt`, `.vtt`) has the texts of the video of that name, and their times.
"""

from pathlib import Path

from videoclip.benchmarks.examples import Benchmark, RetrievalExample
from videoclip.benchmarks.files import Record, read_json_lines, read_rows
from videoclip.data.sources import ARCHIVE_SUFFIX, is_plain, list_files
from videoclip.data.subtitles import MAX_SECONDS, SUBTITLE_SUFFIXES, TEXT_SUFFIX, read_subtitles
from videoclip.errors import DataError

CAPTION_SUFFIXES = (*SUBTITLE_SUFFIXES, TEXT_SUFFIX)


def read_table(path: Path) -> list[RetrievalExample]:
    """Read the rows in order.

    Raises:
        DataError: If the file has neither format, or a row has no text or half a span.
    """
    if not is_plain(path) or (path.is_dir() and any(path.glob(f"*{ARCHIVE_SUFFIX}"))):
        return _read_captions(path)
    if path.is_dir():
        raise Record({}, path).error("is a folder: name the .csv or .jsonl file in it")
    if ".jsonl" in path.suffixes:
        rows = read_json_lines(path)
    else:
        rows = read_rows(path, ("video", "text"))
    return [_example(row) for row in rows]


def _read_captions(path: Path) -> list[RetrievalExample]:
    files = [file for file in list_files(path) if file.suffix.lower() in CAPTION_SUFFIXES]
    examples = [
        RetrievalExample(file.stem, cue.text, cue.start, cue.end)
        if cue.end < MAX_SECONDS
        else RetrievalExample(file.stem, cue.text, None, None)
        for file in sorted(files)
        for cue in read_subtitles(file)
    ]
    if not examples:
        raise DataError("has no captions (.txt, .json, .srt, .vtt)", path)
    return examples


def _example(row: Record) -> RetrievalExample:
    given = [name for name in ("start", "end") if row.values.get(name) not in (None, "")]
    if len(given) == 1:
        raise row.error(f"only '{given[0]}' is given: give start and end, or neither")
    start, end = row.span([row.number(name) for name in given]) if given else (None, None)
    return RetrievalExample(row.text("video"), row.text("text"), start, end)


BENCHMARKS = {"csv": Benchmark("search", read_table)}
