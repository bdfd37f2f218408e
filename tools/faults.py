"""Try mistakes made by hand, one at a time, and see whether the tests notice.

    python -m tools.faults FAULTS.jsonl

Each line is {"file": "src/videoclip/...", "old": "...", "new": "..."}, where the file has the old
text once. A mistake is tried in a clone of the last commit, in the folder `mutants`, by the tests
of `make test` that execute its lines, without those in a browser. Those that pass unnoticed are
printed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parents[1]
CLONE = ROOT / "mutants" / "tree"


def main() -> None:
    """Try the faults of a file, and print how many were noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", type=Path, metavar="FAULTS.jsonl")
    faults = [json.loads(line) for line in parser.parse_args().faults.read_text().splitlines()]
    clone_tree()
    print("finding the tests that execute each line ...")
    if pytest("-n", "2", "--cov", "--cov-context=test", "--cov-report=", "tests"):
        raise SystemExit("the tests must pass first: see `make test`")
    data = CoverageData(str(CLONE / ".coverage"))
    data.read()
    noticed = 0
    for number, fault in enumerate(faults, start=1):
        is_noticed = try_fault(fault, data)
        noticed += is_noticed
        print(f"{number}/{len(faults)}", "noticed" if is_noticed else f"UNNOTICED: {fault}")
    print(f"{noticed} of {len(faults)} noticed")


def clone_tree() -> None:
    """Clone the last commit beside a link to the shared folder."""
    shutil.rmtree(CLONE.parent, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(CLONE)], check=True)
    shared = ROOT.parent / "shared"
    if shared.is_dir():
        (CLONE.parent / "shared").symlink_to(shared)


def pytest(*arguments: str) -> int:
    """Run pytest in the clone, and return its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--fast", "-m", "not browser", *arguments],
        cwd=CLONE,
        env=os.environ | {"PYTHONPATH": str(CLONE / "src"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).returncode


def try_fault(fault: dict[str, str], data: CoverageData) -> bool:
    """Return whether a test fails while a fault is in the clone."""
    path = CLONE / fault["file"]
    before = path.read_text(encoding="utf-8")
    if before.count(fault["old"]) != 1:
        raise SystemExit(f"{fault['file']} must have this once: {fault['old']!r}")
    first = before[: before.index(fault["old"])].count("\n") + 1
    lines = range(first, first + fault["old"].rstrip("\n").count("\n") + 1)
    contexts = data.contexts_by_lineno(str(path))
    tests = {name.rpartition("|")[0] for line in lines for name in contexts.get(line, ())}
    # A line that only another process, or an import, executes: all tests.
    chosen = CLONE / "chosen.txt"
    chosen.write_text("\n".join(sorted(tests - {""})) or "tests")
    path.write_text(before.replace(fault["old"], fault["new"]), encoding="utf-8")
    try:
        return pytest("-x", f"@{chosen}") != 0
    finally:
        path.write_text(before, encoding="utf-8")


if __name__ == "__main__":
    main()
