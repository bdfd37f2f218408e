"""Our models for MTEB and sentence-transformers, with stand-ins for the two packages.

`test_mteb.py` and `test_sentence_transformers.py` use the packages themselves, where they are.
"""

import sys
from dataclasses import replace
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from tests.library.colours import ColourBackbone, write_video
from tests.model.tiny_models import make_model
from videoclip.embedding import Embedder
from videoclip.errors import CheckpointError, DataError, DecodeError, MissingExtraError


@pytest.fixture
def stand_in(monkeypatch):
    """Function of one of our modules and what replaces others: imports it, and forgets it again."""

    def load(name, modules):
        for module, content in modules.items():
            made = ModuleType(module)
            vars(made).update(content)
            monkeypatch.setitem(sys.modules, module, made)
        monkeypatch.delitem(sys.modules, f"videoclip.integrations.{name}", raising=False)
        loaded = import_module(f"videoclip.integrations.{name}")
        monkeypatch.delitem(sys.modules, f"videoclip.integrations.{name}")
        return loaded

    return load


@pytest.fixture
def mteb(stand_in):
    class ModelMeta(SimpleNamespace):
        pass

    scoring = SimpleNamespace(COSINE="cosine", DOT_PRODUCT="dot")
    modules = {
        "mteb": {},
        "mteb.models": {"ModelMeta": ModelMeta},
        "mteb.models.abs_encoder": {"AbsEncoder": object},
        "mteb.models.model_meta": {"ScoringFunction": scoring},
    }
    return stand_in("mteb", modules)


class InputModule(torch.nn.Module):
    """What `sentence_transformers` does for its modules: finds the folder of one."""

    folders = None  # by the name of a model
    asked = None

    @classmethod
    def load_dir_path(cls, name, subfolder, **options):
        cls.asked.append((name, subfolder, options))
        return cls.folders.get(name)


@pytest.fixture
def sentences(stand_in):
    modules = {
        "sentence_transformers": {"SentenceTransformer": SimpleNamespace},
        "sentence_transformers.base": {},
        "sentence_transformers.base.modules": {"InputModule": InputModule},
        "sentence_transformers.base.modality": {
            "is_video_url_or_path": lambda text: text.endswith(".mp4")
        },
    }
    return stand_in("sentence_transformers", modules)


@pytest.fixture(scope="module")
def embedded(embedder, tmp_path_factory):
    """Videos and their embeddings."""
    folder = tmp_path_factory.mktemp("videos")
    videos = [write_video(folder / f"{i}.mp4", ["red"] * i + ["blue"]) for i in (3, 1, 2)]
    return videos, np.stack([video.pooled for video in embedder.embed_videos(videos)])


def without_norm(embedder):
    config = replace(embedder.config, normalize=False)
    return Embedder(make_model(config), embedder.tokenizer, "cpu", backbone=ColourBackbone())


FRAMES = np.repeat(np.array([[220, 30, 30], [30, 30, 220]], np.uint8), 4, axis=0)
FRAMES = np.broadcast_to(FRAMES[:, None, None], (8, 32, 32, 3))
TEXTS = ["red", "blue", "green blue"]


def loader_of(features, rows):
    class Rows(list):
        pass

    dataset = Rows(rows)
    dataset.features = features
    return SimpleNamespace(dataset=dataset)


def test_mteb_gets_the_embeddings_of_texts_videos_and_both(mteb, embedder, embedded):
    encoder, (videos, wanted) = mteb.MtebEncoder(embedder), embedded
    stored = [{"bytes": video.read_bytes(), "path": None} for video in videos]
    named = [{"bytes": None, "path": str(video)} for video in videos]
    for given in stored, named:
        found = encoder.encode(loader_of(["video"], [{"video": video} for video in given]))
        assert np.array_equal(found, wanted) and found.dtype == np.float32
    rows = [{"text": text, "video": video} for text, video in zip(TEXTS, named, strict=True)]
    texts = embedder.embed_text(TEXTS)
    assert np.array_equal(encoder.encode(loader_of(["text", "id"], rows)), texts)
    both = encoder.encode(loader_of(["text", "video"], rows))
    np.testing.assert_allclose(both, (texts + wanted) / 2, rtol=1e-6)
    suffixes = []
    encoder.embedder = SimpleNamespace(embed_video=lambda path: suffixes.append(path[-4:]))
    for path in "a.mkv", None:
        encoder._embed({"bytes": b"", "path": path})
    assert suffixes == [".mkv", ".mp4"]
    message = "MTEB gave image, label, but the model takes text and video"
    with pytest.raises(DataError, match=message):
        encoder.encode(loader_of(["image", "label"], [{}]))


def test_mteb_gives_decoders_and_asks_that_videos_stay_undecoded(mteb, embedder, monkeypatch):
    class Decoder:
        metadata = SimpleNamespace(average_fps=4.0)

        def __len__(self):
            return len(FRAMES)

        def get_frames_in_range(self, start, stop):
            data = torch.from_numpy(FRAMES[start:stop].copy()).permute(0, 3, 1, 2)
            return SimpleNamespace(data=data)

    inputs = loader_of(["video"], [{"video": Decoder()}])
    encoder, wanted = mteb.MtebEncoder(embedder), embedder.embed_frames(FRAMES, 4.0).pooled
    assert np.array_equal(encoder.encode(inputs), wanted[None])
    casts, rows = [], inputs.dataset
    datasets = ModuleType("datasets")
    datasets.Video = lambda decode: ("Video", decode)
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    rows.cast_column = lambda *cast: casts.append(cast) or rows
    assert np.array_equal(encoder.encode(inputs), wanted[None])
    assert casts == [("video", ("Video", False))]


def test_mteb_stores_what_the_model_is(mteb, embedder, tmp_path, monkeypatch):
    meta = mteb.MtebEncoder(embedder).mteb_model_meta
    num_parameters = sum(parameter.numel() for parameter in embedder.model.parameters())
    assert (
        vars(meta).items()
        >= {
            "name": "videoclip/model",
            "revision": embedder.fingerprint,
            "n_parameters": num_parameters,
            "max_tokens": embedder.config.max_text_tokens,
            "embed_dim": embedder.config.hidden_size,
            "similarity_fn_name": "cosine",
            "modalities": ["text", "video"],
            "use_instructions": False,
        }.items()
    )
    large = SimpleNamespace(parameters=lambda: [torch.empty(5 * 2**20, device="meta")])
    made = SimpleNamespace(config=embedder.config, model=large, source="", fingerprint="f")
    assert mteb.model_meta(made).memory_usage_mb == 20
    assert mteb.MtebEncoder(without_norm(embedder)).mteb_model_meta.similarity_fn_name == "dot"
    assert mteb.MtebEncoder(embedder, "v2").mteb_model_meta.revision == "v2"
    embedder.save_pretrained(tmp_path / "mine")
    devices = []
    from_pretrained = Embedder.from_pretrained
    monkeypatch.setattr(
        Embedder,
        "from_pretrained",
        lambda model, device: devices.append(device) or from_pretrained(model, "cpu"),
    )
    meta = mteb.MtebEncoder(tmp_path / "mine").mteb_model_meta
    assert meta.name == "videoclip/mine"
    loaded = meta.loader(meta.name, "v3", device="cpu")
    assert loaded.embedder.fingerprint == embedder.fingerprint
    assert loaded.mteb_model_meta.revision == "v3" and devices == ["auto", "cpu"]


def test_sentence_transformers_gets_the_embeddings(sentences, embedder, embedded):
    model = sentences.sentence_transformer(embedder)
    assert (model.device, model.similarity_fn_name) == ("cpu", "cosine")
    assert sentences.sentence_transformer(without_norm(embedder)).similarity_fn_name == "dot"
    [module] = model.modules
    assert module.get_embedding_dimension() == embedder.config.hidden_size == 16
    assert module.modalities == ["text", "video"] and not module.save_in_root
    assert len(list(module.parameters())) == len(list(embedder.model.parameters()))

    def encode(inputs, **options):
        return module(module.preprocess(inputs, **options))["sentence_embedding"].numpy()

    videos, wanted = embedded
    embedder.device = torch.device("meta")  # the library has moved the model since
    assert np.array_equal(encode(TEXTS), embedder.embed_text(TEXTS))
    prompted = embedder.embed_text([f"blue {text}" for text in TEXTS])
    assert np.array_equal(encode(TEXTS, prompt="blue "), prompted)
    for given in (videos, list(map(str, videos)), [{"video": str(video)} for video in videos]):
        assert np.array_equal(encode(given, prompt="blue "), wanted)
    mixed = ["red", str(videos[0])]  # is not embedded as one of them
    assert module.preprocess(mixed) == {"videos": mixed}
    with pytest.raises(DecodeError, match="red"):
        encode(mixed)
    of_frames = embedder.embed_frames(FRAMES, 4.0).pooled
    for array in (FRAMES, FRAMES.transpose(0, 3, 1, 2)):
        given = {"array": array, "video_metadata": {"fps": 4.0}}
        for one in given, {"video": given}:
            assert np.array_equal(encode([one]), of_frames[None])
    low = {"array": FRAMES[:, :3], "video_metadata": {"fps": 4.0}}
    assert np.array_equal(encode([low])[0], embedder.embed_frames(FRAMES[:, :3], 4.0).pooled)
    for metadata in None, {}, {"fps": 0}:
        with pytest.raises(DataError, match="frames without their rate: give a path, or frames"):
            encode([{"video": {"array": FRAMES, "video_metadata": metadata}}])
    with pytest.raises(DataError, match="frames without their rate"):
        encode([FRAMES])


def test_sentence_transformers_saves_and_loads(sentences, embedder, tmp_path, monkeypatch):
    [module] = sentences.sentence_transformer(embedder).modules
    module.save(str(tmp_path / "saved"))
    monkeypatch.setattr(InputModule, "folders", {"hub/model": tmp_path / "saved"})
    monkeypatch.setattr(InputModule, "asked", [])
    kept = {"token": "t", "cache_folder": "c", "revision": "r", "local_files_only": True}
    loaded = sentences.VideoCLIPModule.load("hub/model", "0_Module", **kept, trust=1)
    assert InputModule.asked == [("hub/model", "0_Module", kept)]
    assert loaded._embedder.fingerprint == embedder.fingerprint
    with pytest.raises(CheckpointError, match="hub/other has no folder 0_Module: save it again"):
        loaded.load("hub/other", "0_Module")
    named = sentences.sentence_transformer(tmp_path / "saved", "cpu:0")
    assert named.device == "cpu:0"
    assert named.modules[0]._embedder.source == str(tmp_path / "saved")


@pytest.mark.parametrize(
    ("name", "package", "what"),
    [
        ("mteb", "mteb", "MTEB needs the extra 'mteb'"),
        ("sentence_transformers", "sentence_transformers", "the extra 'sentence-transformers'"),
    ],
)
def test_without_the_package_its_extra_is_named(monkeypatch, name, package, what):
    monkeypatch.delitem(sys.modules, f"videoclip.integrations.{name}", raising=False)
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=what):
        import_module(f"videoclip.integrations.{name}")
