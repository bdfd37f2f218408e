import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.library.colours import PALETTE, write_video
from videoclip.output.figures import PALETTE as COLOURS
from videoclip.output.figures import (
    PNG_SCALE,
    annotate,
    new_figure,
    shorten,
    style,
    text_width,
    to_png,
    to_svg,
)
from videoclip.output.html import timeline_page
from videoclip.output.timeline import draw_timeline, grab_stills
from videoclip.zeroshot.moments import Moment
from videoclip.zeroshot.results import Timeline

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"


@pytest.fixture
def timeline(tmp_path):
    video = write_video(tmp_path / 'a "b" & c.mp4', ["red"] * 10 + ["blue"] * 10)
    spans = (
        Moment(video, 0.0, 10.0, "red <things>", 4.5, 0.9, 5.0, "high"),
        Moment(video, 10.0, 20.0, "blue", 14.5, 0.5, 1.3, "low"),
    )
    return Timeline(video, 20.0, 8.0, ("red <things>", "blue", "Äpfel schälen"), spans, 1.0)


def pixels_of(figure):
    return np.asarray(Image.open(io.BytesIO(to_png(figure))))[..., :3]


def boxes_of(svg):
    """Annotated shapes as (tooltip, start, [left, top, right, bottom], colour)."""
    boxes = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):
        path = group.find(f"{SVG}path")
        if group.get("class") == "plays" and path is not None:
            points = np.array(re.findall(r"([\d.]+) ([\d.]+)", path.get("d")), float)
            box = np.concatenate([points.min(axis=0), points.max(axis=0)])
            colour = re.search(r"fill: (#\w{6})", path.get("style"))[1]
            boxes.append((group[0].text, float(group.get("data-start")), box, colour))
    return boxes


def texts_of(svg):
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_boxes_lie_where_moments_are_and_are_paler_where_confidence_is_lower(timeline):
    svg = to_svg(draw_timeline(timeline), "A timeline")
    sure, unsure = boxes_of(svg)
    (_, start, box, colour), (_, other_start, other, pale) = sure, unsure
    assert box[2] == pytest.approx(other[0])
    assert box[2] - box[0] == pytest.approx(other[2] - other[0])
    assert (start, other_start) == (0.0, 10.0) and box[1] < other[1]
    assert colour == "#0072b2" and int(pale[3:5], 16) > 0x66
    texts = texts_of(svg)
    assert texts.count("not found") == 1 and "0:10.0-0:20.0" in texts
    assert "threshold: z-score 1, relative to unrelated texts" in texts
    assert ET.fromstring(svg).find(f"{SVG}title").text == "A timeline"


def test_svg_and_png_agree(timeline):
    figure = draw_timeline(timeline, grab_stills(timeline))
    pixels, svg = pixels_of(figure), to_svg(figure, "")
    root = ET.fromstring(svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    assert pixels.shape == (round(height * PNG_SCALE), round(width * PNG_SCALE), 3)
    stills = list(root.iter(f"{SVG}image"))
    assert len(stills) > 5
    assert all(s.get(f"{XLINK}href").startswith("data:image/jpeg") for s in stills)
    assert float(stills[0].get("data-start")) > 0 and stills[0].get("class") == "plays"
    boxes = boxes_of(svg)
    assert [tooltip for tooltip, *_ in boxes] == [
        "red <things>, 0:00.0-0:10.0, high",
        "blue, 0:10.0-0:20.0, low",
    ]
    for _, _, (left, top, _, _), colour in boxes:
        x, y = round(PNG_SCALE * (left + 5)), round(PNG_SCALE * (top + 5))
        assert "#" + bytes(pixels[y, x]).hex() == colour
    left = boxes[0][2][0]  # of the rows, where the stills begin, too
    pixel = pixels[round(PNG_SCALE * 80), round(PNG_SCALE * (left + 10))]
    assert abs(pixel.astype(int) - PALETTE["red"]).max() < 16


def test_equal_timelines_give_equal_files(timeline):
    first, second = (draw_timeline(timeline, grab_stills(timeline)) for _ in range(2))
    assert to_svg(first, "a") == to_svg(second, "a") == to_svg(first, "a")
    assert to_png(first) == to_png(second)


def test_long_labels_are_shortened_and_an_hour_has_few_ticks(timeline):
    long = Timeline(timeline.path, 3600.0, 8.0, ("word " * 60,), (), 1.0)
    texts = texts_of(to_svg(draw_timeline(long), ""))
    assert all(text_width(text, 18) < 900 for text in texts)
    assert "word word" in next(text for text in texts if text.endswith("…"))
    ticks = [text for text in texts if re.fullmatch(r"[\d:]+", text)]
    assert len(ticks) <= 13 and ticks[-1] == "1:00:00"


def test_shortened_texts_fit():
    assert shorten("short", 100, 12) == "short"
    assert shorten("a long sentence", 60, 12).endswith("…")
    assert text_width(shorten("a long sentence", 60, 12), 12) <= 60
    assert text_width("", 12) == 0


@pytest.mark.parametrize("text", ["Äpfel schälen", "切洋葱", "from $5 to $6", "100 % <&>"])
def test_every_text_is_drawn_as_it_is(text):
    with style():
        figure = new_figure(200, 40)
        annotate(figure.text(0.1, 0.5, text), text)
    assert (pixels_of(figure) < 128).any()
    assert texts_of(to_svg(figure, text)) == [text]


def test_the_page_links_the_video_and_plays_moments(timeline, tmp_path):
    figure = draw_timeline(timeline)
    beside = timeline_page(timeline, figure, tmp_path / "t.html")
    assert 'src="a%20%22b%22%20%26%20c.mp4"' in beside
    assert beside.count('<tr class="plays"') == 2 and "red &lt;things&gt;" in beside
    assert "Not found: Äpfel schälen." in beside
    elsewhere = timeline_page(timeline, figure, tmp_path / "sub" / "t.html")
    assert f'src="{(tmp_path / timeline.path.name).as_uri()}"' in elsewhere
    assert timeline_page(timeline, figure, Path("/elsewhere/t.html")).count("file:///") == 1


def test_matplotlib_and_jinja_are_imported_when_needed():
    code = (
        "import sys, videoclip.output.timeline, videoclip.output.html, videoclip.evaluation.report;"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_colours_of_many_labels_repeat_in_their_order():
    labels = tuple(f"label {i}" for i in range(2 * len(COLOURS) + 1))
    path = Path("a.mp4")
    found = [
        Moment(path, 5.0 * i, 5.0 * i + 4, labels[i], confidence="high") for i in range(len(labels))
    ]
    timeline = Timeline(path, 5.0 * len(labels), 8.0, labels, tuple(found[::-1]), 1.0)
    boxes = sorted(boxes_of(to_svg(draw_timeline(timeline), "many")), key=lambda box: box[1])
    assert [start for _, start, _, _ in boxes] == [moment.start for moment in found]
    drawn = [colour for *_, colour in boxes]
    assert drawn[: len(COLOURS)] == [colour.lower() for colour in COLOURS]
    assert drawn == (drawn[: len(COLOURS)] * 3)[: len(labels)]
    tops = [box[1] for _, _, box, _ in boxes]
    assert tops == sorted(tops) and len(set(tops)) == len(labels)
