"""Filters on videos such as `duration > 60 and camera = 'left'`, parsed into SQL.

    condition  = term ("or" term)*
    term       = factor ("and" factor)*
    factor     = "not" factor | "(" condition ")" | comparison
    comparison = name ("=" | "!=" | "<" | "<=" | ">" | ">=") value | name ["not"] "like" text
               | name ["not"] "in" "(" value ("," value)* ")" | name "is" ["not"] "null"

No text of the user becomes SQL: names are looked up and values are bound.
"""

import re
from collections import Counter
from collections.abc import Collection
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
NUMBERS = {"duration", "size", "width", "height", "frame_rate"}
"""Those of `COLUMNS` that are numbers; the others are texts."""

Value = str | float

TOKEN = re.compile(
    r"""\s*(?:
      (?P<value>'(?:[^'\ud800-\udfff]|'')*'|"(?:[^"\ud800-\udfff]|"")*"
      | [+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    | (?P<word>[^\W\d][\w.-]*)
    | (?P<sign><=|>=|!=|<>|==|[=<>(),])
    )""",
    re.VERBOSE,
)
SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
"""Signs of comparison, and what they are in SQL."""
KEYWORDS = {"and", "or", "not", "like", "in", "is", "null"}
LIMITS = {"(": 50, "not": 50, "and": 200, "or": 200}
"""How often a filter may contain each; SQLite does not evaluate many more."""
MAX_CHARACTERS = 12_000
"""Longest filter; SQLite does not compare patterns of more than 50,000 bytes."""
_VALUE = "a number or a text in quotes"
GRAMMAR = {
    "name": ("a name", {"not": "name", "(": "name", "name": "comparison"}),
    "comparison": (
        "a comparison such as =, <, like or in",
        {"sign": "value", "like": "value", "not": "negated", "in": "list", "is": "is"},
    ),
    "negated": ("like or in", {"like": "value", "in": "list"}),
    "value": (_VALUE, {"value": "end"}),
    "list": ("'('", {"(": "item"}),
    "item": (_VALUE, {"value": "comma"}),
    "comma": ("')'", {",": "item", ")": "end"}),
    "is": ("'null'", {"not": "null", "null": "end"}),
    "null": ("'null'", {"null": "end"}),
    "end": ("'and', 'or' or the end", {"and": "name", "or": "name", "": "end"}),
    "nested end": ("')'", {"and": "name", "or": "name", ")": "end"}),
}
"""What is expected in each state, and the next state after each kind of token."""


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
    kind: str  # name, value, sign, a keyword, a parenthesis or comma, or "" at the end
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
    if not isinstance(text, str):
        raise ConfigError(f"a filter is a text such as 'duration > 60', got {text!r:.200}")
    tokens = _tokens(text)
    counts = Counter(token.kind for token in tokens)
    if len(text) > MAX_CHARACTERS or any(counts[kind] > most for kind, most in LIMITS.items()):
        raise _error(text, "nested too deeply or too long", 1)
    sql: list[str] = []
    values: list[Value] = []
    state, depth, name = "name", 0, ""
    for token in tokens:
        expected, following = GRAMMAR["nested end" if state == "end" and depth else state]
        if token.kind not in following:
            if state == "value" and token.kind == "name":
                expected += f", such as '{token.text}'"
            elif state == "comparison" and not token.kind:
                expected += "; in a shell, put the whole filter in quotes"
            elif state == "end" and token.kind == ",":
                expected += "; a number has a point, as in 1.5"
            raise _error(text, f"expected {expected}", token.column)
        if state in ("name", "end"):
            depth += (token.kind == "(") - (token.kind == ")")
        if token.kind == "name":
            name = token.text
            sql.append(_column(text, token, metadata_keys))
            values += [token.text] if token.text in metadata_keys else []
        elif token.kind == "value":
            value, is_number = _value(token.text), name in NUMBERS
            is_checked = name not in metadata_keys and sql[-1] != "LIKE"
            if is_checked and is_number == isinstance(value, str):
                advice = "a number: leave out the quotes" if is_number else "a text: quote it"
                raise _error(text, f"{name} is {advice}", token.column)
            sql.append("?")
            values.append(value)
        else:
            sql.append(SIGNS.get(token.text, token.kind.upper()))
        state = following[token.kind]
    return Condition(f"({' '.join(sql)})", tuple(values))


def lacks_wildcard(text: str) -> bool:
    """Return whether the last `like` of a filter compares with a text that has no %."""
    return re.search(r"like\s+(['\"])(?!.*%)", text, re.IGNORECASE) is not None


def names_relative_path(text: str) -> bool:
    """Return whether a filter compares with a relative path; a library has absolute ones."""
    return (
        re.search(r"\bpath\s*(?:==?|in\s*\()\s*(['\"])(?!/|\w+://)", text, re.IGNORECASE)
        is not None
    )


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = TOKEN.match(text, at)
        if match is None:
            if re.match(r":\d", text[at:]):
                raise _error(text, "cannot read this; write times in seconds", at + 1)
            unit = re.match(r"\s*([\d.]+)[^\W\d]", text[at:])
            advice = f"; write numbers without a unit: {unit[1]}" if unit else ""
            raise _error(text, f"cannot read this{advice}", at + 1)
        group = match.lastgroup
        assert group is not None
        found, kind = match.group(group), group
        if group == "word":
            kind = found.casefold() if found.casefold() in KEYWORDS else "name"
        elif group == "sign":
            kind = "sign" if found in SIGNS else found
        tokens.append(_Token(kind, found, match.start(group) + 1))
        at = match.end()
    return [*tokens, _Token("", "", end + 1)]


def _column(text: str, token: _Token, metadata_keys: Collection[str]) -> str:
    """Return the SQL of a name; the user's own names take precedence."""
    if token.text in metadata_keys:
        return "(SELECT value FROM metadata WHERE video = videos.id AND key = ?)"
    if token.text in COLUMNS:
        return COLUMNS[token.text]
    known = sorted({*COLUMNS, *metadata_keys})
    raise _error(text, unknown("name", token.text, known), token.column)


def _value(text: str) -> Value:
    if (quote := text[0]) in "'\"":
        return text[1:-1].replace(quote * 2, quote)
    return float(text)


def _error(text: str, what: str, column: int) -> ConfigError:
    return ConfigError(f"filter {text[:200]!r}, character {column}: {what}")
