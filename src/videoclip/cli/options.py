"""Options that several commands share, and how command-line arguments become a command.

Whatever is the same thing in two commands has its flag, type and help text here and its default in
a constant, so that commands cannot drift apart (`tests/cli/test_options.py` compares them all).
"""

from __future__ import annotations

import dataclasses
import io
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from itertools import pairwise
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import tyro
from tyro.conf import Positional, arg
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from videoclip.cli import usage
from videoclip.config.codec import NOT_NEGATIVE, POSITIVE, check_numbers, require
from videoclip.errors import ConfigError, printable

if TYPE_CHECKING:
    from videoclip.embedding import Embedder
    from videoclip.types import OnProgress

CommandT = TypeVar("CommandT")

AUTO = "auto"
"""The default device."""
LIBRARY = "library"
"""The default library, in the current folder."""
BACKBONE = "starter"
"""The default backbone: it needs nothing but installed packages."""
THRESHOLD = 1.0
"""The default threshold; the same as `zeroshot.confidence.MIN_Z_SCORE`, which imports torch."""

Annotations = Annotated[
    Path, arg(metavar="PATH", help="The benchmark's own annotation files: a folder or a file.")
]
_BACKBONES = Path(__file__).parents[1] / "features" / "backbones"  # listed, not imported
Backbone = Annotated[
    str,
    arg(
        metavar="NAME",
        help=f"Frozen network: {', '.join(m.name for m in iter_modules([str(_BACKBONES)]))}; "
        "NAME:FOLDER_OR_HUB_ID with its weights (s3d, image); or a backbone's folder.",
    ),
]
Cluster = Annotated[
    str | None,
    arg(
        metavar="[ADDRESS]",
        help="Compute on a Ray cluster: the one this machine belongs to (auto) or HOST:PORT; "
        "without an address, on a Ray started here.",
    ),
]
Device = Annotated[
    str, arg(metavar="DEVICE", help="Torch device, such as cpu or cuda; auto: a GPU if present.")
]
_FEATURES = arg(metavar="FOLDER", help="Feature store, the folder that `videoclip extract` writes.")
Features = Annotated[Path, _FEATURES]
OptionalFeatures = Annotated[Path | None, _FEATURES]
FramesPerSecond = Annotated[
    float | None,
    POSITIVE,
    arg(
        metavar="N",
        help="Frames that the model is given of each second; by default its own rate, mostly 1. "
        "Stored with the features.",
    ),
]
Html = Annotated[Path | None, arg(metavar="FILE", help="HTML page to write; moments play in it.")]
Json = Annotated[bool, arg(help="Print the result as JSON.")]
Library = Annotated[
    str,
    arg(
        metavar="LIBRARY",
        help="Folder of the library, or its address in object storage (s3://...).",
    ),
]
MinConfidence = Annotated[
    Literal["none", "low", "medium", "high"],
    arg(help="Leave out moments of lower confidence; none leaves out nothing."),
]
Nearest = Annotated[
    bool,
    arg(help="Keep moments of confidence none too: the nearest to a query that nothing matches."),
]
Model = Annotated[
    str | None,
    arg(
        metavar="MODEL",
        help='Model folder, hub id, "starter" or a short name; see `videoclip models`.',
    ),
]
NumVideos = Annotated[int, POSITIVE, arg(metavar="N", help="How many videos the world has.")]
RerankTop = Annotated[
    int,
    NOT_NEGATIVE,
    arg(metavar="N", help="Best candidates that the model's re-ranker, if any, scores again."),
]
Seconds = Annotated[
    float,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="TIME",
        instance_from_str=lambda words: usage.seconds(words[0]),
        is_instance=lambda value: isinstance(value, (int, float)),
        str_from_instance=lambda value: [f"{value:g}"],
    ),
]
RequireMatch = Annotated[bool, arg(help="Exit with status 3 if nothing matches.")]
Threshold = Annotated[
    float,
    arg(metavar="Z", help="Least z-score of a match: standard deviations above unrelated texts."),
]
Video = Annotated[Path, Positional, arg(metavar="VIDEO", help="Video file.")]
Videos = Annotated[
    tuple[Path, ...],
    Positional,
    arg(metavar="VIDEO [VIDEO ...]", help="Video files, and folders of videos."),
]
Vocabulary = Annotated[
    Path | None, arg(metavar="FILE", help="Vocabulary of the text tower (vocab.txt).")
]
Workers = Annotated[
    int | None,
    NOT_NEGATIVE,
    arg(metavar="N", help="Worker processes; by default one per core. 0: no extra process."),
]

_MANY = ("query", "videos", "runs")
"""Arguments of any number of words."""
_FLAG = re.compile(r"(?<!\S)--?[a-zA-Z][\w.-]*")
"""An option in a help text."""
_MAY_LACK_VALUE = {"--cluster": (r"auto|local|[^/]+:\d+", "local"), "--open": (r"-?\d+", "0")}
"""Options whose value may be left out: how a value looks (anything else is an argument of its
own), and what stands for none."""

FLAGS = {"num_workers": "workers"}
"""Settings of recipes that have another name on the command line."""


def refuse_given(part: object, names: Sequence[str], reason: str) -> None:
    """Raise a `ConfigError` if one of the options `names` differs from its default."""
    for name in names:
        is_default = getattr(part, name) == getattr(type(part), name)
        require(is_default, f"{reason}: omit --{name.replace('_', '-')}")


def parse(
    command: type[CommandT],
    arguments: Sequence[str],
    prog: str,
    default: CommandT | None = None,
) -> CommandT:
    """Make a command from its arguments; wrong ones end the process with status 2.

    So do a `ConfigError` of the command or its configs, and a number outside the range that its
    annotation names.

    Args:
        command: The command's dataclass.
        arguments: What follows the command's name.
        prog: The command's name, for messages.
        default: Values of what is not given, and `tyro.MISSING` for what must be given.
    """
    arguments = list(arguments)
    for flag, (pattern, value) in _MAY_LACK_VALUE.items():  # tyro has no such options
        if flag in arguments:
            position = arguments.index(flag) + 1
            if not re.fullmatch(pattern, "".join(arguments[position : position + 1])):
                arguments.insert(position, value)

    def call(words: Sequence[str], **more: Any) -> Any:
        registry = ConstructorRegistry()
        registry.struct_rule(_PlainHelp(has_texts="--help" in words or "-h" in words))
        return tyro.cli(
            command,
            prog=prog,
            args=words,
            default=MISSING_NONPROP if default is None else default,
            config=(tyro.conf.DisallowNone,),
            registry=registry,
            **more,
        )

    def flags() -> list[str]:
        with redirect_stdout(io.StringIO()) as text, suppress(SystemExit):
            call(["--help"])
        return list(dict.fromkeys(_FLAG.findall(text.getvalue())))

    try:
        for word in arguments:
            require(not re.fullmatch(r"--[\w.-]+=", word), f"{word[:-1]}: its value is missing")
        with usage.errors_in_one_line(flags):
            made, rest = call(arguments, return_unknown_args=True)
        for switch, _, value in (word.partition("=") for word in arguments):
            require(not value or value not in rest, f"{switch} takes no value: leave out ={value}")
        # Words may stand on both sides of an option: `search a --json dog`.
        given = vars(made)
        name = next((n for n in given if n in _MANY and isinstance(given[n], tuple)), None)
        if rest and name and not any(word.startswith("-") for word in rest):
            words = rest if name == "query" else map(Path, rest)
            made, rest = dataclasses.replace(made, **{name: (*given[name], *words)}), []
        if rest:
            takes_file = "video" in given or "source" in given
            stray = getattr(made, "stray", "")
            raise ConfigError(usage.unknown_arguments(rest, flags(), stray, takes_file=takes_file))
        check_numbers(made)
        require(getattr(made, "videos", None) != (), "name at least one VIDEO")
        for before, word in pairwise(("", *arguments)):
            # Options would be ignored, the path '' would be the current folder; only the question
            # of `ask` may be empty.
            place = f" (after {before})" if before.startswith("-") else ""
            require(
                bool(word.strip()) or word == given.get("question"),
                f"an argument is empty{place}: is a variable of the shell not set?",
            )
    except ConfigError as error:
        reason = str(error)
        # An option that needs none may be why something seems to be missing.
        wrong = [word for word in arguments if word.partition("=")[0] in usage.NEEDS_NO_OPTION]
        if wrong and wrong[0] not in flags():
            reason = usage.unknown_arguments(wrong, ())
        print(f"{prog}: error: {reason}; see {prog} --help", file=sys.stderr)
        raise SystemExit(2) from None
    return cast(CommandT, made)


def load_embedder(model: str | None, device: str) -> Embedder:
    """Load the named model, or else the best one present; if not the starter, it is printed."""
    from videoclip.embedding import Embedder
    from videoclip.pretrained.known import STARTER, default_model

    name = default_model() if model is None else model
    if model is None and name != STARTER:
        print_model(name)
    return Embedder.from_pretrained(name, device)


def print_model(name: str) -> None:
    """Print the model that is used because none was named."""
    from videoclip.pretrained.known import STARTER

    why = "no stronger one is here" if name == STARTER else "the best one here"
    print(f"videoclip: model: {name} ({why}; see `videoclip models`)", file=sys.stderr)


def model_of_features(model: str | None, features: Path) -> str:
    """Return the named model, or else the one that features were made for: by default the starter.

    Raises:
        DataError: If the folder is no feature store.
    """
    if model is not None:
        return model
    from videoclip.data.feature_store import FeatureStore
    from videoclip.pretrained.known import STARTER

    with FeatureStore.open(features) as store:
        kind, _, source = store.spec.backbone.partition(":")
    return source if kind in ("image", "video") else STARTER


def print_failures(failed: Mapping[Any, str], what: str = "failed") -> int:
    """Print the reason for each file that failed on stderr; return the exit status."""
    for path, reason in failed.items():
        print(f"videoclip: {what}: {printable(path)}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def progress_line(unit: str) -> OnProgress | None:
    """Return a callback that prints "3 of 10 videos" on stderr; None if that is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        if total:
            end = "\n" if done == total else ""
            print(f"\r{done:,} of {total:,} {unit}", end=end, file=sys.stderr, flush=True)

    return show


class _PlainHelp:
    """A rule for tyro that describes the options of dataclasses more plainly.

    Defaults that mean "not given" or "off" are not printed, a help text is one paragraph, and a
    switch has one flag; only the settings of recipes keep `--x` and `--no-x`, because a recipe may
    turn them on.

    Args:
        has_texts: Whether help texts are needed: they are parsed from the source, which would take
            half the time of parsing the arguments of `pretrain`.
    """

    def __init__(self, has_texts: bool) -> None:
        self._has_texts = has_texts
        self._busy = False

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if self._busy or not dataclasses.is_dataclass(info.type):
            return None
        self._busy = True  # so that tyro's own rule answers
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._busy = False
        assert isinstance(spec, StructConstructorSpec)
        is_recipe = info.type.__module__.startswith("videoclip.config")
        fields = tuple(_plain(field, keeps_pairs=is_recipe) for field in spec.fields)
        if not self._has_texts:
            fields = tuple(dataclasses.replace(field, helptext="") for field in fields)
        return dataclasses.replace(spec, fields=fields)


def _plain(field: StructFieldSpec, keeps_pairs: bool) -> StructFieldSpec:
    hidden = {"", "None", "''"} if keeps_pairs else {"", "None", "''", "False"}
    extra: list[Any] = [
        arg(
            name=FLAGS.get(field.name),
            help_behavior_hint=lambda value: "" if value in hidden else f"(default: {value})",
        )
    ]
    if field.default is False and not keeps_pairs:
        extra.append(tyro.conf.FlagCreatePairsOff)
    text = field.helptext

    def one_paragraph() -> str | None:
        found = text() if callable(text) else text
        return " ".join(found.split()) if found else None

    described: Any = Annotated[(field.type, *extra)]
    return dataclasses.replace(field, type=described, helptext=one_paragraph)
