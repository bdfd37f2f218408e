import os
import resource
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from videoclip.data.captions import Cue, _borders, clean_cues, clean_text, join_cues, unroll

SENTENCES = [
    "first we chop the onion",
    "then it goes in the pan",
    "yes",
    "chop it",
    "chop it chop it",
    "the pan is hot",
    "now",
    "大家好",
    "stir and stir and stir",
    "the onion",
]

any_character = st.characters(exclude_categories=["Cs"])
"""What `st.text` draws from by default, found without encoding every character there is."""


def cues_of(*texts, seconds=2.0):
    return [Cue(i * seconds, (i + 1) * seconds, text) for i, text in enumerate(texts)]


def texts_of(cues):
    return [cue.text for cue in cues]


def rolling(lines, rows=2, hold=0.01, seconds=2.0, separator="\n", pause=0.0):
    """What a video site writes: a screen of `rows` lines per line, each held for an instant."""
    screens, screen = [], []
    for i, line in enumerate(lines):
        screen = [*screen[-(rows - 1) :], line]
        start = i * (seconds + pause)
        screens.append(Cue(start, start + seconds - hold, separator.join(screen)))
        screen = screen[1:] if len(screen) == rows else screen
        screens.append(Cue(start + seconds - hold, start + seconds, separator.join(screen)))
    return screens


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("<i>hello</i> <font color='red'>world</font>", "hello world"),
        ("hello<00:00:01.500><c> everyone</c><00:00:02.000><c.colorE5E5E5> here</c>", None),
        ("<v Roger Bingham>We are in New York", "We are in New York"),
        ("{\\an8\\i1}on top{\\i0}", "on top"),
        ("♪ la la ♪", "la la"),
        ("♪♪", ""),
        ("[Music] and [Applause]", "and"),
        ("rock &amp; roll &lt;3 it&#39;s", "rock & roll <3 it's"),
        ("salt&amp;nbsp;and&nbsp;pepper &amp;gt;&amp;gt; yes", "salt and pepper >> yes"),
        ("&gt;&gt; HELLO\n- and you?", "HELLO and you?"),
        ("-5 degrees - really", "-5 degrees - really"),
        ("zero\u200bwidth\ufeff soft\u00adhyphen", "zerowidth softhyphen"),
        ("line one<br>line two<BR />- yes", "line one line two yes"),
        ("two\nlines\t and   spaces ", "two lines and spaces"),
        ("\n \n - yes\n\n\n>> no", "yes no"),
        ("not&#99999999; a&#" + "9" * 5000 + "; character&#33;", "not a character!"),
        ("nor&amp;#" + "9" * 5000 + "; this", "nor this"),
        ("1 < 2 and 3 > 2, {braces} stay", "1 < 2 and 3 > 2, {braces} stay"),
    ],
)
def test_texts_are_cleaned(dirty, clean):
    assert clean_text(dirty) == ("hello everyone here" if clean is None else clean)


@given(st.text(any_character, max_size=40))
def test_clean_text_is_one_tidy_line(text):
    clean = clean_text(text)
    assert clean == " ".join(clean.split())
    assert not set(clean) & set("♪\n\ufeff\u200b")


@given(
    lines=st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=12),
    rows=st.sampled_from([2, 3]),
    separator=st.sampled_from(["\n", " "]),
)
def test_rolling_screens_give_back_the_lines_with_their_repeats(lines, rows, separator):
    if rows == 3:  # three rows and a line said three times look the same one line further
        assume(all(a != b for a, b in pairwise(lines)))
        assume(all(a != b for a, b in zip(lines, lines[2:], strict=False)))
    found = clean_cues(rolling(lines, rows, separator=separator))
    assert texts_of(found) == lines
    for i, cue in enumerate(found):
        assert cue.start == 2.0 * i
        assert cue.end == 2.0 * (i + 1)


@given(st.lists(st.sampled_from(SENTENCES[:4]), min_size=1, max_size=12), st.floats(0, 3))
def test_what_is_really_said_twice_stays(lines, pause):
    cues = [Cue(i * 5.0, i * 5.0 + 5.0 - pause, line) for i, line in enumerate(lines)]
    assert clean_cues(cues) == cues


@given(st.lists(st.sampled_from([s for s in SENTENCES if " " in s]), min_size=1, max_size=12))
def test_old_lines_are_recognised_after_a_pause(lines):
    assert texts_of(clean_cues(rolling(lines, pause=3.0))) == lines


def test_the_stages_of_a_rolling_caption():
    """As drawn by a site: the new line grows below, and the old one is held while it rolls."""
    screens = [
        Cue(0.0, 2.0, " \nhello<00:00:00.500><c> everyone</c>"),
        Cue(2.0, 2.01, "hello everyone\n "),
        Cue(2.01, 5.0, "hello everyone\ntoday<00:00:03.000><c> we</c><00:00:04.000><c> cook</c>"),
        Cue(5.0, 5.01, "today we cook\n "),
        Cue(5.01, 7.0, "today we cook\n[Music]"),
        Cue(9.0, 11.0, " \nrice"),
        Cue(11.0, 11.01, "rice\n "),
        Cue(11.01, 12.0, "rice\nrice"),
        Cue(12.0, 12.01, "rice\n "),
    ]
    assert clean_cues(screens) == [
        Cue(0.0, 2.01, "hello everyone"),
        Cue(2.01, 5.01, "today we cook"),
        Cue(9.0, 11.01, "rice"),
        Cue(11.01, 12.01, "rice"),
    ]


def test_growing_captions_and_captions_joined_to_one_line():
    growing = cues_of("we", "we chop", "we chop the", "we chop the onion")
    assert texts_of(unroll(growing)) == ["we", "chop", "the", "onion"]
    joined = cues_of("first line second line", "second line third line", "third line fourth one")
    assert texts_of(unroll(joined)) == ["first line second line", "third line", "fourth one"]


def test_a_few_shared_words_do_not_make_a_file_roll():
    cues = cues_of("add salt", "salt is good", "I have", "I have a dream", "yes", "yes", "done now")
    assert unroll(cues) == cues
    few = cues_of("I want", "I want to go", "home now")
    assert unroll(few) == few
    assert unroll([]) == []


def test_spans_are_put_in_order_without_overlap():
    cues = [
        Cue(10.0, 8.0, "turned round"),
        Cue(-1.0, 3.0, "early"),
        Cue(2.0, 6.0, "overlapping"),
        Cue(2.0, 4.0, "at the same time"),
        Cue(4.0, 5.0, "  "),
        Cue(5.0, 7.0, "later"),
        Cue(5.5, 7.5, "later"),
    ]
    assert clean_cues(cues) == [
        Cue(0.0, 2.0, "early"),
        Cue(2.0, 4.0, "at the same time"),
        Cue(2.0, 5.0, "overlapping"),
        Cue(5.0, 7.5, "later"),
        Cue(8.0, 10.0, "turned round"),
    ]


@given(
    st.lists(
        st.builds(
            Cue,
            st.floats(-5, 50),
            st.floats(-5, 50),
            st.lists(st.sampled_from(["a", "b", "c", "[x]", "♪"]), max_size=4).map(" ".join),
        ),
        max_size=12,
    )
)
def test_clean_cues_keep_their_promises(cues):
    found = clean_cues(cues)
    assert all(cue.text and 0 <= cue.start <= cue.end for cue in found)
    assert [cue.start for cue in found] == sorted(cue.start for cue in found)
    for first, second in pairwise(found):
        assert first.end <= second.start or first.start == second.start
    said = {word for cue in cues for word in cue.text.split()} & set("abc")
    assert {word for cue in found for word in cue.text.split()} == said


def test_cues_are_joined_until_a_pause_or_the_longest_passage():
    cues = [Cue(0, 3, "a"), Cue(3, 6, "b"), Cue(6, 9, "c"), Cue(9, 9.5, "d"), Cue(12, 13, "e")]
    joined = [Cue(0, 6, "a b"), Cue(6, 9.5, "c d"), Cue(12, 13, "e")]
    assert join_cues(cues, max_seconds=8, max_pause=2) == joined
    assert join_cues([Cue(0, 30, "long"), Cue(30, 31, "short")], 8, 2) == [
        Cue(0, 30, "long"),
        Cue(30, 31, "short"),
    ]
    assert join_cues([], 8, 2) == []


@pytest.mark.parametrize(("pause", "kept"), [(0.0, "is good"), (60.0, "golden is good")])
def test_after_a_pause_one_word_that_is_spoken_again_is_no_old_line(pause, kept):
    cues = [
        Cue(0, 2, "chop the onion"),
        Cue(2, 4, "chop the onion\nand the garlic"),
        Cue(4, 6, "and the garlic\ngolden"),
        Cue(6 + pause, 8 + pause, "golden is good"),
    ]
    lines = ["chop the onion", "and the garlic", "golden", kept]
    assert [cue.text for cue in unroll(cues)] == lines


@pytest.mark.parametrize(
    "cues",
    [
        pytest.param(cues_of("a" + "\n" * 1_000_000 + "b"), id="empty lines"),
        pytest.param(cues_of(*("a " * 100_000 + end for end in "bcd")), id="equal words"),
        pytest.param([Cue(0, 1, "ten words " * 5)] * 100_000, id="copies"),
    ],
)
def test_work_grows_with_the_length_of_captions_not_with_its_square(cues):
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (30, 30))  # a square takes many minutes
            join_cues(clean_cues(cues), 8, 2)
            join_cues(cues, 8, 2)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=12),
    st.lists(st.sampled_from("ab"), max_size=12),
)
def test_repeated_words_are_found_at_every_length(words, shown):
    counts = range(1, min(len(words), len(shown)) + 1)
    assert _borders(words, shown) == {n for n in counts if shown[-n:] == words[:n]}
