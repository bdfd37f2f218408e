"""Change the pure modules in one small way at a time, and see whether the tests notice.

    make mutants                            # 400 of 3,000 mutants, drawn by a seed
    make mutants MUTANTS="--sample 100 --seed 7"
    make mutants MUTANTS="--sample 0"       # all of them: hours
    make mutants MUTANTS="--again"          # those that survived, after new tests

mutmut makes the mutants in the folder `mutants` and tries each by the tests that call its function;
pyproject.toml names the modules and the tests. Survivors are printed with what they change.
"""

import argparse
import ast
import difflib
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

FOLDER = Path("mutants")
SURVIVED, NO_TESTS = 0, 33
"""What mutmut notes; None: not tried. Anything else is a failed test or a time-out."""


def main() -> None:
    """Try mutants, then print the table and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=400, help="how many; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    arguments = parser.parse_args()
    if arguments.again:
        names = [name for name, code in read_results().items() if code in (SURVIVED, NO_TESTS)]
    else:
        shutil.rmtree(FOLDER, ignore_errors=True)
        mutmut("none")  # matches none: makes the mutants and times the tests
        names = sorted(read_results())
        random.Random(arguments.seed).shuffle(names)
        names = names[: arguments.sample or None]
    mutmut(*names)
    results = read_results()
    print(table({name: results[name] for name in names}))
    for name in names:
        if results[name] in (SURVIVED, NO_TESTS):
            print(f"\n{name}{'' if results[name] == SURVIVED else ' (called by no test)'}")
            print("\n".join(changes(name)))


def mutmut(*names: str) -> None:
    """Run mutmut on some mutants."""
    program = Path(sys.executable).with_name("mutmut")
    subprocess.run([program, "run", "--max-children", "1", *names], stdout=subprocess.DEVNULL)


def read_results() -> dict[str, int | None]:
    """What mutmut noted about each mutant."""
    results: dict[str, int | None] = {}
    for path in sorted(FOLDER.rglob("*.meta")):
        results |= json.loads(path.read_text())["exit_code_by_key"]
    return results


def table(results: dict[str, int | None]) -> str:
    """How many mutants of each module were tried, and how many of them the tests caught."""
    tried, caught = Counter[str](), Counter[str]()
    for name, code in results.items():
        module = name.rpartition(".")[0].removeprefix("videoclip.")
        if code is not None:
            tried[module] += 1
            caught[module] += code not in (SURVIVED, NO_TESTS)
    lines = ["| module | mutants | caught |", "|---|---|---|"]
    for module in sorted(tried):
        lines.append(f"| `{module}` | {tried[module]} | {caught[module] / tried[module]:.0%} |")
    share = caught.total() / max(1, tried.total())
    return "\n".join([*lines, f"| all | {tried.total()} | {share:.1%} |"])


def changes(name: str) -> list[str]:
    """The lines that a mutant changes, before and after."""
    module, _, function = name.rpartition(".")
    path = FOLDER / "src" / module.replace(".", "/")
    lines, functions = functions_of(path / "__init__.py" if path.is_dir() else Path(f"{path}.py"))
    original = function.rpartition("__mutmut_")[0] + "__mutmut_orig"
    before, after = (
        [line.replace(some.name, original) for line in lines[some.lineno - 1 : some.end_lineno]]
        for some in (functions[original], functions[function])
    )
    return list(difflib.unified_diff(before, after, n=0, lineterm=""))[3:]


@cache
def functions_of(path: Path) -> tuple[list[str], dict[str, ast.FunctionDef]]:
    """The lines of a file and its functions, methods included, by name."""
    text = path.read_text(encoding="utf-8")
    nodes = ast.walk(ast.parse(text))
    return text.splitlines(), {n.name: n for n in nodes if isinstance(n, ast.FunctionDef)}


if __name__ == "__main__":
    main()
