import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.library.colours import PALETTE, write_video
from videoclip.output.drawing import SCALE, Box, Picture, Text, text_width, to_png, to_svg
from videoclip.output.html import to_html
from videoclip.output.timeline import draw_timeline, photograph
from videoclip.zeroshot.results import Moment, Timeline

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def timeline(tmp_path):
    video = write_video(tmp_path / 'a "b" & c.mp4', ["red"] * 10 + ["blue"] * 10)
    spans = (
        Moment(video, 0.0, 10.0, "red <things>", 4.5, 0.9, 5.0, "high"),
        Moment(video, 10.0, 20.0, "blue", 14.5, 0.5, 1.3, "low"),
    )
    return Timeline(video, 20.0, 8.0, ("red <things>", "blue", "Äpfel schälen"), spans, 1.0)


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(to_png(picture))))


def test_spans_lie_where_they_happen_and_are_paler_where_less_sure(timeline):
    picture = draw_timeline(timeline)
    sure, unsure = (shape for shape in picture.shapes if isinstance(shape, Box) and shape.tip)
    assert sure.x + sure.width == pytest.approx(unsure.x)
    assert sure.width == pytest.approx(unsure.width)
    assert (sure.seconds, unsure.seconds) == (0.0, 10.0) and sure.y < unsure.y
    assert sure.fill == "#4477aa" and int(unsure.fill[3:5], 16) > 0x66
    texts = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert texts.count("not found") == 1 and "0:10.0-0:20.0" in texts
    assert any("from 1 deviations" in text for text in texts)


def test_the_drawing_and_the_photographs_of_it_agree(timeline):
    picture = draw_timeline(timeline, photograph(timeline))
    pixels = pixels_of(picture)
    assert pixels.shape == (round(picture.height * SCALE), round(picture.width * SCALE), 3)
    root = ET.fromstring(to_svg(picture))
    width = float(root.get("viewBox").split()[2])
    stills = root.findall(f"{SVG}image")
    assert len(stills) > 5 and all(s.get("href").startswith("data:image/jpeg") for s in stills)
    spans = [rect for rect in root.findall(f"{SVG}rect") if rect.get("data-start")]
    assert [rect.find(f"{SVG}title").text for rect in spans] == [
        "red <things>, 0:00.0-0:10.0, high",
        "blue, 0:10.0-0:20.0, low",
    ]
    for rect in spans:
        x, y = (round(SCALE * (float(rect.get(side)) + 5)) for side in ("x", "y"))
        assert "#" + bytes(pixels[y, x]).hex() == rect.get("fill")
    first = stills[0]
    x, y = (
        round(SCALE * (float(first.get(side)) + float(first.get(size)) / 2))
        for side, size in (("x", "width"), ("y", "height"))
    )
    assert abs(pixels[y, x].astype(int) - PALETTE["red"]).max() < 16
    assert width == picture.width


def test_long_labels_are_shortened_and_an_hour_has_few_ticks(timeline):
    long = Timeline(timeline.path, 3600.0, 8.0, ("word " * 60,), (), 1.0)
    texts = [shape for shape in draw_timeline(long).shapes if isinstance(shape, Text)]
    assert all(text_width(text.text, text.size) < 900 for text in texts)
    assert "word word" in next(text.text for text in texts if text.text.endswith("…"))
    ticks = [text.text for text in texts if re.fullmatch(r"[\d:]+", text.text)]
    assert len(ticks) <= 13 and ticks[-1] == "1:00:00"


def test_letters_beyond_ascii_are_drawn_or_shown_as_missing():
    for text in ("Äpfel schälen", "切洋葱"):
        assert (pixels_of(Picture(200, 40, "", [Text(5, 30, text)])) < 128).any()
    assert "切洋葱" in to_svg(Picture(200, 40, "", [Text(5, 30, "切洋葱")]))


def test_the_page_links_the_video_and_plays_spans(timeline, tmp_path):
    picture = draw_timeline(timeline)
    beside = to_html(timeline, picture, tmp_path / "t.html")
    assert 'src="a%20%22b%22%20%26%20c.mp4"' in beside
    assert beside.count('<tr class="plays"') == 2 and "red &lt;things&gt;" in beside
    assert "Not found: Äpfel schälen." in beside
    elsewhere = to_html(timeline, picture, tmp_path / "sub" / "t.html")
    assert f'src="{(tmp_path / timeline.path.name).as_uri()}"' in elsewhere
    assert to_html(timeline, picture, Path("/elsewhere/t.html")).count("file:///") == 1
