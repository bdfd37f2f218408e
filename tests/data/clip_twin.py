"""The released way of drawing a clip pair: coin by coin with Python's `random`, and as a law.

`draw` repeats single draws, `law` says how likely each pair is; both are written from the rules.
"""

import math
import random
from collections import Counter
from functools import cache

import numpy as np


def grow_text(starts, ends, num_tokens, centre, target, random_):
    first, last = centre, centre
    while sum(num_tokens[first : last + 1]) < target and ends[last] - starts[first] < 256:
        if first == 0 and last == len(starts) - 1:
            break
        right = random_.random() > 0.5
        if (right and last < len(starts) - 1) or first == 0:
            last += 1
        else:
            first -= 1
        random_.random()  # the option to skip a cue, never taken, tosses its own coin
    return first, last + 1


def grow_video(centre, length, num_seconds, coin):
    start = end = centre
    while end - start < length and end - start < num_seconds:
        if start == 0:
            end += 1
        elif end == num_seconds:
            start -= 1
        elif coin():
            end += 1
        else:
            start -= 1
    return start, end


def draw(kind, caption, num_seconds, random_: random.Random):
    starts, ends = caption["start"], caption["end"]
    num_tokens = [len(ids) for ids in caption["cap"]]
    centre = 0 if kind == "start_clip" else random_.randint(0, len(starts) - 1)
    target = random_.randint(8, 64)
    if kind == "start_clip":
        target = 61
    first, stop = grow_text(starts, ends, num_tokens, centre, target, random_)
    low, high = math.floor(starts[first]), math.ceil(ends[stop - 1])
    if kind != "overlapped":
        return [first, stop, low, high]
    middle = random_.randint(low, high) if low < high else (low + high) // 2
    middle = min(max(middle, 0), num_seconds - 1)
    length = random_.randint(3, 32)
    coin = lambda: random_.random() > 0.5  # noqa: E731
    return [first, stop, *grow_video(middle, length, num_seconds, coin)]


def law(kind, caption, num_seconds):
    """How likely pairs are, all coins summed up.

    Returns (n, 4) text_start, text_end, video_start, video_end, and (n,) probabilities.
    """
    centres = [0] if kind == "start_clip" else range(len(caption["start"]))
    targets = [61] if kind == "start_clip" else range(8, 65)
    texts = Counter()
    for centre in centres:
        for target in targets:
            for text, share in text_law(caption, centre, target).items():
                texts[text] += share / len(centres) / len(targets)
    pairs, shares = [], []
    for (first, stop), share in texts.items():
        low, high = math.floor(caption["start"][first]), math.ceil(caption["end"][stop - 1])
        spans, chances = np.array([[low, high]]), np.ones(1)
        if kind == "overlapped":
            middles = range(low, high + 1) if low < high else [(low + high) // 2]
            inside = [min(max(middle, 0), num_seconds - 1) for middle in middles]
            laws = [clip_law(centre, num_seconds) for centre in inside]
            spans = np.concatenate([spans for spans, _ in laws])
            chances = np.concatenate([chances for _, chances in laws]) / len(laws)
        pairs.append(np.column_stack([np.tile([first, stop], (len(spans), 1)), spans]))
        shares.append(share * chances)
    return np.concatenate(pairs), np.concatenate(shares)


def text_law(caption, centre, target):
    """Probability of each text clip [first, stop) grown from a cue to a number of tokens."""
    starts, ends, num_cues = caption["start"], caption["end"], len(caption["start"])
    open_, closed = Counter({(centre, centre): 1.0}), Counter()
    while open_:
        grown = Counter()
        for (first, last), share in open_.items():
            num_tokens = sum(map(len, caption["cap"][first : last + 1]))
            whole = first == 0 and last == num_cues - 1
            if num_tokens >= target or ends[last] - starts[first] >= 256 or whole:
                closed[first, last + 1] += share
            elif first == 0:
                grown[first, last + 1] += share
            elif last == num_cues - 1:
                grown[first - 1, last] += share
            else:
                grown[first, last + 1] += share / 2
                grown[first - 1, last] += share / 2
        open_ = grown
    return closed


@cache
def clip_law(centre, num_seconds):
    """(n, 2) spans of seconds grown from a centre to 3 .. 32 of them, and their probabilities."""
    spans, open_ = Counter(), {(centre, centre): 1.0}
    for length in range(1, 33):
        grown = Counter()
        for (start, end), share in open_.items():
            if end - start == num_seconds:
                grown[start, end] += share
            elif start == 0:
                grown[start, end + 1] += share
            elif end == num_seconds:
                grown[start - 1, end] += share
            else:
                grown[start, end + 1] += share / 2
                grown[start - 1, end] += share / 2
        open_ = grown
        for span, share in open_.items() if length >= 3 else ():
            spans[span] += share / 30
    return np.array(list(spans)), np.array(list(spans.values()))
