import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.errors import ConfigError
from videoclip.library.filters import parse_filter

ROWS = [
    {"path": "/v/a.mp4", "duration": 30.0, "width": 640, "camera": "left", "take": 1.0},
    {"path": "/v/b.mp4", "duration": 90.0, "width": 1280, "camera": "right", "take": 2.0},
    {"path": "/w/it's.mp4", "duration": 120.0, "width": None, "camera": "left", "take": None},
]
any_character = st.characters(exclude_categories=["Cs"])
"""What `st.text` draws from by default, found without encoding every character there is."""


@pytest.fixture(scope="module")
def database():
    db = sqlite3.connect(":memory:")
    db.executescript(
        "CREATE TABLE videos (id INTEGER PRIMARY KEY, path, duration, width, mtime_ns);"
        "CREATE TABLE metadata (video, key, value);"
    )
    for key, row in enumerate(ROWS):
        values = (key, row["path"], row["duration"], row["width"], 10**18 * (key + 1))
        db.execute("INSERT INTO videos VALUES (?, ?, ?, ?, ?)", values)
        for name in ("camera", "take"):
            db.execute("INSERT INTO metadata VALUES (?, ?, ?)", (key, name, row[name]))
    yield db
    db.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("duration > 60", [1, 2]),
        ("duration > 60 and camera = 'left'", [2]),
        ("duration<60 OR take>=2", [0, 1]),
        ("not camera == 'left'", [1]),
        ("not (camera = 'left' or duration = 90)", []),
        ("path like '/v/%'", [0, 1]),
        ("path not like '/v/%'", [2]),
        ('path = "/w/it\'s.mp4"', [2]),
        ("path like '%it''s%'", [2]),
        ("camera in ('right', 'top')", [1]),
        ("take not in (1)", [1]),
        ("width is null", [2]),
        ("take is not null and width <> 640", [1]),
        ("duration > 1e2", [2]),
        ("duration > 1E2", [2]),
        ("duration > -5 and width <= 640.0", [0]),
        ("modified < '2040'", [0, 1]),
    ],
)
def test_filters_mean_what_they_say(database, text, expected):
    condition = parse_filter(text, ["camera", "take"])
    sql = f"SELECT id FROM videos WHERE {condition.sql} ORDER BY id"
    assert [key for (key,) in database.execute(sql, condition.values)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: expected a name"),
        ("duration", "character 9: expected a comparison"),
        ("duration >", "character 11: expected a number or a text"),
        ("duration > x", "expected a number or a text"),
        ("duration > '60'", "character 12: duration is a number: leave out the quotes"),
        ("width in (640, '720')", "character 16: width is a number"),
        ("added > 2024", "character 9: added is a text: quote it"),
        ("durtion > 3", "perhaps you meant 'duration'"),
        ("zzz = 1", "known: added, "),
        ("duration > 3 camera", "character 14: expected 'and', 'or' or the end"),
        ("(duration > 3", "expected '\\)'"),
        ("camera in 'left'", "expected '\\('"),
        ("camera is 3", "expected 'null'"),
        ("duration > 3; drop table videos", "character 13: cannot read this"),
        ("duration > 3 -- x", "cannot read this"),
        ("camera = 'left", "cannot read this"),
        ("and = 3", "expected a name"),
        ("(" * 200 + "duration > 1" + ")" * 200, "nested too deeply"),
    ],
)
def test_mistakes_are_pointed_at(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_filter(text, ["camera"])


@given(st.text(any_character, max_size=40))
def test_no_text_of_the_user_becomes_sql(text):
    try:
        condition = parse_filter(text, ["camera"])
    except ConfigError:
        return
    assert "'" not in condition.sql.replace("'%Y-%m-%dT%H:%M:%S'", "").replace("'unixepoch'", "")
    assert ";" not in condition.sql


@given(st.text(any_character, max_size=20))
def test_any_text_in_quotes_comes_through_unharmed(text):
    quoted = "'" + text.replace("'", "''") + "'"
    assert parse_filter(f"path = {quoted}").values == (text,)
