"""Complete outcomes of every protocol, from annotation files to rows, plots and figures."""

import json
import re
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests import approved
from tests.approved import outcome, summary
from tests.model.tiny_models import TINY, make_model
from tests.training.labelled_world import CONFIG, DIM, labelled_world
from videoclip import evaluation
from videoclip.benchmarks.crosstask import CrossTask
from videoclip.benchmarks.examples import (
    AlignmentVideo,
    LabelledVideo,
    MomentExample,
    MultipleChoiceExample,
    PlacedText,
    Segment,
    StepVideo,
    Task,
)
from videoclip.config import EvaluateConfig
from videoclip.data.feature_store import FeatureSpec, FeatureStore
from videoclip.evaluation import (
    alignment,
    baselines,
    evaluate,
    held_out,
    moment_retrieval,
    paragraphs,
    segmentation,
)
from videoclip.evaluation import outcome as outcomes
from videoclip.evaluation.alignment import article_precisions, evaluate_alignment, windows
from videoclip.evaluation.localization import evaluate_steps
from videoclip.evaluation.metrics import calibration, frames, moments, ranking, sequences
from videoclip.evaluation.proposals import Proposals, propose
from videoclip.evaluation.report import draw, render_report
from videoclip.evaluation.segmentation import head_segmenter
from videoclip.evaluation.trial import (
    BackboneEncoder,
    Clip,
    TextVideoEncoder,
    Trial,
    embed_arrays,
    find_clip,
    normalize_rows,
    unique,
    with_features,
)
from videoclip.evaluation.videoqa import evaluate_multiple_choice
from videoclip.model.batch import Batch
from videoclip.output.figures import to_svg
from videoclip.synthetic.world import COLOURS, SHAPES, SyntheticWorld

RATE = 2.0
NUM_VIDEOS = 40


class WordVectors(TextVideoEncoder):
    """Texts are means of the vectors of their words, of which videos are made too."""

    name = "word vectors"
    temperature = 0.1
    classes = ()
    max_clip_features = 6

    def check(self, spec):
        assert spec.dim == DIM

    def embed_text(self, texts):
        rows = [np.mean([vector(w) for w in text.lower().split()], axis=0) for text in texts]
        return np.array(rows, dtype=np.float32)

    def embed_windows(self, features, spans):
        rows = features.astype(np.float32)
        return np.stack([rows[start:stop].mean(axis=0) for start, stop in spans])

    def embed_seconds(self, features, *, attend_cls):
        rows = features.astype(np.float32)
        return rows + attend_cls * 0.1 * rows.mean(axis=0)

    def pair_scorer(self, texts, clips):
        lengths = torch.tensor([len(clip) for clip in clips])

        def score(text, clip, similarity):
            return similarity + 0.01 * (text * 7 + clip * 3) % 5 + 0.001 * lengths[clip]

        return score


class Unlike(WordVectors):
    """The same, but all similarities are far below zero."""

    def embed_text(self, texts):
        return np.pad(super().embed_text(texts), ((0, 0), (0, 1)), constant_values=-99)

    def embed_seconds(self, features, *, attend_cls):
        seconds = super().embed_seconds(features, attend_cls=attend_cls)
        return np.pad(seconds, ((0, 0), (0, 1)), constant_values=1)


def vector(word):
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Annotations of a world, and features of two a second; of the last video there are none."""
    folder = tmp_path_factory.mktemp("world")
    labelled_world(folder, NUM_VIDEOS)
    world = SyntheticWorld(CONFIG)
    rng = np.random.default_rng(1)
    with FeatureStore.create(
        folder / "halves", FeatureSpec(DIM, RATE, "test", False, "0")
    ) as halves:
        for i in range(NUM_VIDEOS - 1):
            video = world.video(i)
            rows = rng.normal(size=(int(np.ceil(RATE * video.duration)), DIM))
            for shown in video.shown:
                words = [
                    vector(w) for w in (shown.step.colour, shown.step.shape, shown.step.action)
                ]
                rows[int(RATE * shown.start) : int(RATE * shown.end)] += 2 * np.mean(words, axis=0)
            halves.append(video.video_id, rows)
    spec = FeatureSpec(DIM, 1.0, "test", False, "0")
    with (
        FeatureStore.create(folder / "whole", spec) as whole,
        FeatureStore.open(folder / "halves") as halves,
    ):
        for name in halves.video_ids:
            whole.append(name, halves.read(name)[::2])
    write_others(folder / "annotations", world)
    return folder


def write_others(folder, world):
    """Annotations in the formats that a world does not write."""
    test = [world.video(i) for i in range(NUM_VIDEOS) if world.split(i) == "test"]
    texts = {v.video_id: [f"{s.step.colour} {s.step.shape}" for s in v.shown] for v in test}
    charades, highlights, table, narrated = [], [], {}, {}
    steps, taxonomy = {}, ["global_step_index,activity,variation,headline"]
    for number, video in enumerate(test):
        shown = list(zip(video.shown, texts[video.video_id], strict=True))
        table[video.video_id] = {
            "duration": video.duration,
            "timestamps": [[s.start, s.end] for s, _ in shown],
            "sentences": [text for _, text in shown],
        }
        narrated[video.video_id] = [
            [(i + number) % 3 > 0, s.start - 1, s.end - 1, text]
            for i, (s, text) in enumerate(shown)
        ]
        charades += [f"{video.video_id} {s.start} {s.end}##{text}" for s, text in shown]
        clips = list(range(int(shown[0][0].start // 2), int(shown[0][0].end // 2)))
        highlights.append(
            {
                "qid": number,
                "vid": video.video_id,
                "query": shown[0][1],
                "duration": int(video.duration),
                "relevant_windows": [[s.start, s.end] for s, _ in shown[:2]],
                "relevant_clip_ids": clips,
                "saliency_scores": [[(i + r) % 5 for r in range(3)] for i in clips],
            }
        )
        task = video.task.task_id
        annotated = [
            {"id": 100 * task + s.step.step_id, "segment": [s.start, s.end]} for s, _ in shown
        ]
        steps[video.video_id] = {
            "subset": "val_seen",
            "activity": f"a{task}",
            "annotations": annotated,
        }
        for step in video.task.steps:
            line = f"{100 * task + step.step_id},a{task},v0,{step.colour} {step.shape}"
            taxonomy += [line] * (line not in taxonomy)
    files = {
        "anet/val_1.json": json.dumps(table),
        "charades/charades_sta_test.txt": "\n".join(charades),
        "qv/highlight_val_release.jsonl": "\n".join(map(json.dumps, highlights)),
        "didemo/val_data.json": (folder / "didemo" / "train_data.json").read_text(),
        "qa/val.csv": "video,question,answer,qid,type,a0,a1,a2,a3,a4\n"
        + "\n".join(
            f"{v.video_id},what is shown,{i % 5},{i},{'CTD'[i % 3]}H,"
            + ",".join(f"{s} {c}" for s, c in zip(SHAPES[:5], COLOURS[i:] + COLOURS, strict=False))
            for i, v in enumerate(test)
        ),
        "own.csv": "video,start,end,text\n"
        + "\n".join(
            f"{v.video_id},{s.start},{s.end},{text}"
            for v in test
            for s, text in zip(v.shown, texts[v.video_id], strict=True)
        )
        + f"\n{test[0].video_id},900.5,901,late\nnowhere,,,a\n{test[1].video_id},,,whole\n"
        + f"{test[0].video_id},{test[0].shown[1].start},{test[0].shown[1].end},also this\n",
        "two/htm_align.json": json.dumps(
            {
                test[0].video_id: [[1, 3, 5, "purple ring"], [1, 6, 8, "orange ring"]],
                test[1].video_id: [[1, 3, 5, "purple ring"], [0, 6, 8, "black box"]],
            }
        ),
        "shown/htm_align.json": json.dumps(
            {k: [[1, *rest] for _, *rest in v] for k, v in narrated.items()}
        ),
        "htm/htm_align.json": json.dumps(
            {k: [[int(a), *rest] for a, *rest in v] for k, v in narrated.items()}
        ),
        "step/annotations.json": json.dumps(steps),
        "step/taxonomy.csv": "\n".join(taxonomy),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)


def plain_plot(plot):
    """Title and labels, and two sums of the numbers."""
    match plot:
        case outcomes.Histogram():
            numbers = [*plot.edges, *(n for counts in plot.counts.values() for n in counts)]
            texts = [plot.title, plot.x_label, *plot.counts]
        case outcomes.Bars():
            numbers, texts = plot.values, [plot.title, *plot.names[:2]]
        case outcomes.Confusion():
            numbers, texts = plot.counts, [plot.title, *plot.labels[:2]]
        case outcomes.TimelinePlot():
            spans = (*plot.true, *plot.predicted)
            numbers = [plot.duration, len(plot.true), *(x for span in spans for x in span[:2])]
            texts = [plot.title, plot.true[0][2], zlib.crc32(str([s[2] for s in spans]).encode())]
    return [type(plot).__name__, *texts, *summary(numbers)[1:]]


def described(result):
    made = result.outcome
    cells = [value for row in made.rows for value in row.values()]
    numbers = [v for v in cells if isinstance(v, float | int)]
    texts = [v for v in cells if isinstance(v, str)]
    return {
        "settings": made.settings,
        "measures": {m.name: [m.value, m.low, m.high] for m in made.measures},
        "baselines": [
            [b.name, *summary(list(b.values.values()))[1:], b.note] for b in made.baselines
        ],
        "counts": [made.num_examples, made.num_videos, len(made.rows)],
        "row": made.rows[1],
        "rows": [*summary(np.array(numbers, float))[1:], zlib.crc32("|".join(texts).encode())],
        "plots": [len(made.plots), *(plain_plot(plot) for plot in made.plots[:3])],
    }


USUAL = {"num_resamples": 20}
CASES = {
    "youcook2": ("youcook2", "whole", {}),
    "youcook2 whole clips, re-ranked": (
        "youcook2",
        "halves",
        {"clip_seconds": 0.0, "rerank_top": 2, "dual_softmax": 0.1, "seed": 3},
    ),
    "youcook2_paragraph": ("youcook2", "halves", {"clip_seconds": 3.0}),
    "youcook2_paragraph whole": ("youcook2", "whole", {"clip_seconds": 0.0}),
    "msrvtt released": ("msrvtt", "whole", {"ties": "released"}),
    "csv": ("test.csv", "halves", {"clip_seconds": 4.0}),
    "csv own": ("own.csv", "whole", {}),
    "csv own re-ranked": ("own.csv", "halves", {"rerank_top": 3, "clip_seconds": 0.0}),
    "csv released": ("test.csv", "whole", {"ties": "released"}),
    "youcook2 best re-ranked": ("youcook2", "whole", {"rerank_top": 1}),
    "nextqa": ("qa", "whole", {}),
    "msrvtt_qa": ("msrvtt_mc", "whole", {}),
    "msrvtt_qa product": (
        "msrvtt_mc",
        "halves",
        {"decoding": "product", "rerank_top": 1, "ties": "released"},
    ),
    "didemo": ("didemo", "whole", {}),
    "coin": ("coin", "whole", {"fitting_videos": 9, "seed": 2}),
    "coin balanced": ("coin", "halves", {"background": "balanced", "attend_cls": True}),
    "coin text": ("coin", "whole", {"background": "text"}),
    "coin released": ("coin", "whole", {"background": "released"}),
    "coin product": ("coin", "halves", {"decoding": "product"}),
    "crosstask": ("crosstask", "whole", {"num_splits": 2}),
    "crosstask runs": ("crosstask", "halves", {"exactly_one": False, "attend_cls": True}),
    "crosstask product": ("crosstask", "whole", {"decoding": "product"}),
    "activitynet_moments": ("anet", "whole", {}),
    "qvhighlights": ("qv", "halves", {"seed": 1}),
    "charades": ("charades", "halves", {}),
    "htm_align": ("htm", "whole", {}),
    "htm_align of two": ("two", "whole", {}),
    "htm_align all shown": ("shown", "whole", {}),
    "ht_step": ("step", "halves", {"attend_cls": True}),
}
GROUPS = {
    "retrieval": ("youcook2", "msrvtt", "csv", "nextqa"),
    "labels": ("coin", "crosstask"),
    "moments": ("didemo", "activitynet", "qvhighlights", "charades", "ht"),
}


@pytest.mark.parametrize("group", GROUPS)
def test_evaluations(group, world):
    found = {}
    for name, (annotations, store, settings) in CASES.items():
        if name.startswith(GROUPS[group]):
            benchmark, told = name.split()[0], []
            result = evaluate(
                benchmark,
                Unlike() if name == "htm_align" else WordVectors(),
                world / store,
                world / "annotations" / annotations,
                EvaluateConfig(**USUAL, **settings),
                lambda *progress, told=told: told.append(progress),
            )
            found[name] = {**described(result), "progress": [len(told), told[0], told[-1]]}
            if name == benchmark:
                names = [list(b.values) for b in result.outcome.baselines]
                missing = [[m.video_id, m.reason] for m in result.outcome.missing]
                found[name] |= {
                    "protocol": result.outcome.protocol,
                    "all baselines": [of == list(found[name]["measures"]) for of in names],
                    "missing": missing,
                }
            else:
                found[name]["missing"] = [m.reason for m in result.outcome.missing]
                measures = list(found[name]["measures"].values())
                found[name] |= {
                    "measures": summary(measures)[1:],
                    "row": zlib.crc32(str(list(result.outcome.rows[1])).encode()),
                }
            if name in ("csv", "crosstask", "didemo"):
                found[name]["table"] = str(result).splitlines()
                found[name]["keys"] = list(result.to_dict())
    approved.check(f"evaluations-{group}", found)


def test_refused_evaluations(world, tmp_path):
    store = FeatureStore.open(world / "whole")
    encoder, config = WordVectors(), EvaluateConfig()
    empty = tmp_path / "empty.csv"
    empty.write_text("video,text\n")
    late = tmp_path / "late.csv"
    late.write_text("video,start,end,text\nvideo00000,900,901,a\n")
    other = tmp_path / "other.csv"
    other.write_text("video,text\nelsewhere,a\n")
    open_ended = tmp_path / "qv.jsonl"
    open_ended.write_text('{"qid": 1, "vid": "video00000", "query": "a", "duration": 9}\n')
    headed = WordVectors()
    headed.classes = ("a",)

    class Plain(WordVectors):
        pair_scorer = TextVideoEncoder.pair_scorer

    def run(benchmark, path, model=encoder, store=store, **settings):
        return evaluate(benchmark, model, store, path, EvaluateConfig(**settings))

    annotations = world / "annotations"
    spoken = tmp_path / "htm.json"
    spoken.write_text('{"video00000": [[0, 1, 2, "a"]]}')
    coin = json.loads((annotations / "coin" / "COIN.json").read_text())["database"]
    tested = tmp_path / "coin.json"
    tested.write_text(
        json.dumps({"database": {k: v for k, v in coin.items() if v["subset"] == "testing"}})
    )
    calls = {
        "nothing shown": lambda: run("htm_align", spoken),
        "nothing to fit": lambda: run("coin", tested),
        "unknown": lambda: run("coinn", annotations),
        "empty": lambda: run("csv", empty),
        "late": lambda: run("csv", late),
        "other": lambda: run("csv", other),
        "unanswered": lambda: run("qvhighlights", open_ended),
        "rate": lambda: run(
            "didemo", annotations / "didemo" / "test_data.json", store=world / "halves"
        ),
        "head": lambda: run("coin", annotations / "coin", headed),
        "no head": lambda: encoder.classify_seconds(np.zeros((1, DIM)), attend_cls=True),
        "no re-ranker": lambda: run("csv", annotations / "test.csv", Plain(), rerank_top=3),
        "backbone": lambda: run("csv", empty, "frames"),
        "no store": lambda: run("csv", empty, store=tmp_path / "none"),
        "no examples": lambda: with_features([], store),
    }
    found = {name: outcome(call) for name, call in calls.items()}
    trial = Trial(headed, store, config)
    task = Task("t", "Rest", ("red box", "blue ball"))
    step = (Segment(1, 5, 0),)
    short = FeatureStore.create(tmp_path / "short", FeatureSpec(DIM, 1.0, "test", False, "0"))
    for name, length in (("a", 9), ("b", 1), ("c", 4)):
        short.append(name, np.random.default_rng(length).normal(size=(length, DIM)))
    steps = [StepVideo("a", task, step), StepVideo("b", task, step), StepVideo("c", task, ())]
    of_steps = Trial(encoder, short, EvaluateConfig(num_resamples=3))
    made = evaluate_steps(CrossTask({"t": task}, tuple(steps), frozenset()), of_steps)
    found["steps"] = [made.missing, made.num_examples, [m.value for m in made.measures]]
    found["no steps"] = outcome(
        lambda: evaluate_steps(CrossTask({"t": task}, tuple(steps[1:]), frozenset()), of_steps)
    )
    found["another head"] = outcome(lambda: head_segmenter(("b", "c"), trial))
    found["clips"] = [
        find_clip(store, "video00000", *span)
        for span in (
            (None, None),
            (1.5, 2.5),
            (0.0, 4.0, 2.0),
            (3, 3.0, 0.2),
            (None, 4, 9),
            (99, 100),
        )
    ]
    found["unique"] = unique(["b", "a", "b"])
    found["embedded"] = summary(embed_arrays(encoder, [np.ones((2, DIM)), np.eye(DIM)[:3]]))
    found["unit"] = normalize_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    approved.check("refused-evaluations", found, TMP=tmp_path, WORLD=world)


def of_questions(*choices, answers):
    return [
        MultipleChoiceExample(f"q{i}", "a", choices, answer) for i, answer in enumerate(answers)
    ]


def test_edges_of_protocols(tmp_path, monkeypatch):
    """Long videos with little narration, ties, no foreground, slow features, nested clips."""
    rng, config = np.random.default_rng(6), EvaluateConfig(num_resamples=3)
    encoder, found = WordVectors(), {}
    spec = FeatureSpec(DIM, 1.0, "test", False, "0")
    store = FeatureStore.create(tmp_path / "store", spec)
    slow = FeatureStore.create(tmp_path / "slow", replace(spec, features_per_second=0.4))
    for of in (store, slow):
        of.append("long", rng.normal(size=(260, DIM)))
        of.append("a", rng.normal(size=(9, DIM)))
    trial = Trial(encoder, store, config)
    texts = (
        PlacedText("red box", (), (20.0, 22.0)),
        PlacedText("blue ring", ((30.2, 33.0),), (30.0, 33.0)),
        PlacedText("green moon", (), (60.0, 61.0)),
        PlacedText("white star", ((200.0, 230.5),), (200.0, 230.5)),
    )
    made = evaluate_alignment([AlignmentVideo("long", texts)], trial)
    found["alignment"] = [made.measures, made.baselines, made.rows]
    two = [AlignmentVideo("long", texts), AlignmentVideo("a", texts[:2])]
    made = evaluate_alignment(two, Trial(Unlike(), store, config))
    found["alignment far below zero"] = [made.measures, [row["second"] for row in made.rows]]
    found["distinct"] = alignment._distinct([(0, 4), (0, 6), (2, 6), (0, 4.0005), (3, 3)])
    proposed = propose(trial, store.read("long"), encoder.embed_text(["red"]), np.eye(DIM)[:2])
    found["proposals"] = [[len(of.spans), summary(of.spans), of.similarities] for of in proposed]
    questions = of_questions("red", "red", "blue", answers=[1, 1, 0, 2])
    made = evaluate_multiple_choice(questions, trial)
    found["questions"] = [[row["right"] for row in made.rows], made.baselines]
    blank = segmentation._count(np.array([0, 1, 0]), np.zeros(3, int))
    found["no foreground"] = segmentation._statistics([blank])(np.array([0]))
    right = segmentation._count(np.array([0, 1, 1]), np.array([0, 1, 1]))
    found["one of two"] = segmentation._statistics([right, blank])(np.array([0, 0]))
    found["calibration"] = calibration.calibration_error(np.array([1.0, 0.95]), np.array([0, 1.0]))
    found["slow clips"] = [moment_retrieval._clip_spans(5, rate) for rate in (0.2, 0.5)]
    lengths = [
        MomentExample(f"m{end}", "long", "red", ((0.0, end), (1.0, 1.0 + end)))
        for end in (10.0, 30.0)
    ]
    ranked = [Proposals(np.array([[0.0, 12.0], [0.0, 30.0]]), np.ones(2))] * 2
    found["moments of border lengths"] = [
        dict(statistics(np.arange(len(videos))))
        for statistics, videos in moment_retrieval._moment_statistics(ranked, lengths)
    ][1:]
    found["summaries"] = [
        replace(result, outcome=replace(result.outcome, missing=left[:number])).summary()
        for result in [outcomes.Result("b", "m", made)]
        for left in [tuple(outcomes.Missing(name, "why") for name in "uvwxyz")]
        for number in (0, 5, 6)
    ]
    bins = [outcomes.histogram("h", "x", range(n + 1), {"s": [0.5]}) for n in (24, 25)]
    found["names of bins"] = [len(draw(of).axes[0].get_xticks()) for of in bins]
    nested = [Clip("a", 0, 6), Clip("a", 2, 4), Clip("a", 8, 9)]
    found["background"] = [
        [clip[1:] for clip in paragraphs._with_background(nested, 12, piece)] for piece in (0, 2)
    ]
    found["at a limit"] = moment_retrieval._moment_values([np.array([[x]]) for x in (0.5, 0.7)])
    task = Task("t", "Rest", ("red box", "blue ball"))
    after_the_end = StepVideo("a", task, (Segment(50, 60, 0),))
    videos = (StepVideo("long", task, (Segment(5, 9, 1),)), after_the_end)
    made = evaluate_steps(CrossTask({"t": task}, videos, frozenset()), trial)
    found["steps"] = [made.num_examples, made.rows, made.missing, made.plots[1].counts]
    found["clips"] = [
        find_clip(slow, "a", None, None),
        find_clip(slow, "a", 10.0, None, 3.9),
        find_clip(store, "a", 1.0, 8.0, 2.6),
    ]
    past = np.array([[[0.5, 0.2, 0.0]], [[0.6, 0.9, 0.0]]])  # of a video of two clips
    found["past the clips"] = {
        name: method(past, np.array([2])) for name, method in sequences.METHODS.items()
    }
    flags = []
    headed = WordVectors()
    headed.classes = ("red box",)
    headed.classify_seconds = lambda features, attend_cls: (
        flags.append(attend_cls) or np.zeros((len(features), 2))
    )
    for attend in (True, False):
        of_head = Trial(headed, store, replace(config, attend_cls=attend))
        head_segmenter(("red box",), of_head)[0](LabelledVideo("a", 9.0, ()))
    assert flags == [True, False]
    confusion = draw(outcomes.Confusion("c", ("x", "y"), ((8, 2), (1, 0))))
    found["shares of a row"] = re.findall(r"\(\d+\.\d%\)", to_svg(confusion, "c"))
    devices = []
    monkeypatch.setattr(evaluation.Embedder, "from_pretrained", lambda *a: devices.append(a))
    monkeypatch.setattr(evaluation, "BackboneEncoder", lambda *a: devices.append(a))
    for model in ("folder", "frames"):
        evaluation._encoder(model, store, "cpu")
    assert devices == [("folder", "cpu"), ("test", "cpu")]
    approved.check("edges-of-protocols", found)


def test_what_held_out_videos_decide_at_limits():
    """As few videos as suffice; candidate texts; a standard error of few videos."""
    found = {}
    reranker = SimpleNamespace(weight=torch.ones(()))
    towers, better = np.full((5, 2), 0.5), np.full((5, 2), 0.5) + np.eye(5, 2)
    for number in (4, 5):
        scores = iter([towers[:number], better[:number]])
        model = SimpleNamespace(reranker=reranker)
        found[f"re-ranker, {number} videos"] = held_out.choose_weight(
            model, number, lambda model, scores=scores: next(scores)
        )
        plain = SimpleNamespace(
            temperature=0.2,
            config=SimpleNamespace(learn_temperature=False),
            modules=lambda: [],
        )
        shares = iter(np.linspace(0.3, 0.8, 6)[:, None, None] * np.ones((6, number, 2)))
        found[f"residual, {number} videos"] = held_out.interpolate(
            plain, number, lambda model, shares=shares: next(shares)
        )
    gains = np.array([0.3, -0.05, 0.2, -0.1, 0.25])[:, None] * np.ones((5, 2))
    doubtful = iter([np.full((5, 2), 0.5)] + [0.5 + gains] * 5)
    found["doubtful gain"] = held_out.interpolate(plain, 5, lambda model: next(doubtful))
    found["share"] = held_out.choose_share(np.array([[0, 0.6, 0.5], [1, 0.5, 0.5]]))
    model = SimpleNamespace(similarity=lambda texts, videos: texts @ videos.T)
    videos, texts = torch.eye(3), torch.arange(18.0).view(6, 3)
    found["candidates"] = held_out._similarity(
        model, [(videos[:1], texts[:2]), (videos[1:], texts[2:])]
    )
    approved.check("held-out-limits", found)


def test_a_backbone_as_a_model(monkeypatch):
    spec = FeatureSpec(3, 1.0, "clip", True, "f")
    backbone = SimpleNamespace(
        name="clip", spec=spec, embed_text=lambda texts: np.array([[len(t), 0, 1.0] for t in texts])
    )
    monkeypatch.setattr("videoclip.evaluation.trial.load_backbone", lambda *a: backbone)
    encoder = BackboneEncoder("clip", "cpu")
    rows = np.arange(12.0).reshape(4, 3)
    found = {
        "name": encoder.name,
        "checked": encoder.check(spec),
        "texts": encoder.embed_text(("a", "bcd")),
        "windows": encoder.embed_windows(rows, [(0, 2), (3, 4)]),
        "seconds": encoder.embed_seconds(rows[:2], attend_cls=True),
        "limits": [encoder.temperature, encoder.classes, encoder.max_clip_features],
        "other": outcome(lambda: encoder.check(replace(spec, fingerprint="g"))),
    }
    del backbone.embed_text
    found["no texts"] = outcome(lambda: BackboneEncoder("clip"))
    approved.check("backbone-as-a-model", found)


def test_metrics():
    rng = np.random.default_rng(4)
    similarity = rng.normal(size=(7, 7)).round(0)  # with ties
    groups = np.array([0, 0, 1, 2, 2, 2, 3])
    ranks = ranking.rank_queries(similarity, groups, groups)
    single = ranking.rank_queries(similarity)
    answers = np.array([0, 3, 2, 1, 1, 0, 3])
    choices = np.where(rng.random((7, 4)) < 0.2, -np.inf, similarity[:, :4])
    spans, true = (
        np.array([[0, 4], [3, 5], [3, 5], [6, 6.0], [8, 9]]),
        np.array([[0, 5], [4, 6], [6, 6.0]]),
    )
    overlaps = moments.span_iou(spans, true)
    labels, wanted = np.array([0, 1, 1, 2, 2, 0, 3, 1, 1]), np.array([0, 1, 1, 1, 3, 3, 2, 2, 1])
    masks = rng.random((9, 4)) < 0.4, rng.random((9, 4)) < 0.3
    segments = [Segment(0.4, 2.0, 1), Segment(1.6, 3.2, 2), Segment(7.9, 99, 3), Segment(20, 30, 1)]
    distances = rng.random((5, 9))
    found = {
        "ranks": ranks,
        "single": single,
        "recalls": [ranking.recall_at(ranks, k) for k in (1, 2, 5)],
        "expected": ranking.expected_rank(ranks),
        "entries": ranking.released_rank_entries(single),
        "dual": summary(ranking.dual_softmax(similarity, 0.3)),
        "credit": [
            ranking.choice_credit(choices, answers),
            ranking.released_choice_credit(choices, answers),
        ],
        "overlaps": overlaps,
        "matched": [moments.match_spans(overlaps, iou) for iou in (0.1, 0.5, 0.8)],
        "none true": moments.match_spans(np.zeros((2, 0)), 0.5),
        "precision": [moments.average_precision(overlaps, iou) for iou in (0.1, 0.5, 0.8)],
        "recalled": moments.recalled_spans(spans, true, (0.2, 0.5, 0.9)),
        "recalled by none": moments.recalled_spans(spans[:0], true, (0.2, 0.5)),
        "highlights": [
            moments.highlight_precision(np.array([0.5, 0.5, 0.1, 0.9]), np.array(p, bool))
            for p in ([1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0])
        ],
        "didemo": [
            moments.didemo_agreement(np.array(order), [(0, 1), (1, 1), (0, 0), (5, 5)])
            for order in (range(21), range(20, -1, -1), [6, 0, 1])
        ],
        "segments": [frames.segment_counts(labels, wanted, iou) for iou in (0.1, 0.5, 0.9)],
        "no segments": frames.segment_counts(labels * 0, wanted, 0.1),
        "f1": [frames.segment_f1(*counts) for counts in ((2, 1, 3), (0, 3, 3))],
        "edits": [
            frames.edit_score(*pair)
            for pair in ((labels, wanted), (labels * 0, wanted), (labels * 0, wanted * 0))
        ],
        "recall": [frames.recall_counts(*masks), frames.step_overlap(*masks)],
        "tasks": frames.task_recall(
            np.array([[1, 2], [0, 3], [2, 2], [0, 0]]), np.array([0, 0, 1, 2])
        ),
        "spans": [
            frames.frame_span(*s) for s in ((0.4, 2.1, 5), (-1, 0.5, 5, 2.0), (9, 10, 5), (4, 3, 5))
        ],
        "labels": [frames.label_targets(segments, 9, rate) for rate in (1.0, 2.0)],
        "steps": frames.step_targets(segments, 4, 4, 0.5).astype(int),
        "auc": [
            calibration.roc_auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array(p, bool))
            for p in ([0, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1])
        ],
        "calibration": calibration.calibration_error(
            np.array([0.2, 0.21, 0.9, 1.0]), np.array([1, 0, 1, 0.5])
        ),
        "brier": calibration.brier_scores(np.array([[0.2, 0.8], [1, 0]]), np.array([0, 0])),
        "paragraphs": sequences.paragraph_costs(distances, np.array([2, 3]), np.array([1, 5, 3])),
        "chance": baselines.chance_ranks(np.array([1, 2, 2, 5]), 6),
        "prior": baselines.frequency_ranking([[(0, 1), (0, 1), (2, 2)], [(5, 5), (2, 2), (2, 2)]]),
        "random moments": baselines.random_moments(
            [[(0, 0), (0, 1), (0, 0), (3, 5)], [(1, 1)] * 4, [(1, 1), (2, 2)]]
        ),
        "steps by chance": baselines.random_steps(9, 3, np.random.default_rng(0)).astype(int),
        "even": baselines.even_frames(10, 4),
    }
    approved.check("metrics", found)


def test_alignment_of_texts():
    texts = [
        PlacedText("a", ((1, 2),), (1, 2)),
        *(PlacedText("b", (), (t, t + 4)) for t in (3, 90, 300, 430)),
    ]
    texts += [PlacedText("c", ((400, 410),), (400, 405)), PlacedText("d", (), None)]
    masks = {
        seconds: windows(texts, seconds, rate)
        for seconds, rate in ((500, 1.0), (20, 0.25), (1, 1.0))
    }
    proposals = [
        Proposals(np.array([[0, 5], [4, 9.0], [0, 5]]), np.array([0.9, 0.5, 0.9])),
        Proposals(np.array([[3, 6.0]]), np.array([0.7])),
    ]
    shown = (PlacedText("a", ((0, 5), (0, 5.0001), (7, 7)), step=1), PlacedText("b", (), step=2))
    videos = [
        AlignmentVideo("v", shown, "x"),
        AlignmentVideo("w", (shown[1], shown[0]), "x"),
        AlignmentVideo("u", (PlacedText("b", ((3, 7),), step=2),), "y"),
        AlignmentVideo("t", (PlacedText("b", (), step=5),), "z"),
    ]
    found = {
        "windows": {
            seconds: [np.flatnonzero(np.diff(row.astype(int), prepend=0, append=0)) for row in mask]
            for seconds, mask in masks.items()
        },
        "articles": article_precisions(
            videos, [proposals, proposals[::-1], proposals[1:], proposals[1:]]
        ),
    }
    approved.check("alignment-of-texts", found)


def test_choices_on_held_out_videos():
    rng = np.random.default_rng(3)
    model = make_model(replace(TINY, num_cross_layers=1, normalize=True))
    model.reranker.weight.fill_(0.7)

    def batches(candidates=1):
        for i in range(6):
            generator = torch.Generator().manual_seed(i)
            mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
            yield Batch(
                torch.randn(2, 5, 12, generator=generator),
                mask,
                torch.randint(3, 50, (2 * candidates, 4), generator=generator),
                torch.ones(2 * candidates, 4, dtype=torch.bool),
            )

    found = {
        "retrieval": held_out.held_out_retrieval(model, batches(), 6, 4),
        "of two candidates": held_out.held_out_retrieval(model, batches(2), 6, 4)[
            "text-to-video MedR"
        ],
        "ranks": held_out.reciprocal_ranks(model, batches(), 6),
    }
    learned = make_model(replace(TINY, learn_temperature=True))
    scale = torch.nn.Parameter(torch.full((3,), 2.0))
    learned.extra = SimpleNamespace()
    tries, scores = [], {}
    for low in (0.0, 0.3):
        scores[low] = rng.random((8, 2)) * 0.3

    def interpolated(gain, videos=8):
        tries.clear()
        with torch.no_grad():
            scale.fill_(2.0)
            learned.log_temperature.fill_(-1.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(held_out, "residuals_of", lambda model: [SimpleNamespace(scale=scale)])

            def score(model):
                tries.append(float(scale[0].detach()))
                return scores[0.0] + gain * min(tries[-1], 1.3) + 0.01 * scores[0.3] * tries[-1]

            kept = held_out.interpolate(learned, videos, score)
        return [
            kept,
            str(kept),
            list(tries),
            float(scale[0].detach()),
            float(learned.log_temperature.detach()),
        ]

    found["kept"] = interpolated(0.3)
    found["not kept"] = interpolated(-0.2)
    found["unchecked"] = interpolated(0.3, 4)
    found["share"] = held_out.choose_share(rng.random((6, 9)))
    for name, gain, videos in (
        ("used", 0.1, 8),
        ("not used", -0.1, 8),
        ("equal", 0.0, 8),
        ("few", 1, 4),
    ):
        weight = held_out.choose_weight(
            model,
            videos,
            lambda m, g=gain: scores[0.0] + g * float(m.reranker.weight) * (1 + scores[0.3]),
        )
        found[name] = [weight, str(weight), float(model.reranker.weight)]
    approved.check("held-out-choices", found)


def test_numbers_with_intervals():
    hits = np.array([1, 1, 0, 1, 0, 0, 1, 1.0])
    videos = ["b", "b", "a", "c", "c", "d", "d", "d"]
    config = EvaluateConfig(num_resamples=50, seed=2)
    statistics = outcomes.means(
        {"hit": hits, "all": hits >= 0, "none": hits < 0, "x MedR": hits + 1}
    )
    found = {
        "measures": outcomes.measure(statistics, videos, config),
        "interval": outcomes.bootstrap_interval(
            lambda items: float(len(items)), np.array([3, 3, 1, 2]), np.random.default_rng(0), 30
        ),
        "texts": outcomes.measure_texts(
            {"a": 0.12345, "a low": 0.1, "a high": 0.2, "b": 3, "c low": 1}, ".2f"
        ),
        "timelines": [list(outcomes.some_timelines(lambda i: i, n)) for n in (0, 3, 6, 7, 20)],
        "histogram": outcomes.histogram("t", "x", (0, 1, 2), {"a": [0, 0.5, 1, 2, 3], "b": []}),
        "similarities": outcomes.similarity_histogram(
            "t", ("yes", "no"), np.array([[0.1, 0.4], [0.2, 0.3]]), np.eye(2, dtype=bool)
        ).counts,
        "aligned": outcomes.align_columns([["", "ab"], ["long", "c"], ["x", ""]]),
    }
    missing = tuple(outcomes.Missing(f"v{i // 2}", "no features") for i in range(14))
    made = outcomes.Outcome(
        "how",
        {"a": True, "b": 0.25, "c": 3, "d": "text", "e": False},
        found["measures"],
        (),
        1234,
        5,
        missing,
    )
    result = outcomes.Result("csv", "model 1", made)
    found["result"] = [str(result), result["hit"], result.to_dict()["missing"][-1], result.notes()]
    found["short"] = outcomes.Result("csv", "m", replace(made, missing=missing[:3])).summary()
    approved.check("numbers-with-intervals", found)


def test_figures():
    plots = {
        "histogram": outcomes.Histogram("t", "rank", (1, 2, 3, 6), {"texts": (3, 1, 0)}),
        "two series": outcomes.Histogram(
            "t", "share", (0, 0.5, 1), {"a" * 50: (3, 1), "b": (0, 0)}
        ),
        "many bins": outcomes.Histogram("t", "s", tuple(np.linspace(0, 2, 33)), {"a": (1,) * 32}),
        "bars": outcomes.Bars("t", ("one", "two" * 30), (0.25, 1.0)),
        "confusion": outcomes.Confusion(
            "t", ("none", "cut" * 20, "other things"), ((3, 1, 0), (0, 0, 0))
        ),
        "timeline": outcomes.TimelinePlot(
            "t", 9.0, ((0, 3, "a"), (5, 12, "b")), ((1, 2, "b"), (3, 4, ""))
        ),
    }
    found = {}
    for name, plot in plots.items():
        figure = draw(plot)
        (axes,) = figure.axes
        boxes = [patch for patch in axes.patches]
        found[name] = {
            "size": list(figure.get_size_inches()),
            "limits": [*axes.get_xlim(), *axes.get_ylim()],
            "ticks": [t.get_text() for t in (*axes.get_xticklabels(), *axes.get_yticklabels())][
                :12
            ],
            "label": axes.get_xlabel(),
            "texts": [t.get_text() for t in axes.texts],
            "boxes": summary(
                np.array([[b.get_x(), b.get_y(), b.get_width(), b.get_height()] for b in boxes])
            ),
            "colours": summary(np.array([b.get_facecolor() for b in boxes])),
            "tooltips": [str(b.get_gid() or b.get_url() or "") for b in boxes[:2]],
            "legend": [t.get_text() for legend in figure.legends for t in legend.get_texts()],
        }
    made = outcomes.Outcome(
        "how",
        {"a": 1},
        (outcomes.Measure("hit", 0.5, 0.2, 0.7),),
        (),
        3,
        2,
        plots=tuple(plots.values()),
    )
    page = render_report(outcomes.Result("csv", "model <1>", made))
    titles = re.findall(r"<title>([^<]*)</title>", page)
    found["page"] = [len(titles), titles[:40], "model &lt;1&gt;" in page, page.count("<svg")]
    approved.check("evaluation-figures", found)
