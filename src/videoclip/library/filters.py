"""Filters on videos such as `duration > 60 and camera = 'left'`, parsed into SQL.

    condition  = term ("or" term)*
    term       = factor ("and" factor)*
    factor     = "not" factor | "(" condition ")" | comparison
    comparison = name ("=" | "!=" | "<" | "<=" | ">" | ">=") value | name ["not"] "like" text
               | name ["not"] "in" "(" value ("," value)* ")" | name "is" ["not"] "null"

No text of the user becomes SQL: names are looked up and values are bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from videoclip.errors import ConfigError, unknown

COLUMNS = {
    "path": "path",
    "narration": "narration_path",
    "duration": "duration",
    "size": "size",
    "width": "width",
    "height": "height",
    "frame_rate": "frame_rate",
    "added": "added",
    "modified": "strftime('%Y-%m-%dT%H:%M:%S', mtime_ns / 1000000000, 'unixepoch')",
}
"""Names that every video has, and their SQL; dates compare as ISO text in UTC."""

Value = str | float | int

TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?!\w)
    | (?P<word>[^\W\d][\w.-]*)
    | (?P<sign><=|>=|!=|<>|==|[=<>(),])
    )""",
    re.VERBOSE,
)
COMPARISONS = {"=", "==", "!=", "<>", "<", "<=", ">", ">="}
MOST_NESTED = 50
"""Parentheses and negations; many more would exhaust Python's stack."""
KEYWORDS = {"and", "or", "not", "like", "in", "is", "null"}


@dataclass(frozen=True)
class Condition:
    """A checked filter over the table `videos`.

    Attributes:
        sql: An expression with a `?` for each value.
        values: The values, in that order.
    """

    sql: str
    values: tuple[Value, ...]


class _Token(NamedTuple):
    kind: str  # text, number, word, sign, end
    text: str
    column: int  # from 1


def parse_filter(text: str, metadata_keys: Collection[str] = ()) -> Condition:
    """Parse a filter.

    Args:
        text: See the grammar above; keywords in any case, text in single or double quotes.
        metadata_keys: The user's own names, in addition to `COLUMNS`.

    Raises:
        ConfigError: If it is not a valid filter or contains an unknown name.
    """
    parser = _Parser(text, metadata_keys)
    condition, token = parser.condition(), parser.tokens[parser.next]
    if token.kind != "end":
        raise parser.error("expected 'and', 'or' or the end", token.column)
    return condition


class _Parser:
    """Recursive descent, one method per rule of the grammar."""

    def __init__(self, text: str, metadata_keys: Collection[str]) -> None:
        self.text = text
        self.metadata_keys = metadata_keys
        self.tokens = self._tokens(text)
        self.next = 0
        if sum(token.text.casefold() in ("(", "not") for token in self.tokens) > MOST_NESTED:
            raise self.error("nested too deeply", 1)

    def _tokens(self, text: str) -> list[_Token]:
        tokens, at = [], 0
        end = len(text.rstrip())
        while at < end:
            match = TOKEN.match(text, at)
            if match is None:
                raise self.error("cannot read this", at + 1)
            assert match.lastgroup is not None
            column = match.start(match.lastgroup) + 1
            tokens.append(_Token(match.lastgroup, match.group(match.lastgroup), column))
            at = match.end()
        return [*tokens, _Token("end", "", end + 1)]

    def error(self, what: str, column: int) -> ConfigError:
        return ConfigError(f"filter {self.text!r}, character {column}: {what}")

    def take(self, *words: str) -> bool:
        token = self.tokens[self.next]
        found = token.kind in ("word", "sign") and token.text.casefold() in words
        self.next += found
        return found

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.error(f"expected '{word}'", self.tokens[self.next].column)

    def condition(self) -> Condition:
        return self.chain("or", lambda: self.chain("and", self.factor))

    def chain(self, word: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self.take(word):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        joined = f" {word.upper()} ".join(p.sql for p in parts)
        return Condition(f"({joined})", tuple(v for p in parts for v in p.values))

    def factor(self) -> Condition:
        if self.take("not"):
            inner = self.factor()
            return Condition(f"(NOT {inner.sql})", inner.values)
        if self.take("("):
            inner = self.condition()
            self.expect(")")
            return inner
        return self.comparison()

    def comparison(self) -> Condition:
        name, bound = self.name()
        token = self.tokens[self.next]
        if self.take("is"):
            word = "IS NOT NULL" if self.take("not") else "IS NULL"
            self.expect("null")
            return Condition(f"({name} {word})", bound)
        if self.take(*COMPARISONS):
            sign = {"==": "=", "<>": "!="}.get(token.text, token.text)
            return Condition(f"({name} {sign} ?)", (*bound, self.value()))
        negated = "NOT " if self.take("not") else ""
        if self.take("like"):
            return Condition(f"({name} {negated}LIKE ?)", (*bound, self.value()))
        if self.take("in"):
            self.expect("(")
            values = [self.value()]
            while self.take(","):
                values.append(self.value())
            self.expect(")")
            marks = ", ".join("?" * len(values))
            return Condition(f"({name} {negated}IN ({marks}))", (*bound, *values))
        raise self.error("expected a comparison such as =, <, like or in", token.column)

    def name(self) -> tuple[str, tuple[Value, ...]]:
        """Parse a name; return its SQL and the values bound in it."""
        token = self.tokens[self.next]
        if token.kind != "word" or token.text.casefold() in KEYWORDS:
            raise self.error("expected a name", token.column)
        self.next += 1
        if token.text in self.metadata_keys:  # the user's own names take precedence
            value = "(SELECT value FROM metadata WHERE video = videos.id AND key = ?)"
            return value, (token.text,)
        if token.text in COLUMNS:
            return COLUMNS[token.text], ()
        known = sorted({*COLUMNS, *self.metadata_keys})
        raise self.error(unknown("name", token.text, known), token.column)

    def value(self) -> Value:
        token = self.tokens[self.next]
        self.next += 1
        if token.kind == "text":
            quote = token.text[0]
            return token.text[1:-1].replace(quote * 2, quote)
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        raise self.error("expected a number or a text in quotes", token.column)
