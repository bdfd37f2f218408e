"""The plan of a torture run: which hostile files go through which commands, and what is counted."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.torture import corpus
from tests.torture.commands import Outcome, run

PLAN = {
    **{suffix: (4, 20) for suffix in corpus.CODECS},
    "odd files": (1, 0),
    **{suffix: (2, 40) for suffix in corpus.SUBTITLES},
    "moments": (1, 60),
    "library": (1, 50),
    "feature store": (1, 30),
    "model": (1, 40),
}
"""Folders of each kind of input, and hostile files in each."""
LABELS = ("--label", "red", "--label", "a moving stripe")


@dataclass
class Tally:
    """Counts of one kind of input; `+=` joins two."""

    files: int = 0
    commands: int = 0
    read: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    losses: int = 0
    statuses: int = 0
    peak: int = 0
    cpu: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Tally") -> "Tally":
        peak = max(self.peak, other.peak)
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.peak = peak
        return self

    @property
    def ok(self) -> bool:
        return not (self.crashes or self.hangs or self.losses or self.statuses)

    def note(self, outcome: Outcome, what: str) -> Outcome:
        """Count the outcome of a command."""
        self.commands += 1
        self.crashes += outcome.crash
        self.hangs += outcome.hung
        self.statuses += outcome.wrong_status
        self.peak = max(self.peak, outcome.peak)
        self.cpu += outcome.seconds
        if outcome.crash or outcome.hung or outcome.wrong_status:
            kind = "crash" if outcome.crash else "hang" if outcome.hung else "status"
            shown = " ".join(outcome.command)
            last = outcome.err.strip()[-600:]
            self.problems.append(f"{kind} {outcome.status}: {what}: {shown}\n{last}\n")
        return outcome

    def lose(self, what: str) -> None:
        """Count something that is missing without a word, or answered wrongly."""
        self.losses += 1
        self.problems.append(f"loss: {what}\n")


def _json(outcome: Outcome) -> dict:
    try:
        return json.loads(outcome.out)
    except json.JSONDecodeError:
        return {}


def _readable(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


# --- whole folders -----------------------------------------------------------------------------


def check_videos(made: dict[str, str], folder: Path) -> Tally:
    """Index, extract and prepare hostile videos; every file must be accounted for.

    Args:
        made: The names of the files in `folder / "videos"`, and what each is.
        folder: A folder for all this.
    """
    tally, videos, results = Tally(files=len(made)), folder / "videos", []
    for workers in ("0", "2"):
        command = ["index", str(videos), "--library", f"library-{workers}", "--json"]
        outcome = tally.note(run([*command, "--workers", workers], folder), _names(made))
        report = _json(outcome)
        results.append((set(report.get("added", ())), dict(report.get("failed", {}))))
    (added, failed), (others_added, _) = results
    expected = {_readable(videos / name): what for name, what in made.items()}
    if not (outcome.hung or outcome.crash):
        for path in sorted(expected.keys() - added - failed.keys()):
            tally.lose(f"index: {path}: {expected[path]}: neither added nor listed")
        for path in sorted(added ^ others_added):
            tally.lose(f"index: {path}: {expected[path]}: differs with 2 workers")
        tally.read, tally.refused = len(added), len(expected.keys() - added)
    again = tally.note(run([*command, "--workers", "2"], folder), _names(made))
    if added and _json(again).get("unchanged") != len(others_added):
        tally.lose(f"index: a second run found {again.out[:300]}")
    command = ["extract", str(videos), "--features", "store", "--workers", "2", "--json"]
    report = _json(outcome := tally.note(run(command, folder), _names(made)))
    if not (outcome.hung or outcome.crash):
        num = len(report.get("done", ())) + len(report.get("failed", ()))
        if num < len(made):
            tally.lose(f"extract: {len(made) - num} files are neither added nor listed")
    report = _json(outcome := tally.note(run(["prepare", str(videos), "--json"], folder), ""))
    if not (outcome.hung or outcome.crash):
        num = len(report.get("videos", ())) + len(report.get("failed", ()))
        if num < len(made):
            tally.lose(f"prepare: {len(made) - num} files are neither prepared nor listed")
    command = ["search", "red stripe", "--library", "library-2", "--json", "-k", "1000"]
    outcome = tally.note(run(command, folder), "search")
    found = {moment["path"] for moment in _json(outcome).get("moments", ())}
    if added and found != added:
        tally.lose(f"search: finds {len(found)} of {len(added)} videos")
    for number, (name, what) in enumerate(made.items()):
        path = str(videos / name)
        commands = [
            ["info", path],
            ["cut", path, "--start", "0.5", "--end", "2"],
            ["segment", path, *LABELS, "--png", "a.png", "--csv", "a.csv"],
            ["cut", path, "--start", "1", "--end", "2", "--fast"],
            ["search", "--like", path, "--library", "library-2"],
        ]
        for chosen in (commands[number % 2], commands[2 + number % 3]):
            tally.note(run(chosen, folder / "single"), what)
    return tally


def _names(made: dict[str, str]) -> str:
    return f"{len(made)} files" if len(made) > 1 else str(made)


def damaged_videos(suffix: str, count: int, rng: np.random.Generator, folder: Path) -> Tally:
    """Damaged videos of one container, beside a good one."""
    clips = corpus.write_clips(folder / "clips")
    videos = folder / "videos"
    videos.mkdir()
    shutil.copy(clips[".mp4"], videos / "good.mp4")
    made = {"good.mp4": "undamaged"}
    for number in range(count):
        name = f"{number}{suffix}"
        made[name] = corpus.write_hostile_video(videos / name, clips, rng)
    return check_videos(made, folder)


def odd_files(kind: str, count: int, rng: np.random.Generator, folder: Path) -> Tally:
    """FIFOs, devices, playlists, names, sizes: what only looks like a video."""
    return check_videos(
        corpus.write_odd_files(folder / "videos", corpus.write_clips(folder / "clips")), folder
    )


def subtitles(suffix: str, count: int, rng: np.random.Generator, folder: Path) -> Tally:
    """Damaged subtitles, each beside a good video, which must be added all the same."""
    clip = corpus.write_clips(folder / "clips")[".mp4"]
    videos = folder / "videos"
    videos.mkdir()
    made = {}
    for number in range(count):
        shutil.copy(clip, videos / f"{number}.mp4")
        made[f"{number}.mp4"] = corpus.write_hostile_subtitles(videos / f"{number}{suffix}", rng)
    tally = Tally(files=count)
    commands = (
        ["index", str(videos), "--json", "--workers", "0"],
        ["prepare", str(videos), "--json"],
    )
    for command in commands:
        report = _json(outcome := tally.note(run(command, folder), f"{count} files"))
        listed = {Path(path).stem for path in report.get("failed", ())}
        if command[0] == "index":
            tally.refused = len(listed)
            tally.read = count - len(listed)
            done = {Path(path).stem for path in report.get("added", ())}
        else:
            done = set(report.get("videos", ())) | listed
        if not (outcome.hung or outcome.crash) and len(done) < count:
            lost = sorted({str(n) for n in range(count)} - done)
            tally.lose(f"{command[0]}: {[made[f'{n}.mp4'] for n in lost]}")
    for number in range(count):
        path = str(videos / f"{number}{suffix}")
        tally.note(run(["info", path], folder / "single"), made[f"{number}.mp4"])
    tally.note(run(["search", "chop the onion", "--json"], folder), "search")
    return tally


# --- our own files -----------------------------------------------------------------------------


def moments(kind: str, count: int, rng: np.random.Generator, folder: Path) -> Tally:
    """Damaged JSON of moments, through export and cut."""
    clip = corpus.write_clips(folder / "clips")[".mp4"]
    row = {"path": str(clip), "start": 0.5, "end": 1.5, "label": "red", "frame_rate": 10.0}
    rows = {"query": "red", "moments": [{**row, "confidence": "high", "duration": 3.0}] * 2}
    tally = Tally(files=count)
    for number in range(count):
        path = folder / f"{number}.json"
        if rng.random() < 0.8:
            text, what = corpus.damage_json(rows, rng)
            path.write_text(text)
        else:
            data = bytearray(json.dumps(rows).encode())
            what = corpus.damage_bytes(data, rng)
            path.write_bytes(data)
        format = ("csv", "json", "edl", "fcpxml", "vtt", "youtube")[number % 6]
        tally.note(run(["export", str(path), "--format", format], folder), what)
        outcome = tally.note(run(["cut", str(path)], folder), what)
        tally.read += outcome.status == 0
        tally.refused += outcome.status != 0
    return tally


def state(kind: str, count: int, rng: np.random.Generator, folder: Path) -> Tally:
    """Damaged libraries, feature stores and models: refused, or with the same answers."""
    videos, whole = folder / "videos", folder / "whole"
    clips = corpus.write_clips(folder / "clips")
    videos.mkdir()
    for suffix in (".mp4", ".mkv", ".avi"):
        shutil.copy(clips[suffix], videos / f"clip{suffix}")
    (videos / "clip.vtt").write_text(corpus.VTT)
    table = folder / "table.csv"
    lines = [f"clip{suffix},{n},{n + 1},text {n}" for suffix in (".mp4",) for n in range(3)]
    table.write_text("\n".join(["video,start,end,text", *lines]).replace("clip.mp4", "clip.mp4/"))
    if kind == "model":
        from videoclip.embedding import Embedder

        Embedder.from_pretrained("starter").save_pretrained(whole / "it")
    else:
        first = {"library": ["index", str(videos), "--library", "it"]}
        first["feature store"] = ["extract", str(videos), "--features", "it"]
        assert not run(first[kind], whole).status
    table.write_text("\n".join(["video,start,end,text", *lines]))
    commands = {
        "library": [
            ["search", "red stripe", "--library", "it", "--json"],
            ["search", "onion", "--library", "it", "--json", "--exact"],
            ["info", "it"],
            ["index", str(videos), "--library", "it", "--json"],
        ],
        "feature store": [
            ["info", "it"],
            ["evaluate", "csv", "--features", "it", "--annotations", str(table), "--json"],
            ["extract", str(videos), "--features", "it"],
        ],
        "model": [["info", "it"], ["segment", str(clips[".mp4"]), *LABELS, "--model", "it"]],
    }[kind]
    expected = [run(command, whole) for command in commands[:2]]
    tally = Tally(files=count)
    for number in range(count):
        place = folder / str(number)
        shutil.copytree(whole, place)
        what = corpus.damage_state(place / "it", rng)
        outcomes = [tally.note(run(command, place), what) for command in commands]
        silent = [
            o
            for o, e in zip(outcomes, expected)
            if o.status == 0 and o.out != e.out and "videoclip: warning: " not in o.err
        ]
        if silent:
            tally.lose(f"{what}: {silent[0].command[0]} answers otherwise without a word")
        tally.read += not any(outcome.status for outcome in outcomes)
        tally.refused += any(outcome.status for outcome in outcomes)
        shutil.rmtree(place)
    return tally


# --- all of it ---------------------------------------------------------------------------------


def task(kind: str, number: int, count: int, seed: int, folder: Path) -> tuple[str, Tally]:
    """Run the commands on one folder of one kind of input."""
    checks = {"odd files": odd_files, "moments": moments}
    checks |= dict.fromkeys(corpus.CODECS, damaged_videos)
    checks |= dict.fromkeys(corpus.SUBTITLES, subtitles)
    check = checks.get(kind, state)
    folder.mkdir(parents=True)
    rng = np.random.default_rng((seed, number, *kind.encode()))
    return kind, check(kind, count, rng, folder)


def warm() -> None:
    """Import, before the forks, what every command would."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    import videoclip.cli.options
    import videoclip.embedding
    import videoclip.library.library
    import videoclip.output.figures  # noqa: F401


def torture(
    plan: dict[str, tuple[int, int]], seed: int, folder: Path, num_processes: int = 2
) -> Iterator[tuple[str, Tally]]:
    """Yield the kind of each folder of input, and its counts."""
    tasks = [(k, n, size) for k, (folders, size) in plan.items() for n in range(folders)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, warm) as pool:
        futures = [
            pool.submit(task, kind, n, size, seed, folder / f"{kind.strip('.')}-{n}")
            for kind, n, size in sorted(tasks, key=lambda task: -task[2])
        ]
        for future in as_completed(futures):
            yield future.result()


HEADER = (
    *("input", "files", "read", "refused", "commands", "crashes", "hangs", "unlisted losses"),
    *("wrong exit status", "peak memory"),
)


def to_table(tallies: dict[str, Tally]) -> str:
    """Return the counts as a table in Markdown, with a sum."""
    total = Tally()
    rows: list[Sequence[object]] = [HEADER, ["---", *["--:"] * (len(HEADER) - 1)]]
    for tally in tallies.values():
        total += tally
    for kind, tally in [*tallies.items(), ("**all**", total)]:
        counts = [tally.files, tally.read, tally.refused, tally.commands, tally.crashes]
        counts += [tally.hangs, tally.losses, tally.statuses]
        rows.append([kind, *(f"{count:,}" for count in counts), f"{tally.peak / 1e9:.2f} GB"])
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"
