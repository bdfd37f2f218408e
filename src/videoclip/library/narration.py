"""What of a query is looked for in the narration, and what is found there."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["NarrationHit", "words_that_matter"]

STOP_WORDS = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "he", "her"}
    | {"his", "i", "in", "into", "is", "it", "its", "me", "my", "of", "on", "or", "our", "she"}
    | {"so", "some", "someone", "something", "that", "the", "their", "them", "then", "there"}
    | {"they", "this", "to", "was", "we", "were", "what", "when", "where", "which", "who", "will"}
    | {"with", "you", "your"}
)
"""English words that say nothing about what is looked for."""


@dataclass(frozen=True)
class NarrationHit:
    """A cue in which words of a query are spoken.

    Attributes:
        video: Key of the video in the catalogue.
        start: Seconds.
        end: Seconds.
        is_complete: Whether every word that matters is there, in some inflection.
    """

    video: int
    start: float
    end: float
    is_complete: bool

    @property
    def middle(self) -> float:
        """Seconds."""
        return 0.5 * (self.start + self.end)


def words_that_matter(query: str) -> list[str]:
    """The words of a query without repeats and stop words; with these where there are no others."""
    words = list(dict.fromkeys(re.findall(r"\w+", query.casefold())))
    return [word for word in words if word not in STOP_WORDS] or words
