"""Texts of long videos and where they are shown, if at all: HTM-Align and HT-Step.

Files: htm_align.json, {video: [[shown, start, end, sentence], ...]}, 80 videos of HowTo100M whose
narrated sentences are marked as shown (1) or not (0; the times are then those of the narration).
HT-Step: annotations.json, {video: {subset, activity, annotations: [{id, segment}]}}, and
taxonomy.csv, the steps of wikiHow's articles by `global_step_index`; a video shows some steps of
one variation of the article of its activity.
"""

from pathlib import Path

from videoclip.benchmarks.examples import AlignmentVideo, Benchmark, PlacedText
from videoclip.benchmarks.files import Record, entries, find_file, read_json, read_rows, unique
from videoclip.errors import DataError

Span = tuple[float, float]


def read_htm_align(path: Path) -> list[AlignmentVideo]:
    """Read the narrated sentences of each video in the order of the file.

    Args:
        path: A file, or the folder of htm_align.json.
    """
    found = find_file(path, "htm_align.json")
    table = read_json(found)
    if not isinstance(table, dict):
        raise DataError("expected a table of videos; wrong file?", found)
    examples = []
    for video_id, rows in table.items():
        texts = []
        for i, row in enumerate(rows if isinstance(rows, list) else [rows]):
            where = f"video '{video_id}', sentence {i}"
            if not isinstance(row, list) or len(row) != 4:
                raise Record({}, found, where).error("needs [shown, start, end, sentence]")
            record = Record(
                dict(zip(("shown", "start", "end", "text"), row, strict=True)), found, where
            )
            span = record.span([record.number("start"), record.number("end")], allow_empty=True)
            shown = record.choice("shown", 2)
            texts.append(PlacedText(record.text("text"), (span,) if shown else (), span))
        if texts:
            examples.append(AlignmentVideo(video_id, tuple(texts)))
    return examples


def read_ht_step(path: Path) -> list[AlignmentVideo]:
    """Read the steps of the article of each validation video, in its order.

    Args:
        path: Folder of annotations.json and taxonomy.csv, or the annotations beside the taxonomy.

    Raises:
        DataError: If a video shows a step that is not in the taxonomy, or steps of two articles.
    """
    found = find_file(path, "annotations.json")
    columns = ("global_step_index", "activity", "variation", "headline")
    rows = read_rows(find_file(found.parent / "taxonomy.csv"), columns)
    steps = unique(rows, "step", lambda row: row.integer("global_step_index"))
    articles: dict[tuple[str, str], dict[int, str]] = {}
    article_of = {}
    for step, row in steps.items():
        article_of[step] = row.text("activity"), row.text("variation")
        articles.setdefault(article_of[step], {})[step] = row.text("headline")
    examples = []
    for video in entries(read_json(found), found, "video"):
        spans: dict[int, list[Span]] = {}
        for row in video.records("annotations", "annotation"):
            spans.setdefault(row.integer("id"), []).append(row.span(row.items("segment")))
        if unknown := [step for step in spans if step not in article_of]:
            raise video.error(f"step {unknown[0]} is not in taxonomy.csv: wrong file?")
        named = {article_of[step] for step in spans}
        if len(named) > 1:
            raise video.error(f"shows steps of {len(named)} articles: fix the rows")
        if not named or not video.text("subset").startswith("val"):
            continue
        article = named.pop()
        texts = tuple(
            PlacedText(text, tuple(spans.get(step, ())), step=step)
            for step, text in articles[article].items()
        )
        examples.append(AlignmentVideo(video.key, texts, article=article[0]))
    return examples


BENCHMARKS = {
    "htm_align": Benchmark("alignment", read_htm_align),
    "ht_step": Benchmark("alignment", read_ht_step),
}
