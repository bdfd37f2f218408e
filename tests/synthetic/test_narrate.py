from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from videoclip.data.subtitles import read_subtitles
from videoclip.synthetic.narrate import SpokenCue, describe, label, narrate, webvtt
from videoclip.synthetic.world import (
    ACTIONS,
    COLOURS,
    PATTERNS,
    SHAPES,
    SyntheticConfig,
    SyntheticStep,
    SyntheticWorld,
)


@pytest.fixture(scope="module")
def world():
    return SyntheticWorld(SyntheticConfig(seed=1))


def first_mentions(world, count):
    """Yield (cue, shown step) of the first cue drawn about each spoken step."""
    for video in map(world.video, range(count)):
        cues = sorted(narrate(video, world), key=lambda cue: cue.start)
        for position, shown in enumerate(video.shown):
            about = [cue for cue in cues if cue.about == position]
            if about:
                yield about[0], shown


def test_speech_leads_the_picture_as_stated(world):
    offsets = [cue.start - shown.start for cue, shown in first_mentions(world, 400)]
    assert np.mean(offsets) == pytest.approx(-world.config.lead_seconds, abs=0.4)
    assert np.std(offsets) == pytest.approx(world.config.lead_sd_seconds, abs=0.5)


def test_aligned_speech_begins_with_its_step():
    world = SyntheticWorld(
        SyntheticConfig(seed=1, lead_seconds=0.0, lead_sd_seconds=0.0, off_topic_share=0.0)
    )
    offsets = [cue.start - shown.start for cue, shown in first_mentions(world, 50)]
    assert np.abs(offsets).max() < 0.02


def test_shares_of_unspoken_steps_and_of_talk_about_nothing_are_as_stated(world):
    cues = [cue for i in range(400) for cue in narrate(world.video(i), world)]
    num_shown = sum(len(world.video(i).shown) for i in range(400))
    spoken = sum(1 for _ in first_mentions(world, 400))
    assert 1 - spoken / num_shown == pytest.approx(0.2, abs=0.03)
    assert np.mean([cue.about is None for cue in cues]) == pytest.approx(0.2, abs=0.03)


def test_chatter_is_spread_over_the_video_and_delays_no_step():
    world = SyntheticWorld(
        SyntheticConfig(seed=1, lead_seconds=0.0, lead_sd_seconds=0.0, off_topic_share=0.4)
    )
    places = []
    for video in map(world.video, range(60)):
        cues = narrate(video, world)
        places += [cue.start / video.duration for cue in cues if cue.about is None]
    assert np.quantile(places, [0.25, 0.5, 0.75]) == pytest.approx([0.2, 0.45, 0.7], abs=0.12)
    late = [cue.start - shown.start for cue, shown in first_mentions(world, 60)]
    assert np.median(late) < 0.02 and np.mean(late) < 0.3  # where two would be spoken at once


def test_silence_and_chatter_alone():
    world = SyntheticWorld(SyntheticConfig(unspoken_share=1.0, off_topic_share=0.0))
    assert narrate(world.video(0), world) == ()
    world = SyntheticWorld(SyntheticConfig(unspoken_share=1.0, off_topic_share=0.5))
    cues = narrate(world.video(0), world)
    assert cues
    assert all(cue.about is None for cue in cues)


def test_cues_are_in_order_inside_the_video_and_do_not_collide(world):
    for video in map(world.video, range(200)):
        cues = narrate(video, world)
        edges = [0.0, *(t for cue in cues for t in (cue.start, cue.end)), video.duration + 0.01]
        assert edges == sorted(edges)
        assert all(cue.end > cue.start for cue in cues)
        assert cues == narrate(video, world)


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_much_talk_fits_into_a_short_video(seconds):
    config = SyntheticConfig(
        step_seconds=(seconds, seconds), gap_seconds=(0.1, 0.2), off_topic_share=0.7
    )
    world = SyntheticWorld(config)
    for video in map(world.video, range(50)):
        cues = narrate(video, world)
        edges = [0.0, *(t for cue in cues for t in (cue.start, cue.end)), video.duration + 0.01]
        assert edges == sorted(edges)


def test_a_step_spoken_of_is_named(world):
    video = world.video(3)
    colours = {"crimson": "red", "violet": "purple"}
    for cue in narrate(video, world):
        if cue.about is not None:
            step = video.shown[cue.about].step
            words = {colours.get(word, word) for word in cue.text.split()}
            assert not (set(COLOURS) & words) - {step.colour}


def test_labels_are_one_to_one():
    labels = {
        label(SyntheticStep(0, action, colour, pattern, shape, False))
        for action in ACTIONS
        for colour in COLOURS
        for pattern in PATTERNS
        for shape in SHAPES
    }
    assert len(labels) == len(ACTIONS) * len(COLOURS) * len(PATTERNS) * len(SHAPES)
    assert not any("," in text or "{" in text for text in labels)
    assert label(SyntheticStep(0, "push right", "red", "striped", "box", False)) == (
        "push the striped red box to the right"
    )
    assert label(SyntheticStep(0, "join", "black", "plain", "cross", False)) == (
        "bring the two black crosses together"
    )


def test_paraphrases_vary_and_may_be_vague():
    step = SyntheticStep(0, "lift", "green", "spotted", "star", False)
    rng = np.random.default_rng(0)
    said = {describe(step, rng, "big", "sand") for _ in range(300)}
    assert len(said) > 60
    assert any("large" in text and "beach" in text for text in said)
    assert {describe(step, rng, vagueness=1.0) for _ in range(50)} == {
        "lift the one up", "raise the one", "pull the one upwards",
    }  # fmt: skip


@pytest.mark.parametrize("rolling", [True, False])
def test_subtitles_read_back_as_what_was_said(world, tmp_path, rolling):
    path = tmp_path / "x.vtt"
    for video in map(world.video, range(20)):
        cues = narrate(video, world)
        path.write_text(webvtt(cues, rolling))
        read = read_subtitles(path)
        assert " ".join(c.text for c in read) == " ".join(c.text for c in cues)
        if not rolling:
            assert [(c.start, c.end, c.text) for c in read] == [
                (c.start, c.end, c.text) for c in cues
            ]
        assert read[0].start == pytest.approx(cues[0].start, abs=0.001)
        assert read[-1].end == pytest.approx(cues[-1].end, abs=0.02)


def test_rolling_captions_say_every_line_again_and_time_every_word():
    cue = SpokenCue(3599.5, 3607.5, "now push the small striped red ball over to the right", 0)
    text = webvtt([cue, replace(cue, start=3620.0, end=3624.0)])
    assert text.count("\nnow push the small striped red\n") == 4  # held, then above the next
    assert "now<01:00:00.227><c> push</c>" in text
    assert "00:59:59.500 --> " in text
    screens = re.split(r"\n\n", text)[1:]
    assert screens[0].splitlines()[1] == " "
    assert screens[2].splitlines()[1] == "now push the small striped red"
    assert screens[4].splitlines()[1] == " "  # after the pause


def test_what_is_said_of_a_step_fits_every_action_and_place():
    rng = np.random.default_rng(0)
    sizes = {"small", "little", "tiny", "big", "large", "huge"}
    for action in ACTIONS:
        step = SyntheticStep(0, action, "green", "spotted", "star", False)
        said = [set(describe(step, rng, "big").split()) for _ in range(60)]
        # What changes its size is neither small nor big.
        assert any(sizes & words for words in said) == ("flate" not in action)
        assert any({"star", "stars"} & words for words in said)
