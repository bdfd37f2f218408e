"""Clip pairs of narrated videos as batches: the data of pre-training.

What a batch holds follows from the key of its group (seed, purpose, epoch, place) alone, so the
number of workers changes nothing, and a position is all that a continued run needs.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from videoclip.config import ClipConfig, ModelConfig, PretrainConfig
from videoclip.data.batch_plan import BatchPlan, make_plan, needs_vectors, video_vectors
from videoclip.data.feature_store import FeatureSpec
from videoclip.data.narrated import NarratedCorpus
from videoclip.data.tokenizer import Tokenizer, pad_tokens
from videoclip.distributed import World
from videoclip.embedding import Embedder
from videoclip.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    IndexMismatchError,
    VideoCLIPError,
)
from videoclip.features.backbones import check_features
from videoclip.model.batch import Batch, PlacedBatch, embed_batch
from videoclip.model.encoders import ResidualTextEncoder, ResidualVideoEncoder
from videoclip.model.videoclip import VideoCLIP, pad_features
from videoclip.training.trainer import BatchSource, Embed, Purpose, generator
from videoclip.types import FloatArray

FINGERPRINT_VIDEOS = 4096
SAMPLE_VIDEOS = 8
EXAMPLE_VIDEOS = 2048
LEADS = range(-4, 13)
"""Seconds by which narration may precede the action, where that is learned."""
LEAD_VIDEOS = 256
LEAD_ROUNDS = 20
LEAD_CLIP_SECONDS = 3
SECONDS_FOR_SIGNAL = 1.0
"""How much later the signal of a dead worker may come than the end of its connections."""


@dataclass(frozen=True)
class Group:
    """Videos that share a batch, and the key that decides their clip pairs.

    Attributes:
        videos: Indices into the corpus.
        key: Seed, purpose and place: what `generator` takes.
    """

    videos: Sequence[int]
    key: tuple[int, ...]


class Feed(Dataset[Batch | VideoCLIPError]):
    """Draws clip pairs of a corpus and makes batches of them.

    Args:
        corpus: Narrated videos with their features.
        clips: How clip pairs are drawn.
        model: Its longest text and the id that pads shorter ones.
        workers: Processes that prepare batches ahead; 0: this process, on demand.
        pin_memory: Put batches into page-locked memory, for a GPU.
        leads: Probabilities of `LEADS`, one of which is drawn for each visit to a video; empty:
            `clips.lead_seconds`.
    """

    def __init__(
        self,
        corpus: NarratedCorpus,
        clips: ClipConfig,
        model: ModelConfig,
        workers: int = 0,
        pin_memory: bool = False,
        leads: Sequence[float] = (),
    ) -> None:
        self._corpus, self._clips, self._model = corpus, clips, model
        self._leads, self._sums = leads, np.cumsum(leads)
        self._workers, self._pin_memory = workers, pin_memory

    def batches(self, groups: Sequence[Group]) -> Iterator[Batch]:
        """Yield the batch of each group, in order.

        Raises:
            VideoCLIPError: If the data of a video cannot be read, or a worker died.
        """
        if not self._workers:
            yield from map(self.batch, groups)
            return
        loader = DataLoader(
            self,
            sampler=groups,
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
        )
        with report_dead_workers():
            try:
                for batch in loader:
                    if isinstance(batch, VideoCLIPError):
                        raise batch
                    yield batch
            except (ConnectionError, EOFError, FileNotFoundError) as error:
                if "Caught" in str(error):  # an exception of the worker's code, handed over
                    raise
                # The worker died while it handed a batch over: wait for its signal here.
                time.sleep(SECONDS_FOR_SIGNAL)
                raise _dead_worker() from error

    def __getitem__(self, group: Group) -> Batch | VideoCLIPError:
        """Return `batch`, or its error: a `DataLoader` would wrap a raised one in a traceback."""
        try:
            return self.batch(group)
        except VideoCLIPError as error:
            return error

    def batch(self, group: Group) -> Batch:
        """Return the batch of one group."""
        rng, corpus = generator(*group.key), self._corpus
        longest, pad_id = self._model.max_text_tokens, self._model.pad_id
        drawn = [corpus.draw(i, self._clips_with_lead(rng), rng, longest) for i in group.videos]
        pairs = [pair for some in drawn for pair in some]
        features = pad_features([pair.features for pair in pairs])
        texts = pad_tokens([text for pair in pairs for text in pair.texts], pad_id)
        spans = torch.tensor([(n, *pair.span) for n, some in enumerate(drawn) for pair in some])
        return PlacedBatch(*features, *texts, spans)

    def _clips_with_lead(self, rng: np.random.Generator) -> ClipConfig:
        if not self._leads:
            return self._clips
        place = int(np.searchsorted(self._sums, rng.random()))
        return replace(self._clips, lead_seconds=LEADS[min(place, len(LEADS) - 1)])


@contextmanager
def report_dead_workers() -> Iterator[None]:
    """Turn the death of a worker into one line, wherever its signal reaches this process.

    The loader's signal handler raises from whatever runs at that moment, even a training step.

    Raises:
        VideoCLIPError: If a worker died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _dead_worker() from error


def _dead_worker() -> VideoCLIPError:
    return VideoCLIPError(
        "a process that prepares batches died, perhaps out of memory; the last checkpoint is "
        "intact: lower `workers` and run the same command again"
    )


class NarratedSource(BatchSource[Batch]):
    """Clip pairs of narrated videos, in the batches of each epoch's plan.

    Args:
        config: The run.
        corpus: The videos, of which some may be held out.
        init_from: Fingerprint of the model to start from, or "random".
        world: The processes.
        teacher: Model whose embeddings define similarity, if not the model being trained.
    """

    def __init__(
        self,
        config: PretrainConfig,
        corpus: NarratedCorpus,
        init_from: str,
        world: World,
        teacher: Embedder | None = None,
    ) -> None:
        self.config, self.world, self.teacher = config, world, teacher
        self._teacher_vectors: FloatArray | None = None
        num_held_out = config.num_held_out(len(corpus))
        self.training, self.held_out = corpus.split(num_held_out, config.seed)
        self.facts = {
            "data": {"videos": len(corpus), **data_fingerprints(corpus)},
            "init_from": init_from,
            "teacher": teacher and teacher.fingerprint,
        }

    def sample(self) -> Batch:
        """Return a few pairs."""
        clips = replace(self.config.clips, clips_per_video=1)
        some = range(min(len(self.training), SAMPLE_VIDEOS))
        group = Group(some, (self.config.seed, Purpose.TRAINING, 0))
        return self._feed(self.training, clips).batch(group)

    def examples(self) -> Iterator[Batch]:
        """Yield clip pairs of evenly spaced training videos, at most `EXAMPLE_VIDEOS`."""
        step = 1 + len(self.training) // EXAMPLE_VIDEOS
        groups = [
            Group([i], (self.config.seed, Purpose.EXAMPLES, i))
            for i in range(0, len(self.training), step)
        ]
        return self._feed(self.training, self.config.clips).batches(groups)

    def epoch_size(self, epoch: int) -> int:
        """Return the batches in the plan of an epoch."""
        plan, num_videos = self.config.plan, len(self.training)
        if plan.kind == "retrieval" and needs_vectors(plan, epoch):
            return max(1, num_videos // plan.videos_per_batch)
        return -(-num_videos // plan.videos_per_batch)

    def batches(
        self, epoch: int, first: int, *, embed: Embed, plan_path: Path | None
    ) -> Iterator[Batch]:
        """Yield this process's batches of an epoch's plan, which `embed` may decide."""
        plan = self._plan(epoch, embed, plan_path)
        own = [
            Group(plan.groups[place], (self.config.seed, Purpose.TRAINING, epoch, place))
            for place in self.world.own_places(first, self.num_batches(epoch))
        ]
        return self._feed(self.training, self.config.clips, plan.leads).batches(own)

    def validation(self) -> Iterator[Batch] | None:
        """Yield the same clip pairs of the held-out videos each time."""
        groups = self._groups(len(self.held_out), Purpose.VALIDATION)
        if not groups:
            return None
        own = groups[self.world.rank :: self.world.size]
        return self._feed(self.held_out, self.config.clips).batches(own)

    def held_out_clips(self, clips: ClipConfig, num_videos: int) -> Iterator[Batch]:
        """Yield clip pairs of the first held-out videos, in their order; the same each time."""
        groups = self._groups(num_videos, Purpose.HELD_OUT)
        return Feed(self.held_out, clips, self.config.model).batches(groups)

    def _plan(self, epoch: int, embed: Embed, path: Path | None) -> BatchPlan:
        """Return the plan of an epoch: the one stored at `path`, or a new one that is stored there.

        The main process reads, makes and stores it; all have the same.

        Raises:
            DataError: If the stored plan does not fit these videos.
        """
        config, world, num_videos = self.config, self.world, len(self.training)
        stored = BatchPlan.load(path) if path is not None and path.exists() else None
        stored = world.broadcast(stored)
        if stored is not None:
            is_whole = len(stored) == self.epoch_size(epoch)
            if not is_whole or max(map(max, stored.groups)) >= num_videos:
                raise DataError(
                    "does not match this run's videos; restore the file or start a new run", path
                )
            return stored
        vectors = self._vectors(epoch, embed) if needs_vectors(config.plan, epoch) else None
        plan = None
        if path is not None:
            plan = make_plan(
                config.plan,
                num_videos,
                seed=config.seed,
                epoch=epoch,
                vectors=vectors,
                device=world.device,
            )
            if vectors is not None and config.clips.learn_lead:
                plan = replace(plan, leads=self._fit_leads(epoch, embed))
            plan.save(path)
        plan = world.broadcast(plan)
        assert plan is not None
        return plan

    def _vectors(self, epoch: int, embed: Embed) -> FloatArray:
        """Return the video vectors of the model as it is now, or the teacher's, computed once."""
        if self.teacher is None:
            return self._embed_videos(embed, epoch)
        if self._teacher_vectors is None:
            model = self.teacher.model.to(self.world.device)
            # Of no epoch, so that a continued run computes the same ones.
            self._teacher_vectors = self._embed_videos(partial(embed_batch, model), epoch=0)
            model.cpu()  # it is not needed again
        return self._teacher_vectors

    def _embed_videos(self, embed: Embed, epoch: int) -> FloatArray:
        """Return (V, E) float32, the mean embedding of clip pairs of each training video.

        Each process embeds a share of the videos, and all get the result; `epoch` decides which
        clip pairs. Source: paper, section 3.4 (algorithm 1, line 2); the release embeds and groups
        each share by itself.
        """
        world, feed = self.world, self._feed(self.training, vector_clips(self.config))
        groups = self._groups(len(self.training), Purpose.VECTORS, epoch)
        # Consecutive ones for each process, so that gathered rows are in order.
        bounds = np.linspace(0, len(groups), world.size + 1).round().astype(int)
        own = groups[bounds[world.rank] : bounds[world.rank + 1]]
        parts = []
        for group, batch in zip(own, feed.batches(own), strict=True):
            video, text = (x.view(len(group.videos), -1, x.shape[1]).cpu() for x in embed(batch))
            parts.append(video_vectors(video.numpy(), text.numpy()))
        widths = world.gather(parts[0].shape[1] if parts else 0)
        rows = np.concatenate([np.zeros((0, max(widths)), np.float32), *parts])
        return world.gather_rows(torch.from_numpy(rows).to(world.device)).cpu().numpy()

    def _fit_leads(self, epoch: int, embed: Embed) -> tuple[float, ...]:
        """Fit the distribution of leads to the similarities of some texts and later clips."""
        config, step = self.config, 1 + len(self.training) // LEAD_VIDEOS
        some = range(0, len(self.training), step)
        logits = []
        for lead in LEADS:  # the key is the same, hence the texts are
            clips = replace(
                config.clips,
                clips_per_video=1,
                min_video_seconds=LEAD_CLIP_SECONDS,
                max_video_seconds=LEAD_CLIP_SECONDS,
                lead_seconds=lead,
            )
            group = Group(some, (config.seed, Purpose.LEADS, epoch))
            video, text = embed(self._feed(self.training, clips).batch(group))
            logits.append((video * text).sum(dim=1) / config.model.temperature)
        return fit_shares(torch.stack(logits, dim=1))

    def _groups(self, num_videos: int, purpose: Purpose, *place: int) -> list[Group]:
        """Return groups of `videos_per_batch` consecutive videos."""
        size, seed = self.config.plan.videos_per_batch, self.config.seed
        return [
            Group(range(i, min(i + size, num_videos)), (seed, purpose, *place, i))
            for i in range(0, num_videos, size)
        ]

    def _feed(self, corpus: NarratedCorpus, clips: ClipConfig, leads: Sequence[float] = ()) -> Feed:
        on_gpu, workers = self.world.device.type == "cuda", self.config.num_workers
        return Feed(corpus, clips, self.config.model, workers, pin_memory=on_gpu, leads=leads)


def fit_shares(logits: Tensor) -> tuple[float, ...]:
    """Return how often each of K choices is right, by expectation and maximisation.

    Args:
        logits: (N, K) log-likelihoods of N observations under each choice, up to a constant.
    """
    shares = torch.full((logits.shape[1],), 1 / logits.shape[1], device=logits.device)
    for _ in range(LEAD_ROUNDS):
        shares = (logits + shares.log()).softmax(dim=1).mean(dim=0)
    return tuple(shares.tolist())


@torch.no_grad()
def fit_gates(model: VideoCLIP, source: NarratedSource) -> None:
    """Open the gates of a model's residuals for the frames and narration of training videos.

    They stay open for the videos that it was trained on before. See `Residual`.
    """
    video, text = model.video_encoder, model.text_encoder
    assert isinstance(video, ResidualVideoEncoder) and isinstance(text, ResidualTextEncoder)
    frames, texts = [], []
    for batch in source.examples():
        batch = batch.to(source.world.device)
        frames.append(video.start(batch.video[batch.video_mask]))
        texts.append(text.start(batch.text, batch.text_mask))
    video.residual.fit_gate(torch.cat(frames))
    text.residual.fit_gate(torch.cat(texts))


def data_fingerprints(corpus: NarratedCorpus) -> dict[str, str]:
    """Return hex digests that change with the videos, their features or their words.

    Of a large corpus, features and words of some thousand videos are read, not all.
    """
    store, lengths = corpus.store, hashlib.sha256(repr(corpus.store.spec).encode())
    for video_id in corpus.video_ids:
        lengths.update(f"{video_id} {store.num_features(video_id)}\n".encode())
    features, words = hashlib.sha256(), hashlib.sha256()
    for index in range(0, len(corpus), 1 + len(corpus) // FINGERPRINT_VIDEOS):
        video = corpus[index]
        narration = video.narration
        features.update(f"{store.checksum(video.video_id)}\n".encode())
        counts = np.array([len(ids) for ids in narration.token_ids])
        for array in (narration.starts, narration.ends, counts, *narration.token_ids):
            words.update(array.tobytes())
    digests = {"videos": lengths, "features": features, "words": words}
    return {f"{name} fingerprint": digest.hexdigest()[:16] for name, digest in digests.items()}


def vector_clips(config: PretrainConfig) -> ClipConfig:
    """Return how the clip pairs are drawn whose mean embedding represents a video."""
    plan = config.plan
    return replace(
        config.clips, strategy=plan.vector_strategy, clips_per_video=plan.clips_per_vector
    )


def load_teacher(
    config: PretrainConfig, spec: FeatureSpec, tokenizer: Tokenizer
) -> Embedder | None:
    """Load the model `config.plan.teacher`, if one is named, on the CPU.

    Args:
        config: The run, whose clip pairs the teacher will embed.
        spec: Kind of the features.
        tokenizer: The vocabulary of the words.

    Raises:
        CheckpointError: If there is no such model or it is damaged.
        ConfigError: If it has another vocabulary or takes shorter clips only.
        IndexMismatchError: If it takes other features.
    """
    name, model, clips = config.plan.teacher, config.model, config.clips
    if name is None:
        return None
    try:
        teacher = Embedder.from_pretrained(name)
        check_features(teacher.config, spec)
    except (CheckpointError, IndexMismatchError) as error:
        raise type(error)(f"plan.teacher {name}: {error}") from error
    if teacher.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ConfigError(
            f"plan.teacher {name} has another vocabulary than this run: train with its vocab.txt, "
            "or name a teacher with this one"
        )
    longest_video = round(clips.max_video_seconds * model.features_per_second)
    for kind, needed, setting in (
        ("video", longest_video, "clips.max_video_seconds"),
        ("text", model.max_text_tokens, "model.max_text_tokens"),
    ):
        longest = getattr(teacher.config, f"max_{kind}_tokens")
        if needed > longest:
            raise ConfigError(
                f"plan.teacher {name} takes {longest} {kind} tokens, but {setting} needs {needed}: "
                "lower it, or name another teacher"
            )
    return teacher
