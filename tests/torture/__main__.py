"""Send hostile files through the commands, and write what happened into docs/reliability.md.

python -m tests.torture [--seed N] [--only KIND ...] [--docs]
"""

import argparse
import re
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.run import PLAN, Tally, to_table, torture

DOCS = Path(__file__).parents[2] / "docs" / "reliability.md"
PLACE = re.compile(r"(<!-- torture -->\n).*(<!-- end of torture -->)", re.DOTALL)


def main() -> int:
    """Run, print the problems and the table, and return 1 if there were any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[*PLAN], help="kinds of input; by default all")
    parser.add_argument("--folders", type=int, default=99, help="at most so many of each kind")
    parser.add_argument("--docs", action="store_true", help=f"write the table into {DOCS.name}")
    given = parser.parse_args()
    plan = {kind: PLAN[kind] for kind in given.only or PLAN}
    plan = {kind: (min(folders, given.folders), size) for kind, (folders, size) in plan.items()}
    tallies = {kind: Tally() for kind in plan}
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="torture-"))
    for kind, tally in torture(plan, given.seed, folder):
        tallies[kind] += tally
        print("\n".join([f"{time.monotonic() - started:.0f} s: {kind}", *tally.problems]))
        sys.stdout.flush()
    shutil.rmtree(folder)
    table = to_table(tallies)
    cpu = sum(tally.cpu for tally in tallies.values()) / 60
    took = (time.monotonic() - started) / 60
    command = shlex.join(["python", "-m", "tests.torture", *sys.argv[1:]])
    text = f"`{command}`: {took:.0f} minutes, {cpu:.0f} of processor time.\n\n{table}"
    print(text)
    if given.docs:
        DOCS.write_text(PLACE.sub(rf"\1\n{text}\n\2", DOCS.read_text()))
    return int(not all(tally.ok for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
