from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videoclip.features.frame_times import (
    Action,
    num_samples,
    plan_packets,
    read_frame_times,
    sample_times,
)

TO_KEYFRAME, SKIP, REFERENCE, DECODE = Action


def packet(pts, dts=None, *, duration=1, key=False, hidden=False, size=9):
    return SimpleNamespace(
        pts=pts, dts=dts, duration=duration, is_keyframe=key, is_discard=hidden, size=size
    )


def times_of(packets, origin=0, reorders=False):
    origin = None if origin is None else Fraction(origin)
    return read_frame_times(packets, Fraction(1, 10), origin, 10.0, reorders)


def plan(timestamps, keys, wanted):
    is_key = np.isin(np.arange(len(timestamps)), keys)
    return list(plan_packets(np.array(timestamps), is_key, np.array(wanted)))


def test_a_sample_counts_if_its_time_is_within_the_video():
    assert [num_samples(d, 1.0) for d in (0.0, 0.04, 1.0, 1.4, 1.6, 10.4, 10.6)] == [
        *(1, 1, 1, 1, 2),
        *(10, 11),
    ]
    assert list(sample_times(2.0, 2.0)) == [0.25, 0.75, 1.25, 1.75]


@given(st.floats(0, 1e4), st.floats(0.1, 60))
def test_samples_cover_the_video(duration, rate):
    times = sample_times(duration, rate)
    assert len(times) >= 1
    assert abs(len(times) / rate - duration) <= 0.5 / rate + 1e-6 or len(times) == 1


def test_the_frame_on_screen_is_the_last_that_appeared():
    frame_times = times_of([packet(p) for p in (0, 30, 10, 50)])
    assert list(frame_times.on_screen(np.array([0.0, 0.9, 1.0, 3.5, 99]))) == [0, 0, 10, 30, 50]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans()), min_size=1, max_size=9),
    st.lists(st.integers(-5, 70), min_size=1, max_size=5),
)
def test_frames_are_chosen_as_by_comparing_all(frames, ticks):
    packets = [packet(pts, key=key, hidden=hidden) for pts, key, hidden in frames]
    times = np.array(sorted(ticks)) / 8
    frame_times = read_frame_times(packets, Fraction(1, 8), Fraction(0), 8.0, False)
    visible = sorted(pts for pts, _, hidden in frames if not hidden)
    if not visible:
        assert frame_times is None
        return
    keys = [p for p in visible if (p, True, False) in frames] or visible[:1]
    on_screen = [max([p for p in visible if p <= t], default=visible[0]) for t in sorted(ticks)]
    assert frame_times.on_screen(times).tolist() == on_screen
    nearest = [min(keys, key=lambda p: (abs(p - t), p)) for t in sorted(ticks)]
    assert frame_times.nearest_keyframe(times).tolist() == nearest


def test_before_the_first_frame_the_first_is_shown():
    frame_times = times_of([packet(20), packet(21)])
    assert list(frame_times.on_screen(np.array([0.5, 2.05]))) == [20, 20]
    assert frame_times.duration == 2.2


def test_without_a_start_the_first_frame_is_second_zero():
    frame_times = times_of([packet(20), packet(21, duration=0)], origin=None)
    assert frame_times.duration == 0.2
    assert list(frame_times.seconds(frame_times.visible)) == [0.0, 0.1]


def test_the_nearest_keyframe_may_come_later():
    frame_times = times_of([packet(p, key=p % 20 == 0) for p in range(60)])
    assert list(frame_times.nearest_keyframe(np.array([0.0, 1.0, 1.1, 2.9, 3.1]))) == [
        0,
        0,
        20,
        20,
        40,
    ]


def test_without_keyframes_the_first_frame_is_one():
    frame_times = times_of([packet(3), packet(4)])
    assert list(frame_times.nearest_keyframe(np.array([0.1, 9.0]))) == [3, 3]


def test_hidden_frames_are_not_shown_but_keep_their_place():
    frame_times = times_of([packet(-1, hidden=True), packet(0), packet(1), packet(9, hidden=True)])
    assert list(frame_times.visible) == [0, 1]
    assert len(frame_times.timestamps) == 4
    assert frame_times.duration == 0.2


def test_no_visible_frame_no_times():
    assert times_of([packet(0, size=0)]) is None
    assert times_of([packet(0, hidden=True)]) is None


def test_missing_timestamps_are_filled_in_order():
    frame_times = times_of([packet(None, 0), packet(None, None), packet(None, 5), packet(None)])
    assert not frame_times.per_packet
    assert list(frame_times.timestamps) == [0, 1, 5, 6]


@settings(max_examples=40)
@given(
    st.lists(st.none() | st.integers(0, 10_000), min_size=1, max_size=12).filter(any),
    st.fractions(1, 60, max_denominator=1001),
)
def test_each_missing_timestamp_is_a_step_after_the_one_before(decoding, frame_rate):
    """As by plain Python, at rates like 30000/1001 whose steps are no whole numbers."""
    frame_rate, time_base = float(frame_rate), Fraction(1, 1000)
    packets = [packet(None, dts, duration=0) for dts in decoding]
    found = read_frame_times(packets, time_base, Fraction(0), frame_rate, False)
    step = 1 / (Fraction(frame_rate) * time_base)
    wanted, known, since = [], Fraction(0), 0
    for timestamp in decoding:
        if timestamp is not None:
            known, since = Fraction(timestamp), 0
        wanted.append(round(known + since * step))
        since += 1
    assert list(found.timestamps) == wanted
    assert found.duration == pytest.approx(float((max(wanted) + step) * time_base))


def test_timestamps_that_deny_reordering_are_not_trusted():
    same = [packet(p + 1, p) for p in range(4)]
    assert not times_of(same, reorders=True).per_packet
    assert times_of(same, reorders=False).per_packet
    assert times_of([packet(0, -1), packet(2, 0), packet(1, 1)], reorders=True).per_packet


def test_the_decoder_waits_for_a_keyframe_after_the_last_wanted_frame_of_a_group():
    assert plan([0, 1, 2, 3, 4, 5], keys=[0, 3], wanted=[1]) == [
        *(REFERENCE, DECODE, TO_KEYFRAME),
        *(TO_KEYFRAME, TO_KEYFRAME, TO_KEYFRAME),
    ]


def test_frames_that_refer_back_are_skipped_unless_wanted():
    # Stored 0 3 1 2 | 6 4 5 9 7 8: 4 and 5 may refer to 3 and 6.
    timestamps, keys = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 4]
    assert plan(timestamps, keys, wanted=[1, 9]) == [
        *(REFERENCE, REFERENCE, DECODE, TO_KEYFRAME),
        *(REFERENCE, SKIP, SKIP, DECODE, TO_KEYFRAME, TO_KEYFRAME),
    ]
    assert plan(timestamps, keys, wanted=[4]) == [
        *(REFERENCE, REFERENCE, REFERENCE, REFERENCE),
        *(REFERENCE, DECODE, TO_KEYFRAME, TO_KEYFRAME, TO_KEYFRAME, TO_KEYFRAME),
    ]


def test_without_keyframes_nothing_is_withheld():
    assert plan([0, 1, 2], keys=[], wanted=[1]) == [REFERENCE, DECODE, REFERENCE]


@given(st.data())
def test_everything_a_wanted_frame_may_refer_to_is_decoded(data):
    """The twin: walk back from each wanted frame over all it could possibly refer to."""
    size = data.draw(st.integers(1, 30))
    timestamps = np.array(data.draw(st.permutations(range(size))))
    is_key = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    wanted = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1)))
    actions = plan_packets(timestamps, is_key, wanted)
    for position in np.flatnonzero(np.isin(timestamps, wanted)):
        assert actions[position] == DECODE
        keys = np.flatnonzero(is_key[: position + 1])
        key = keys[-1] if len(keys) else 0
        start = key
        if len(keys) and timestamps[position] < timestamps[key]:  # shown before its key
            start = keys[-2] if len(keys) > 1 else 0
        for needed in range(start, position):
            before_its_key = is_key.any() and _shown_before_its_key(timestamps, is_key, needed)
            assert actions[needed] >= REFERENCE or (before_its_key and actions[needed] == SKIP)


def _shown_before_its_key(timestamps, is_key, position):
    keys = np.flatnonzero(is_key[: position + 1])
    return len(keys) > 0 and timestamps[position] < timestamps[keys[-1]]


def test_long_gaps_are_cut_before_between_and_after_frames():
    frame_times = times_of(
        [packet(p, duration=d) for p, d in ((2000, 10), (2010, 10), (9010, 5000))]
    )
    assert list(frame_times.cut) == [0, 80, 80, 660, 1040]
    assert list(frame_times.seconds(np.array([1990, 2000, 2015, 9010]))) == [199, 120, 121.5, 241]
    assert list(frame_times.on_screen(np.array([0.0, 120.5, 240.9, 241.0]))) == [
        *(2000, 2000, 2010, 9010),
    ]


def test_gaps_of_ordinary_videos_are_kept():
    frame_times = times_of([packet(p) for p in (0, 1200, 2400)])
    assert not frame_times.cut.any()
