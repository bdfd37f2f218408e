"""Frames of a scenario: `frames` in memory, `write_video` as H.264 with camera timestamps.

A frame is a pure function of the video and the time. During a step its object moves along the path
of the action, forwards or backwards, a whole number of times: single frames of an action and of its
opposite are equally likely, and only their order distinguishes the two.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from videoclip.files import atomic_file
from videoclip.synthetic.drawing import lamp, lid, paste, place_texture, post, sprite
from videoclip.synthetic.world import ACTIONS, ShownStep, SyntheticConfig, SyntheticVideo, generator

Frame = NDArray[np.uint8]

_PERIOD_SECONDS = 5.0  # about how long one run along a path takes
_TICKS_PER_SECOND = 90_000


@dataclass(frozen=True)
class _Stage:
    """Where a step is performed: centre and size in pixels, and the number of runs."""

    x: float
    y: float
    radius: float
    reach: float
    cycles: int
    wobble: float


class Scene:
    """The objects and the background of one video of a world, to be drawn at any time."""

    def __init__(self, video: SyntheticVideo, config: SyntheticConfig) -> None:
        self.video = video
        self.size = config.pixels
        rng = generator(config.seed, "look", video.root)
        jitter = generator(config.seed, "camera", video.index)
        self._margin = config.pixels // 16
        self._background = place_texture(video.task.place, self.size + 2 * self._margin, rng)
        self._sway = jitter.uniform((0.05, 0.05, 0, 0), (0.16, 0.16, 6.3, 6.3))
        self._idle = [
            (sprite(d.colour, d.pattern, d.shape, round(self._part(rng.uniform(0.06, 0.09)))), d)
            for d in video.distractors
        ]
        width, height = rng.uniform((0.06, 0.3), (0.1, 0.5))
        self._post = post(round(self._part(width)), round(self._part(height)))
        side = 0.5 + (-1, 1)[int(rng.integers(2))] * rng.uniform(0.2, 0.4)
        self._post_at = self._part(side), self._part(rng.uniform(0.3, 0.9))
        self._stages = [self._stage(shown, rng, jitter) for shown in video.shown]

    def _part(self, share: float) -> float:
        return share * self.size

    def _stage(
        self, shown: ShownStep, rng: np.random.Generator, jitter: np.random.Generator
    ) -> _Stage:
        x, y = rng.uniform(0.42, 0.58, 2) + jitter.uniform(-0.03, 0.03, 2)
        radius = {"small": 0.12, "big": 0.18}[shown.size] * rng.uniform(0.95, 1.05)
        return _Stage(
            x=self._part(x),
            y=self._part(y),
            radius=self._part(radius),
            reach=self._part(rng.uniform(0.28, 0.36)),
            cycles=max(1, round((shown.end - shown.start) / _PERIOD_SECONDS)),
            wobble=rng.uniform(0, 6.3),
        )

    def at(self, seconds: float) -> Frame:
        """Draw the frame at a time, (pixels, pixels, 3) RGB."""
        fx, fy, px, py = self._sway
        dx = round(self._margin * math.sin(6.3 * fx * seconds + px))
        dy = round(self._margin * math.sin(6.3 * fy * seconds + py))
        top, left = self._margin + dy, self._margin + dx
        frame = self._background[top : top + self.size, left : left + self.size].copy()
        for idle, d in self._idle:
            bob = 0.015 * math.sin(3 * seconds + 40 * d.x)
            paste(frame, idle, self._part(d.x) - dx, self._part(d.y + bob) - dy)
        for shown, stage in zip(self.video.shown, self._stages, strict=True):
            if shown.start <= seconds < shown.end:
                self._perform(frame, shown, stage, seconds, dx, dy)
        x, y = self._post_at
        paste(frame, self._post, x - 1.5 * dx, y - 1.5 * dy)  # nearer, so it sways more
        return frame

    def _perform(
        self, frame: Frame, shown: ShownStep, stage: _Stage, seconds: float, dx: int, dy: int
    ) -> None:
        step = shown.step
        path, _ = ACTIONS[step.action]
        p = path_position(shown, stage.cycles, seconds)
        x, y, r = stage.x - dx, stage.y - dy, stage.radius
        away = (2 * p - 1) * stage.reach
        hero = step.colour, step.pattern, step.shape

        def put(x: float, y: float, radius: float, level: float = 1.0) -> None:
            light = round(8 * lamp(x / self.size, y / self.size)) / 8
            pixels = max(3, round(radius * (0.7 + 0.6 * y / self.size)))  # lower is nearer
            if level < 1:
                paste(frame, sprite("glass", "plain", step.shape, pixels, light), x, y)
            paste(frame, sprite(*hero, pixels, light).below(level), x, y)

        match path:
            case "across":
                put(x + away, y, r)
            case "upward":
                put(x, y - away, r)
            case "size":
                put(x, y, r * (0.4 + 1.4 * p))
            case "circle":
                angle, far = 2 * math.pi * p + stage.wobble, 0.8 * stage.reach
                put(x + far * math.cos(angle), y + far * math.sin(angle), r)
            case "distance":
                gap = (0.15 + 0.85 * p) * stage.reach
                put(x - gap, y, 0.8 * r)
                put(x + gap, y, 0.8 * r)
            case "spread":
                for k in range(5):
                    angle = 2 * math.pi * k / 5 + stage.wobble
                    far = (0.15 + 0.95 * p) * stage.reach
                    put(x + far * math.cos(angle), y + far * math.sin(angle), 0.65 * r)
            case "level":
                put(x, y, 1.2 * r, level=p)
            case "lid":
                put(x, y, r)
                paste(frame, lid(round(1.15 * r)), x, y - (1 - p) * 2.4 * r)


def path_position(shown: ShownStep, cycles: int, seconds: float) -> float:
    """Return the position of a step on its path, 0 to 1: `cycles` whole runs during the step.

    Whole runs visit every part of the path equally often in either direction, so a single frame
    does not distinguish an action from its opposite.
    """
    run = (seconds - shown.start) / (shown.end - shown.start) * cycles % 1.0
    _, forwards = ACTIONS[shown.step.action]
    return run if forwards else 1.0 - run


def frames(video: SyntheticVideo, config: SyntheticConfig, per_second: float = 1.0) -> Frame:
    """Draw a video in memory at a rate, without encoding it: (n, pixels, pixels, 3) RGB.

    Frame `k` is drawn at `(k + 0.5) / per_second` seconds, the middle of its interval.
    """
    scene = Scene(video, config)
    count = max(1, math.ceil(video.duration * per_second - 0.5))
    return np.stack([scene.at((k + 0.5) / per_second) for k in range(count)])


def frame_times(video: SyntheticVideo, config: SyntheticConfig) -> NDArray[np.int64]:
    """Return the timestamps a camera gives this video, in ticks of 1/90,000 s.

    Most have 1000/1001 of the nominal rate, some start a little late, and one in ten has jitter, as
    videos of phones do.
    """
    rng = generator(config.seed, "clock", video.index)
    rate = Fraction(config.frames_per_second)
    if rng.random() < 0.6:
        rate *= Fraction(1000, 1001)
    start = rng.uniform(0.02, 0.2) if rng.random() < 0.3 else 0.0
    wavers = rng.random() < 0.1
    count = max(1, int(video.duration * rate))
    steps = np.arange(count) + (rng.uniform(-0.3, 0.3, count) if wavers else 0.0)
    seconds = start + steps / float(rate)
    ticks: NDArray[np.int64] = np.rint(seconds * _TICKS_PER_SECOND).astype(np.int64)
    return np.maximum(ticks, 0)


def write_video(video: SyntheticVideo, config: SyntheticConfig, path: Path) -> None:
    """Draw a video and write it atomically as H.264 in MP4."""
    scene = Scene(video, config)
    times = frame_times(video, config).tolist()
    with atomic_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=config.frames_per_second)
        stream.width = stream.height = config.pixels
        stream.pix_fmt = "yuv420p"
        # With macroblock trees 41 of 24,000 encodings came out otherwise, without them none.
        quality = {"preset": "veryfast", "crf": "21", "g": "100"}
        stream.options = quality | {"x264-params": "mbtree=0"}
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
        for ticks in times:
            seconds = (ticks - times[0]) / _TICKS_PER_SECOND  # players start at the first frame
            frame = av.VideoFrame.from_ndarray(scene.at(seconds), format="rgb24")
            frame.pts, frame.time_base = ticks, Fraction(1, _TICKS_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
