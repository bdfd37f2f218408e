"""Ordered queries: "A, then B"."""

import json
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoclip.errors import ConfigError
from videoclip.library import sequences
from videoclip.library.search import SearchOptions, split_query
from videoclip.library.sequences import sequences_of
from videoclip.zeroshot.moments import Moment


@pytest.fixture
def indexed(library, videos):
    library.update([videos])
    return library


@pytest.mark.parametrize(
    "query, parts",
    [
        ("chop, then fry", ["chop", "fry"]),
        ("chop the onion , THEN fry it, then  stir", ["chop the onion", "fry it", "stir"]),
        ("chop, then ", ["chop, then "]),
        (", then fry", [", then fry"]),
        ("chop and then fry", ["chop and then fry"]),
        ("", [""]),
    ],
)
def test_parts_of_a_query(query, parts):
    assert split_query(query) == parts


def test_one_moment_follows_the_other(indexed, videos):
    first = indexed.search("red, then blue")[0]
    assert (first.path.name, first.start, first.end) == ("a.mp4", 0.0, 22.0)
    assert first.label == "red, then blue" and first.confidence == "high"
    assert [(part.label, part.start, part.end) for part in first.parts] == [
        ("red", 0.0, 10.0),
        ("blue", 10.0, 22.0),
    ]
    assert first.strength == min(part.strength for part in first.parts)
    three = indexed.search("red, then blue, then green", 1)[0]
    assert (three.start, three.end, len(three.parts)) == (0.0, 32.0, 3)
    assert all(m.confidence != "high" for m in indexed.search("blue, then red"))


def test_queries_are_answered_in_their_order_with_filters_and_pages(indexed):
    texts = ["red, then blue", "yellow", "black, then yellow"]
    many = indexed.search_many(texts)
    assert many == [indexed.search(text) for text in texts]
    assert many[2][0].parts[1].path.name == "b.mp4"
    two = indexed.search("black, then yellow", 2)
    assert indexed.search("black, then yellow", 1, offset=1) == two[1:]
    others = indexed.search("red, then blue", where="path like '%b.mp4'")
    assert {(m.path.name, m.confidence) for m in others} == {("b.mp4", "none")}
    with pytest.raises(ConfigError, match="set rerank_top to 0"):
        indexed.search_many(["red, then blue"], SearchOptions(rerank_top=5))


def test_more_moments_are_fetched_until_no_sequence_can_be_missed(indexed, monkeypatch):
    everything = indexed.search("black, then yellow", 3)
    monkeypatch.setattr(sequences, "MOMENTS_PER_SEQUENCE", 1)
    assert indexed.search("black, then yellow", 3) == everything


def test_the_curve_shows_the_strongest_part(indexed, videos):
    path = videos / "a.mp4"
    both = indexed.score_curve("red, then blue", path)
    one, two = (indexed.score_curve(text, path) for text in ("red", "blue"))
    assert (both[:, 2] == [max(pair) for pair in zip(one[:, 2], two[:, 2])]).all()


def test_json_has_the_parts_only_where_there_are_any(indexed):
    row = json.loads(json.dumps(indexed.search("red, then blue")[0].as_dict()))
    assert [part["label"] for part in row["parts"]] == ["red", "blue"]
    assert "parts" not in indexed.search("red")[0].as_dict()


SPANS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=5
)


@given(st.lists(SPANS, min_size=2, max_size=3))
def test_the_best_chain_is_that_of_all_chains(parts):
    moments = [
        [Moment(Path("a"), a, a + length, strength=s) for a, length, s in part] for part in parts
    ]
    chains = [
        chain
        for chain in product(*moments)
        if all(a.start < b.start and a.end < b.end for a, b in pairwise(chain))
    ]

    def rank(chain):
        return -min(moment.strength for moment in chain), chain[-1].end - chain[0].start

    found = sequences_of(moments, num_per_video=9)
    assert bool(found) == bool(chains)
    if chains:
        assert rank(found[0].parts) == min(map(rank, chains))
    used = [id(moment) for one in found for moment in one.parts]
    assert len(used) == len(set(used))


@given(SPANS, SPANS, st.lists(st.booleans(), min_size=10, max_size=10))
def test_a_sequence_has_what_its_moments_have(first, second, said):
    spoken = iter(said)
    parts = [
        [
            Moment(
                Path("a"),
                *(a, a + length),
                strength=s,
                best=a + 0.25,
                confidence="high" if s > 2 else "low",
                has_all_words=next(spoken),
                words=f"words {s}",
            )
            for a, length, s in part
        ]
        for part in (first, second)
    ]
    for one in sequences_of(parts, "a, then b", num_per_video=9):
        earlier, later = one.parts
        weakest = min(one.parts, key=lambda moment: moment.strength)
        assert (one.start, one.end, one.best) == (earlier.start, later.end, earlier.best)
        assert (one.strength, one.confidence) == (weakest.strength, weakest.confidence)
        assert one.has_all_words == (earlier.has_all_words and later.has_all_words)
        assert one.words == " … ".join(dict.fromkeys((earlier.words, later.words)))
        assert one.label == "a, then b"
