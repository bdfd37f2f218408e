"""Embedder: backbone, tokenizer and model as one object that turns texts and videos into arrays.

It is the door to everything a user searches with, so it checks that features, vocabulary and model
belong together.
"""

import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videoclip.config import ModelConfig
from videoclip.data.tokenizer import Tokenizer, pad_tokens
from videoclip.data.windows import average_windows, sliding_windows
from videoclip.distributed import choose_device
from videoclip.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    VideoCLIPError,
)
from videoclip.features.backbones import Backbone, check_features, load_backbone
from videoclip.features.extract import features_of
from videoclip.model import hub
from videoclip.model.dual_encoder import start_model
from videoclip.model.hub import ModelCard
from videoclip.model.videoclip import VideoCLIP, pad_features
from videoclip.pretrained.known import STARTER, full_name
from videoclip.pretrained.loading import is_transformers_model, model_folder
from videoclip.pretrained.text_tower import TextTower, load_text_tower
from videoclip.recipes import RECIPES
from videoclip.types import FloatArray, IntArray, OnProgress, RealArray

ItemT = TypeVar("ItemT")

MAX_CHARACTERS = 100_000
"""Of a text, what is divided into tokens, of which models take at most some hundreds: 30 MB of
subtitles would take gigabytes."""
BATCHES_AT_ONCE = 64
"""Batches of windows that are in memory at once: a day of video has 167,000 windows."""


@dataclass(frozen=True)
class VideoEmbedding:
    """A video, embedded second by second and as a whole.

    Attributes:
        tokens: (T, E) float32, one vector a feature; where windows overlap, their mean.
        features: (T, D) the frozen features they were made from.
        features_per_second: Feature i stands for seconds [i / rate, (i + 1) / rate).
    """

    tokens: FloatArray
    features: FloatArray
    features_per_second: float
    _embed_whole: Callable[[FloatArray], FloatArray] | None = field(
        default=None, repr=False, compare=False
    )

    @cached_property
    def pooled(self) -> FloatArray:
        """(E,) embedding of the whole video, as `encode_video` pools it; computed on first use.

        A video longer than the model's longest clip is the mean of its even pieces
        (`Embedder.embed_windows`). Compare it with texts by `Embedder.similarity`.
        """
        assert self._embed_whole is not None, "made without an Embedder"
        return self._embed_whole(self.features)

    @property
    def duration(self) -> float:
        """Seconds covered by features."""
        return len(self.tokens) / self.features_per_second

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the arrays without the model."""
        pooled = {"pooled": self.pooled} if self._embed_whole else {}
        return {**self.__dict__, **pooled, "_embed_whole": None}

    def __repr__(self) -> str:
        """Show length and width instead of arrays."""
        num_tokens, width = self.tokens.shape
        return f"VideoEmbedding({self.duration:g} s, {num_tokens} x {width})"


class EmbedVideosError(VideoCLIPError):
    """Some of the videos given to `Embedder.embed_videos` could not be embedded.

    Attributes:
        embeddings: The other videos, by path as given.
        failed: Reason for each video that failed, by path as given.
    """

    def __init__(
        self, embeddings: dict[Path, VideoEmbedding], failed: dict[Path, VideoCLIPError]
    ) -> None:
        self.embeddings = embeddings
        self.failed = failed
        path, error = next(iter(failed.items()))
        first = str(error) if str(path) in str(error) else f"{path}: {error}"
        others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        super().__init__(
            f"{len(failed)} of {len(failed) + len(embeddings)} videos could not be embedded "
            f"({first}{others}): leave them out, or take the others from this error's embeddings"
        )


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Lengths of the windows that are embedded for search; stored with a library.

    A moment can last three seconds or half a minute, and a pooled embedding matches best when its
    window is about as long; hence several lengths. The single seconds decide where a moment
    begins, ends and is best.
    """

    lengths: tuple[float, ...] = (1.0, 4.0, 8.0, 16.0, 32.0)
    """Seconds, ascending; neighbours of one length overlap by half, those of a second do not."""

    def __post_init__(self) -> None:
        if not self.lengths or self.lengths[0] <= 0 or list(self.lengths) != sorted(self.lengths):
            raise ConfigError(f"windows.lengths must be positive and ascending, got {self.lengths}")


def overlapping_windows(
    num_features: int, length: int, overlap: float = 0.5
) -> list[tuple[int, int]]:
    """Return the windows of one length, the last of which ends with the video.

    Args:
        num_features: T of the video, at least 1.
        length: Of a window, at least 1; a shorter video is one window.
        overlap: Of neighbours, as a share of their length.
    """
    length = min(length, num_features)
    last = num_features - length
    starts = [*range(0, last, max(1, int((1 - overlap) * length))), last]
    return [(start, start + length) for start in starts]


@lru_cache(maxsize=4096)
def window_spans(
    num_features: int, features_per_second: float, config: WindowConfig | None = None
) -> IntArray:
    """List the windows of a video, shortest length first, in order of time within a length.

    Every feature is covered at every length that fits; the last window of a length ends with the
    video. Windows of at most a second lie side by side, longer ones overlap by half. A video
    shorter than the shortest length is one window.

    Args:
        num_features: T, at least 1.
        features_per_second: Rate of the features.
        config: Lengths; the default ones if None.

    Returns:
        (W, 2) half-open ranges of features, without repeats.
    """
    assert num_features > 0
    spans: list[tuple[int, int]] = []
    for seconds in (config or WindowConfig()).lengths:
        length = max(1, round(seconds * features_per_second))
        spans += overlapping_windows(num_features, length, 0.5 if seconds > 1 else 0.0)
        if length >= num_features:
            break
    windows = np.array(list(dict.fromkeys(spans)), dtype=np.int64)  # (W, 2)
    windows.flags.writeable = False  # the cache shares it between videos
    return windows


@lru_cache(maxsize=4096)
def num_shortest_windows(
    num_features: int, features_per_second: float, config: WindowConfig | None = None
) -> int:
    """Return how many of a video's windows are of the shortest length; see `window_spans`."""
    starts, ends = window_spans(num_features, features_per_second, config).T
    lengths = ends - starts
    return int(np.count_nonzero(lengths == lengths[0]))


class Embedder:
    """Turns texts and videos into comparable arrays.

    Args:
        model: The two towers; put into eval mode.
        tokenizer: The vocabulary the text tower was trained with.
        device: Torch device to compute on; "auto" is the GPU where there is one.
        batch_size: Clips or texts per forward pass.
        backbone: The frozen backbone, or its name for `load_backbone`, where it is not to be
            loaded as the model names it: a backbone whose folder was moved.

    Attributes:
        source: Folder, hub id or name it was loaded from; empty if it was made otherwise.

    Raises:
        CheckpointError: If model and tokenizer do not belong together.
    """

    def __init__(
        self,
        model: VideoCLIP,
        tokenizer: Tokenizer,
        device: torch.device | str = "auto",
        batch_size: int = 64,
        *,
        backbone: Backbone | str | None = None,
    ) -> None:
        _check_vocabulary(model.config, tokenizer)
        self.device = torch.device(choose_device(str(device)))
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._given_backbone = backbone
        self.source = ""
        self._fingerprint: str | None = None

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: Path | str,
        device: torch.device | str = "auto",
        *,
        backbone: Backbone | str | None = None,
        frames_per_second: float | None = None,
    ) -> Self:
        """Load a model by its folder or hub id, or "starter".

        Args:
            folder_or_hub_id: A VideoCLIP, or any dual encoder of `transformers` (CLIP, SigLIP,
                ALIGN and the like); short names are in `videoclip models`.
            device: Torch device to compute on; "auto" is the GPU where there is one.
            backbone: The frozen backbone or its name, if its folder was moved.
            frames_per_second: Rate at which frames are sampled; by default the model's own. Only a
                dual encoder as it is takes another one: a trained model has the rate it was trained
                at.

        Raises:
            ConfigError: If the model cannot take frames at this rate.
            CheckpointError: If there is no such model or it is damaged.
            MissingExtraError: If the packages of "starter" are not installed.
        """
        name = full_name(folder_or_hub_id)
        if name == STARTER:
            from videoclip.model.convert import starter_model

            embedder = cls(*starter_model(), device=device, backbone=backbone)
            if frames_per_second is not None:
                from videoclip.features.backbones.starter import StarterBackbone

                rate = frames_per_second / StarterBackbone.frames_per_feature
                embedder.model.config = replace(embedder.config, features_per_second=rate)
        elif name in RECIPES and not Path(name).exists():
            raise CheckpointError(
                f"{name} is a recipe, not a model; `videoclip pretrain {name}` trains one, "
                "then name its folder RUN/model"
            )
        elif is_transformers_model(folder := model_folder(name)):
            from videoclip.features.backbones.video import frames_spec

            texts = load_text_tower(name)
            spec = frames_spec(name, texts.dim, frames_per_second)
            model = start_model(texts, spec)
            embedder = cls(model, texts.tokenizer, device, backbone=backbone)
            at_rate = f"-{spec.features_per_second:g}" if frames_per_second else ""
            embedder._fingerprint = f"{texts.fingerprint[:16]}-{spec.fingerprint}{at_rate}"
        else:
            model = VideoCLIP.from_pretrained(folder)
            tower = _text_tower(model)
            tokenizer = tower.tokenizer if tower else Tokenizer.from_folder(folder)
            embedder = cls(model, tokenizer, device, backbone=backbone)
            embedder._fingerprint = hub.stored_fingerprint(folder)
            if frames_per_second not in (None, model.config.features_per_second):
                known = model.config.features_per_second
                raise ConfigError(
                    f"{name} was trained on {known:g} features a second, which cannot be changed: "
                    "leave out --frames-per-second"
                )
        embedder.source = name
        return embedder

    def save_pretrained(self, folder: Path | str, card: ModelCard | None = None) -> None:
        """Write weights, config, vocabulary, model card and checksums, for `from_pretrained`.

        Args:
            folder: Made if need be.
            card: What the model card states beyond the settings.
        """
        hub.save_model(self.model, Path(folder), self.tokenizer, card)

    def push_to_hub(
        self, hub_id: str, *, private: bool = False, card: ModelCard | None = None
    ) -> str:
        """Upload weights, vocabulary and card to the Hugging Face hub; return the address there.

        A backbone that was trained with the model is uploaded too; one in another local folder is
        not, and whoever uses the model needs it.

        Args:
            hub_id: `owner/name`, which `from_pretrained` takes.
            private: Whether a new repository is private.
            card: What the model card states beyond the settings.

        Raises:
            ConfigError: If there is no access token.
            CheckpointError: If the upload fails.
        """
        return hub.push(lambda folder: self.save_pretrained(folder, card), hub_id, private=private)

    def __repr__(self) -> str:
        """Show what is loaded: model, width, backbone and device."""
        source = f"{self.source!r}, " if self.source else ""
        return (
            f"Embedder({source}{self.config.hidden_size}-d, "
            f"backbone {self.config.backbone!r}, {self.device})"
        )

    @property
    def config(self) -> ModelConfig:
        """Settings of the model, which features and libraries must agree with."""
        return self.model.config

    @property
    def temperature(self) -> float:
        """Divisor of similarities before a softmax; learned, if `config.learn_temperature`."""
        return float(torch.as_tensor(self.model.temperature).detach())

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen backbone this model needs, loaded on first use.

        Raises:
            CheckpointError: If its weights are missing.
            IndexMismatchError: If its features are not what the model was trained on.
        """
        backbone = self._given_backbone or self.config.backbone
        if isinstance(backbone, str):
            source = backbone.partition(":")[2]
            if Path(source).is_absolute() and not Path(source).is_dir():
                raise CheckpointError(
                    f"the model's backbone folder {source} does not exist: put it back, or name "
                    'the folder where it is now under "backbone" in the model\'s config.json'
                )
            backbone = load_backbone(backbone, str(self.device))
            from videoclip.features.frame_backbone import FrameBackbone

            spec, rate = backbone.spec, self.config.features_per_second
            if spec.features_per_second != rate and isinstance(backbone, FrameBackbone):
                backbone = backbone.at_rate(rate * backbone.frames_per_feature)
        check_features(self.config, backbone.spec)
        return backbone

    @property
    def fingerprint(self) -> str:
        """Hex digest of weights, settings and vocabulary; equal where embeddings compare."""
        if self._fingerprint is None:
            self._fingerprint = hub.fingerprint(self.model, self.tokenizer)
        return self._fingerprint

    def embed_text(self, texts: str | Sequence[str]) -> FloatArray:
        """Embed texts; each is cut to the model's longest text.

        Bare words ("dog") are put into the sentence that CLIP and SigLIP were trained on (`phrase`
        of their text side).

        Args:
            texts: One text or N of them.

        Returns:
            (N, E) float32; N is 1 for a single text.

        Raises:
            DataError: If there are no texts, or one is not a text or has no words.
        """
        texts = list_of(str, [texts] if isinstance(texts, str) else texts, "texts")
        if not texts:
            raise DataError("there are no texts to embed: give at least one")
        longest = self.config.max_text_tokens
        if tower := _text_tower(self.model):
            texts = [tower.phrase(text) for text in texts]
        texts = [text[:MAX_CHARACTERS] for text in texts]
        token_ids = [ids[:longest] for ids in self.tokenizer.encode_literal(texts)]
        if empty := [i for i, ids in enumerate(token_ids) if not ids]:
            raise DataError(f"text {empty[0] + 1} of {len(texts)} has no words")
        pad = partial(pad_tokens, pad_id=self.config.pad_id)
        return self._in_batches(token_ids, pad, self.model.encode_text)

    def embed_video(self, path: Path | str) -> VideoEmbedding:
        """Embed a video file second by second.

        Raises:
            DecodeError: If the video cannot be read.
        """
        return self.embed_features(features_of(self.backbone, Path(path)))

    def embed_videos(
        self, paths: Sequence[Path | str], on_progress: OnProgress | None = None
    ) -> list[VideoEmbedding]:
        """Embed many video files second by second; windows of all videos share forward passes.

        Args:
            paths: Video files.
            on_progress: Called with videos read and videos in all.

        Returns:
            One for each path, in order, equal to what `embed_video` returns.

        Raises:
            DataError: If it is not a list of paths.
            EmbedVideosError: If videos cannot be read, after all others were embedded; it lists
                the reasons and carries the other embeddings.
        """
        paths = list_of((str, Path), paths, "videos")
        features: dict[Path, FloatArray] = {}
        failed: dict[Path, VideoCLIPError] = {}
        backbone = self.backbone
        for done, path in enumerate(map(Path, paths), start=1):
            try:
                if path not in features and path not in failed:
                    features[path] = self._checked(features_of(backbone, path))
            except VideoCLIPError as error:
                failed[path] = error
            if on_progress:
                on_progress(done, len(paths))
        embedded = dict(zip(features, self._embed_many(list(features.values())), strict=True))
        if failed:
            raise EmbedVideosError(embedded, failed)
        return [embedded[Path(path)] for path in paths]

    def embed_frames(
        self, frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], frames_per_second: float
    ) -> VideoEmbedding:
        """Embed frames in memory second by second, as a file of these frames would be.

        They are sampled at the backbone's rate and scaled to its size by the same code that reads
        files; a file differs only by what its compression lost.

        Args:
            frames: (N, H, W, 3) uint8 RGB, at least one; or a list of N such frames.
            frames_per_second: Frame i is on screen from i / frames_per_second on.

        Raises:
            ConfigError: If the rate is not a positive number, or the backbone reads files only.
            DataError: If frames are of another shape or type, or differ in size.
        """
        from videoclip.features.decode import resample_frames
        from videoclip.features.frame_backbone import FrameBackbone

        backbone = self.backbone
        if not isinstance(backbone, FrameBackbone):
            raise ConfigError(f"backbone '{backbone.name}' embeds video files only, not frames")
        try:
            frames = np.asarray(frames)
        except ValueError:
            raise DataError("frames must be of one size: scale them first") from None
        sampled = resample_frames(frames, frames_per_second, backbone.frames_per_second)
        return self.embed_features(np.concatenate(list(backbone.features_from(sampled))))

    def similarity(
        self, texts: str | Sequence[str], videos: Sequence[VideoEmbedding | Path | str]
    ) -> FloatArray:
        """Compare texts with whole videos.

        Args:
            texts: One text or N of them.
            videos: M embedded videos or video files.

        Returns:
            (N, M) dot products of `embed_text` with `VideoEmbedding.pooled`; cosines if
            `config.normalize`.

        Raises:
            DataError: If a text has no words, or there are no videos.
            EmbedVideosError: If a video cannot be read.
        """
        videos = list_of((str, Path, VideoEmbedding), videos, "videos")
        if not videos:
            raise DataError("there are no videos to compare with: give at least one")
        queries = self.embed_text(texts)  # (N, E)
        files = [video for video in videos if not isinstance(video, VideoEmbedding)]
        embedded = iter(self.embed_videos(files) if files else ())  # none need no backbone
        pooled = [
            (video if isinstance(video, VideoEmbedding) else next(embedded)).pooled
            for video in videos
        ]
        return queries @ np.stack(pooled).T

    def embed_features(self, features: RealArray, *, attend_cls: bool = True) -> VideoEmbedding:
        """Embed the features of one video second by second.

        Windows of the model's longest clip, half overlapping, are embedded in context and their
        tokens averaged.

        Args:
            features: (T, D), at least one.
            attend_cls: False hides [CLS], as the released step localisation does.

        Raises:
            DataError: If there are none, or one is not finite.
        """
        return self._embed_many([self._checked(features)], attend_cls=attend_cls)[0]

    def classify_features(self, features: RealArray, *, attend_cls: bool = False) -> FloatArray:
        """Score each second of one video for the classes of the model's head.

        Args:
            features: (T, D), at least one.
            attend_cls: As for `embed_features`.

        Returns:
            (T, K) logits, class 0 is background; where windows overlap, their mean.

        Raises:
            ConfigError: If the model has no head.
            DataError: If there are no features, or one is not finite.
        """
        encode = partial(self.model.classify, attend_cls=attend_cls)
        return self._in_windows([self._checked(features)], encode)[0]

    def embed_windows(
        self, features: RealArray, spans: Sequence[tuple[int, int]] | IntArray
    ) -> FloatArray:
        """Embed windows of one video, one vector each.

        Args:
            features: (T, D) of the whole video.
            spans: W half-open ranges of features, none empty, such as `window_spans` lists; one
                longer than the model's longest clip is the mean of its even pieces.

        Returns:
            (W, E) float32.

        Raises:
            DataError: If a feature is not finite or a span is empty or outside the video.
        """
        features = self._check(features)
        embeddings = np.empty((len(spans), self.config.hidden_size), dtype=np.float32)
        step = BATCHES_AT_ONCE * self.batch_size
        for first in range(0, len(spans), step):
            some = slice(first, first + step)
            embeddings[some] = self._embed_spans(features, spans[some])
        return embeddings

    def _embed_spans(
        self, features: RealArray, spans: Sequence[tuple[int, int]] | IntArray
    ) -> FloatArray:
        """Embed some windows (W, E) of checked features; see `embed_windows`."""
        pieces, owners = [], []
        for owner, (start, stop) in enumerate(spans):
            if not 0 <= start < stop <= len(features):
                raise DataError(f"span [{start}, {stop}) is outside {len(features)} features")
            num_pieces = -(-(stop - start) // self.config.max_video_tokens)
            pieces += np.array_split(features[start:stop], num_pieces)
            owners += [owner] * num_pieces
        vectors = self._in_batches(pieces, pad_features, self.model.encode_video)
        embeddings = np.zeros((len(spans), vectors.shape[1]), dtype=np.float32)
        np.add.at(embeddings, owners, vectors)
        embeddings /= np.bincount(owners, minlength=len(spans))[:, None]
        return self._finish(embeddings)

    def _embed_many(
        self, videos: Sequence[FloatArray], *, attend_cls: bool = True
    ) -> list[VideoEmbedding]:
        """Embed the checked features of several videos."""
        encode = partial(self.model.video_tokens, attend_cls=attend_cls)
        rate = self.config.features_per_second
        return [
            VideoEmbedding(self._finish(tokens), features, rate, self._embed_whole)
            for features, tokens in zip(videos, self._in_windows(videos, encode), strict=True)
        ]

    def _embed_whole(self, features: FloatArray) -> FloatArray:
        """Embed one video as a whole: (T, D) -> (E,)."""
        (embedding,) = self.embed_windows(features, [(0, len(features))])
        return np.asarray(embedding)

    def _in_windows(
        self, videos: Sequence[FloatArray], encode: Callable[[Tensor, Tensor], Tensor]
    ) -> list[FloatArray]:
        """Encode the sliding windows of videos: (T, C) of each, the mean where windows overlap."""
        window = self.config.max_video_tokens
        # Half overlapping. Source: as released for localisation (window 32, step 16).
        windows = [
            sliding_windows(len(features), window, max(window // 2, 1)) for features in videos
        ]
        clips = [
            features[start:stop]
            for features, spans in zip(videos, windows, strict=True)
            for start, stop in spans
        ]
        # (sum of window lengths, C)
        rows = self._in_batches(clips, pad_features, lambda video, mask: encode(video, mask)[mask])
        ends = np.cumsum([sum(stop - start for start, stop in spans) for spans in windows])
        return [
            np.asarray(average_windows(part, spans))
            for part, spans in zip(np.split(rows, ends[:-1]), windows)
        ]

    def _in_batches(
        self,
        items: Sequence[ItemT],
        pad: Callable[[Sequence[ItemT]], tuple[Tensor, Tensor]],
        encode: Callable[[Tensor, Tensor], Tensor],
    ) -> FloatArray:
        """Encode items a batch at a time and join the rows; no items give (0, E)."""
        rows = [np.empty((0, self.config.hidden_size), dtype=np.float32)] if not items else []
        with torch.inference_mode():
            for first in range(0, len(items), self.batch_size):
                padded, mask = pad(items[first : first + self.batch_size])
                encoded = encode(padded.to(self.device), mask.to(self.device))
                rows.append(encoded.float().cpu().numpy())
        return np.concatenate(rows)

    def _finish(self, means: FloatArray) -> FloatArray:
        """L2-normalise means if the model compares by cosine: (N, E)."""
        if self.config.normalize:
            means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return means

    def _checked(self, features: RealArray) -> FloatArray:
        """Return the features of one video as float32, or raise a DataError."""
        return self._check(features).astype(np.float32, copy=False)

    def _check(self, features: RealArray) -> RealArray:
        """Return the features of one video as an array of any float type, or raise a DataError."""
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] != self.config.feature_dim:
            raise DataError(
                f"features of shape {features.shape}, but the model takes "
                f"(T, {self.config.feature_dim}): extract them with --backbone "
                f"{self.config.backbone}"
            )
        if not len(features):
            raise DataError("a video without features cannot be embedded: extract it again")
        if not np.isfinite(features).all():
            raise DataError("features hold NaN or infinite values: extract them again")
        return features if features.dtype.kind == "f" else features.astype(np.float32)


def check_embedder(embedder: object) -> None:
    """Raise a ConfigError where the name of a model is given instead of an embedder."""
    if isinstance(embedder, (str, Path)):
        raise ConfigError(
            f"the embedder is an object, not a name: Embedder.from_pretrained('{embedder}')"
        )


def list_of(kinds: Any, values: Any, name: str) -> list[Any]:
    """Return values as a list, or raise a DataError unless they are a list of these kinds."""
    is_list = isinstance(values, Iterable) and not isinstance(values, (str, bytes))
    listed = list(values) if is_list else [values]
    if not is_list or not all(isinstance(value, kinds) for value in listed):
        wanted = "texts" if kinds is str else "paths"
        raise DataError(f"{name} must be a list of {wanted}, got {reprlib.repr(values)}")
    return listed


def _text_tower(model: VideoCLIP) -> TextTower | None:
    """Return the text side of the dual encoder that a model starts from, if it has one."""
    texts = model.dual_encoder.texts if model.dual_encoder else None
    return texts if isinstance(texts, TextTower) else None


def _check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    pairs = {
        "word pieces": (config.vocab_size, tokenizer.vocab_size),
        "[PAD]": (config.pad_id, tokenizer.pad_id),
        "[CLS]": (config.cls_id, tokenizer.cls_id),
        "[SEP]": (config.sep_id, tokenizer.sep_id),
    }
    for name, (wants, has) in pairs.items():
        if wants != has:
            raise CheckpointError(
                f"model and vocabulary do not belong together ({name}: {wants} and {has}): use the "
                "vocab.txt the model was trained with"
            )
