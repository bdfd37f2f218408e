"""Complete results of `Embedder`, compared with what was approved."""

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tests import approved
from tests.library.colours import NAMES, ColourBackbone, write_video
from tests.model.tiny_models import TINY, make_model
from tests.test_embedding import CONFIG, WORDS, make_embedder, make_features
from videoclip import embedding
from videoclip.data.tokenizer import Tokenizer
from videoclip.embedding import Embedder, overlapping_windows
from videoclip.features.backbones import video
from videoclip.model import convert
from videoclip.model.hub import ModelCard


def test_arrays():
    found = {}
    for name, config in {
        "normalised": CONFIG,
        "plain": replace(CONFIG, normalize=False, temperature=0.5, features_per_second=2.5),
        "with a head": replace(CONFIG, classes=("background", "cut", "fry")),
    }.items():
        embedder = make_embedder(config)
        features = make_features(25)
        whole = embedder.embed_features(features)
        short = embedder.embed_features(make_features(2, seed=1), attend_cls=False)
        found[name] = {
            "texts": embedder.embed_text(["w1", "w2 w3 zz", " ".join(WORDS)])[:, ::4],
            "tokens": whole.tokens[::6, ::4],
            "pooled": whole.pooled[::4],
            "short": short.tokens[:, ::4],
            "windows": embedder.embed_windows(features, [(0, 1), (3, 12), (0, 25), (20, 25)])[
                :, ::4
            ],
            "no windows": embedder.embed_windows(features, []).shape,
            "similarity": embedder.similarity(["w1", "w2"], [whole, short]),
            "facts": [
                repr(whole),
                whole.duration,
                embedder.temperature,
                len(embedder.fingerprint),
                repr(embedder),
            ],
        }
        if config.classes:
            logits = [
                embedder.classify_features(features, attend_cls=a)[::9] for a in (False, True)
            ]
            found[name]["logits"] = logits
    again = pickle.loads(pickle.dumps(whole))
    found["pickled"] = [np.array_equal(again.pooled, whole.pooled), again._embed_whole]
    found["overlapping"] = {
        f"{n} {length} {overlap}": " ".join(
            f"{a}-{b}" for a, b in overlapping_windows(n, length, overlap)
        )
        for n, length, overlap in (
            (10, 4, 0.5),
            (10, 3, 0.5),
            (10, 3, 0.9),
            (3, 9, 0.5),
            (5, 1, 0.0),
        )
    }
    approved.check("embedding-arrays", found)


def words():
    return Tokenizer(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *NAMES, *(f"w{i}" for i in range(40))])


def colours():
    config = replace(TINY, backbone="colours", feature_dim=len(NAMES), normalize=True)
    return Embedder(make_model(config), words(), "cpu", backbone=ColourBackbone())


class TwoFrames(ColourBackbone):
    frames_per_second, frames_per_feature = 2.0, 2


def test_videos_and_errors(tmp_path, monkeypatch):
    a = write_video(tmp_path / "a.mp4", ["red", "blue", "green"])
    b = write_video(tmp_path / "b.mp4", ["yellow"])
    (tmp_path / "bad.mp4").write_text("x")
    embedder, progress = colours(), []
    together = embedder.embed_videos([a, str(b), a], lambda *state: progress.append(state))
    decoded = [path.name for path in embedder.backbone.decoded]
    broken = colours()
    broken.backbone.embed_frames = lambda frames: np.full((len(frames), len(NAMES)), np.nan, "f4")
    frames = np.stack([np.full((8, 8, 3), c, np.uint8) for c in (20, 20, 235, 235, 235)])
    in_memory = embedder.embed_frames(frames, 2.0)
    listed = embedder.embed_frames([frames[0], frames[2]], 1)
    plain, features = make_embedder(), make_features(4)
    wrong = {
        "no words": partial(plain.embed_text, ["w1", ""]),
        "no texts": partial(plain.embed_text, []),
        "a number": partial(plain.embed_text, ["w1", 5]),
        "no list": partial(plain.embed_text, 5),
        "a video": partial(embedder.embed_video, tmp_path / "no.mp4"),
        "one of three": partial(embedder.embed_videos, [a, tmp_path / "bad.mp4", b]),
        "two of three": partial(
            embedder.embed_videos, [tmp_path / "bad.mp4", tmp_path / "no.mp4", b]
        ),
        "no number": partial(broken.embed_videos, [a]),
        "a name": partial(embedder.embed_videos, "a.mp4"),
        "no videos": partial(embedder.similarity, "red", []),
        "other things": partial(embedder.similarity, "red", [features]),
        "frames of two sizes": partial(embedder.embed_frames, [frames[0], frames[0][:4]], 1.0),
        "no rate": partial(embedder.embed_frames, frames, 0),
        "width": partial(plain.embed_features, features[:, :5]),
        "dimensions": partial(plain.embed_features, features[0]),
        "no features": partial(plain.embed_features, features[:0]),
        "not finite": partial(plain.embed_features, features * np.nan),
        "infinite": partial(plain.embed_features, features * np.inf),
        "empty span": partial(plain.embed_windows, features, [(0, 2), (3, 3)]),
        "span outside": partial(plain.embed_windows, features, [(0, 5)]),
        "negative span": partial(plain.embed_windows, features, [(-1, 2)]),
        "no head": partial(plain.classify_features, features),
        "recipe": partial(Embedder.from_pretrained, "small"),
        "no folder": partial(Embedder.from_pretrained, tmp_path / "none"),
        "vocabulary": partial(Embedder, make_model(CONFIG), Tokenizer(WORDS[:-1])),
        "other pad": partial(Embedder, make_model(replace(CONFIG, pad_id=5)), Tokenizer(WORDS)),
        "other end": partial(Embedder, make_model(replace(CONFIG, sep_id=5)), Tokenizer(WORDS)),
        "a name as embedder": partial(embedding.check_embedder, Path("x")),
    }
    saved = tmp_path / "model"
    embedder.save_pretrained(saved)
    monkeypatch.chdir(tmp_path)
    embedder.save_pretrained("tiny")  # which is the name of a recipe, too
    kept = []
    monkeypatch.setattr(embedding.hub, "save_model", lambda *values: kept.append(values[1:]))
    monkeypatch.setattr(
        embedding.hub, "push", lambda save, name, private: [save("F"), name, private][1:]
    )
    monkeypatch.setattr(
        embedding,
        "load_backbone",
        lambda name, device: kept.append([name, device]) or TwoFrames(),
    )
    pushed = embedder.push_to_hub("a/b", private=True, card=ModelCard(data="talks"))
    fast = Embedder(make_model(replace(embedder.config, features_per_second=3.0)), words())
    wrong["rate"] = partial(Embedder.from_pretrained, saved, frames_per_second=2.0)
    loaded = Embedder.from_pretrained(saved, backbone=ColourBackbone(), frames_per_second=1.0)
    moved = Embedder(
        make_model(replace(embedder.config, backbone="image:/no/folder")), embedder.tokenizer
    )
    wrong["moved backbone"] = lambda: moved.backbone
    other = Embedder(
        make_model(replace(embedder.config, feature_dim=5)),
        embedder.tokenizer,
        backbone=ColourBackbone(),
    )
    wrong["other backbone"] = lambda: other.backbone
    files_only = type("Files", (), {"name": "files", "spec": ColourBackbone.spec})()
    wrong["files only"] = partial(
        Embedder(make_model(embedder.config), embedder.tokenizer, backbone=files_only).embed_frames,
        frames,
        1.0,
    )
    approved.check(
        "embedding-videos",
        {
            "tokens": [[video.tokens.shape, video.features.argmax(axis=1)] for video in together],
            "is the same": np.array_equal(together[0].tokens, together[2].tokens),
            "progress": progress,
            "decoded": decoded,
            "by name": repr(Embedder.from_pretrained("tiny", "cpu:0")),
            "pushed": [pushed, kept[0][0], kept[0][2]],
            "at another rate": [fast.backbone.frames_per_second, kept[1]],
            "similarity": embedder.similarity(["red", "blue green"], [a, together[1], str(b)]),
            "frames": [in_memory.features.argmax(axis=1), listed.features.argmax(axis=1)],
            "saved": sorted(path.name for path in saved.iterdir()),
            "loaded": [repr(loaded), loaded.source, loaded.fingerprint == embedder.fingerprint],
            "errors": {name: approved.outcome(call) for name, call in wrong.items()},
        },
        TMP=tmp_path,
    )


def test_models_that_are_not_ours(tmp_path, monkeypatch):
    """What is taken of the starter and of a dual encoder, with other frames and backbones."""
    config, given = replace(TINY, feature_dim=len(NAMES), backbone="colours"), ColourBackbone()
    monkeypatch.setattr(convert, "starter_model", lambda: (make_model(config), words()))
    starters = [
        Embedder.from_pretrained("starter", backbone=given, frames_per_second=rate)
        for rate in (None, 2.5)
    ]
    asked = []

    def frames_spec(*names):
        asked.append(names)
        return replace(ColourBackbone.spec, features_per_second=names[2] or 1.0)

    def start_model(texts, spec):
        return make_model(replace(config, features_per_second=spec.features_per_second))

    texts = SimpleNamespace(dim=16, tokenizer=words(), fingerprint="0123456789abcdefXYZ")
    monkeypatch.setattr(embedding, "is_transformers_model", lambda folder: True)
    monkeypatch.setattr(embedding, "model_folder", lambda name: tmp_path)
    monkeypatch.setattr(embedding, "load_text_tower", lambda name: texts)
    monkeypatch.setattr(embedding, "start_model", start_model)
    monkeypatch.setattr(video, "frames_spec", frames_spec)
    duals = [
        Embedder.from_pretrained("own/er", "cpu:0", backbone=given, frames_per_second=rate)
        for rate in (None, 4.0)
    ]
    approved.check(
        "embedding-others",
        [
            [
                repr(one),
                one.config.features_per_second,
                one.fingerprint if one in duals else "",
                one._given_backbone is given,
            ]
            for one in (*starters, *duals)
        ]
        + asked,
    )


def test_batches():
    """What is given to the model at once."""
    embedder, seen = make_embedder(batch_size=2), []
    encode = embedder.model.encode_video

    def record(video, mask):
        seen.append(
            [list(video.shape), mask.sum(dim=1).tolist(), torch.is_inference_mode_enabled()]
        )
        return encode(video, mask)

    embedder.model.encode_video = record
    embedder.embed_windows(make_features(30), [(0, 30), (2, 4), (5, 6)])
    approved.check("embedding-batches", seen)
