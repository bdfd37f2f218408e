"""MSR-VTT: short videos with twenty captions each; text-to-video retrieval, multiple choice.

Files: MSRVTT_JSFUSION_test.csv (1k-A), MSRVTT_train.9k.csv and other lists of video ids,
MSRVTT_data.json or the official *_videodatainfo.json (also zipped). Of the questions which of five
captions belongs to a video: MSR_MC_test.csv (tab separated despite its name; columns are found by
name) or msrvtt_multi_choice_qa.jsonl.
"""

from dataclasses import dataclass
from pathlib import Path

from videoclip.benchmarks.examples import (
    Benchmark,
    MultipleChoiceExample,
    RetrievalExample,
    paper,
    text_to_video,
)
from videoclip.benchmarks.files import (
    Record,
    find_file,
    read_json,
    read_json_lines,
    read_rows,
    unique,
)
from videoclip.errors import DataError

NUM_CHOICES = 5
CHOICE_COLUMNS = tuple(f"a{i}" for i in range(1, NUM_CHOICES + 1))
SPLITS = ("train", "validate", "test")


@dataclass(frozen=True)
class CaptionedVideo:
    """A video of MSR-VTT: `split` is the official one, `category` 0 to 19.

    There are usually 20 captions; `caption_ids` are their `sen_id`.
    """

    video_id: str
    split: str
    category: int
    captions: tuple[str, ...]
    caption_ids: tuple[int, ...]


def read_msrvtt_1k(path: Path) -> list[RetrievalExample]:
    """Read the 1,000 pairs of the 1k-A test; some sentences are edited captions."""
    found = find_file(path, "MSRVTT_JSFUSION_test.csv")
    rows = read_rows(found, ("key", "vid_key", "video_id", "sentence"))
    pairs = unique(rows, "key", lambda row: row.text("key")).values()
    for row in pairs:
        if row.text("vid_key").replace("msr", "video") != row.text("video_id"):
            raise row.error(f"{row.text('vid_key')} is not {row.text('video_id')}: fix the row")
    return [RetrievalExample(row.text("video_id"), row.text("sentence")) for row in pairs]


def read_msrvtt_captions(path: Path) -> list[CaptionedVideo]:
    """Read MSRVTT_data.json or an official videodatainfo file.

    Raises:
        DataError: If a sentence belongs to no video, or a video has none.
    """
    top = Record(read_json(path), path)
    videos = unique(top.records("videos", "video"), "video", lambda video: video.text("video_id"))
    captions: dict[str, dict[int, str]] = {video_id: {} for video_id in videos}
    rows = top.records("sentences", "sentence")
    sentences = unique(rows, "sen_id", lambda sentence: sentence.integer("sen_id"))
    for sen_id, sentence in sentences.items():
        video_id = sentence.text("video_id")
        if video_id not in captions:
            raise sentence.error(f"no video '{video_id}' in this file")
        captions[video_id][sen_id] = sentence.text("caption")
    result = []
    for video_id, video in videos.items():
        split, own = video.text("split"), captions[video_id]
        if split not in SPLITS:
            raise video.error(f"split must be one of {', '.join(SPLITS)}, got '{split}'")
        if not own:
            raise video.error("has no sentence: download the file again")
        category, texts, ids = video.integer("category"), tuple(own.values()), tuple(own)
        result.append(CaptionedVideo(video_id, split, category, texts, ids))
    return result


def read_msrvtt_pairs(captions: Path, video_ids: list[str]) -> list[RetrievalExample]:
    """Return every caption of some videos, for training or for the full test of 59,800 captions.

    Args:
        captions: File for `read_msrvtt_captions`.
        video_ids: For instance the 9k list.

    Raises:
        DataError: If the file lacks one of the videos.
    """
    videos = {video.video_id: video for video in read_msrvtt_captions(captions)}
    if unknown := [video_id for video_id in video_ids if video_id not in videos]:
        raise DataError(
            f"no '{unknown[0]}' ({len(unknown)} videos missing): wrong split?", captions
        )
    return [RetrievalExample(v, text) for v in video_ids for text in videos[v].captions]


def read_msrvtt_qa(path: Path) -> list[MultipleChoiceExample]:
    """Read the test questions, in the order of the file."""
    found = find_file(path, "MSR_MC_test.csv", "MSR_MC_test.tsv", "msrvtt_multi_choice_qa.jsonl")
    if ".jsonl" in found.suffixes:
        return _read_json_lines(found)
    rows = read_rows(found, ("key", "vid_key", *CHOICE_COLUMNS, "answer"), delimiter="\t")
    return [
        MultipleChoiceExample(
            key,
            row.text("vid_key").replace("msr", "video"),
            tuple(row.text(name) for name in CHOICE_COLUMNS),
            row.choice("answer", NUM_CHOICES),
        )
        for key, row in unique(rows, "key", lambda row: row.text("key")).items()
    ]


def _read_json_lines(path: Path) -> list[MultipleChoiceExample]:
    examples = []
    rows = unique(read_json_lines(path), "qid", lambda row: row.text("qid"))
    for qid, row in rows.items():
        choices = tuple(str(choice).strip() for choice in row.items("options"))
        if len(choices) != NUM_CHOICES or not all(choices):
            raise row.error(f"needs {NUM_CHOICES} options, none blank: fix the row")
        answer = row.choice("answer", NUM_CHOICES)
        examples.append(MultipleChoiceExample(qid, row.text("clip_name"), choices, answer))
    return examples


BENCHMARKS = {
    "msrvtt": Benchmark(
        "retrieval",
        read_msrvtt_1k,
        (
            paper("zero-shot", text_to_video(10.4, 22.2, 30.0)),
            paper("fine-tuned", text_to_video(30.9, 55.4, 66.8)),
        ),
    ),
    "msrvtt_qa": Benchmark(
        "multiple_choice",
        read_msrvtt_qa,
        (
            paper("zero-shot", {"accuracy": 0.739}),
            paper("fine-tuned", {"accuracy": 0.921}),
        ),
    ),
}
