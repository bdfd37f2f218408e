"""The released way of drawing a clip pair, coin by coin, with Python's `random`."""

import math
import random


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
