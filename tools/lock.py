"""Write the lock files, with the hashes of every file of each release.

    make lock                                 # keep the pinned versions that still fit
    make lock LOCK="--upgrade"                # the newest versions
    make lock LOCK="--upgrade-package pillow" # the newest version of one package
    make lock LOCK="--torch PAGE_OR_WHEEL"    # add the hashes of another build of torch

`setup.sh` installs `requirements.lock`; PyTorch's CUDA build also needs `requirements-cuda.lock`,
and the tests of LanceDB, S3 and Ray `requirements-stores.lock`. They are one resolution for Linux
and macOS. `requirements-peers.lock` adds the packages whose numbers `tests/peers` compares with
ours, by a second resolution that keeps all pins of the first: peers need packages that
`exclude-dependencies` in pyproject.toml leaves out of the first. `requirements-docs.lock` is what
`make docs` needs beside `requirements.lock`; its pins are those of the others where both have one.

The package index has one build of torch. The hashes of others (the one without CUDA) come from the
page of the index that has them (an address or a saved page) or from a wheel, and stay as long as
the version does. Other arguments go to `uv pip compile`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
MAIN, CUDA, STORES = "requirements.lock", "requirements-cuda.lock", "requirements-stores.lock"
PEERS, DOCS = "requirements-peers.lock", "requirements-docs.lock"
HEAD = "# Written by `make lock`.\n"
EXTRAS = ["--extra=dev", "--extra=stores"]
OPTIONS = ["--universal", "--python-version=3.11", "--fork-strategy=fewest", "--generate-hashes"]
ELSEWHERE = re.compile(r"sys_platform == '(win32|emscripten)'")  # setup.sh: Linux and macOS
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def lock_entries(text: str) -> dict[str, str]:
    """The entry of each package and marker: its pin, hashes and what needs it."""
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    pins = {entry.splitlines()[0].removesuffix(" \\"): entry for entry in entries}
    return {pin: entry for pin, entry in pins.items() if not ELSEWHERE.search(pin)}


def package(pin: str) -> str:
    """The name in a pin such as `scipy==1.18.1 ; python_full_version >= '3.12'`."""
    return pin.partition("==")[0]


def dependents(entry: str) -> set[str]:
    """The names of the packages that need this one, from the comments of `uv pip compile`."""
    return set(re.findall(r"^    #(?: via|  ) +([\w.-]+)", entry, flags=re.MULTILINE))


def split(entries: dict[str, str]) -> dict[str, list[str]]:
    """The pins of each lock file."""
    stores, before = {"lancedb", "moto", "ray", "s3fs"}, 0
    while before < len(stores):
        before = len(stores)
        stores |= {package(pin) for pin, entry in entries.items() if dependents(entry) <= stores}
    files: dict[str, list[str]] = {MAIN: [], CUDA: [], STORES: []}
    for pin in entries:
        cuda = re.match(r"cuda-|nvidia-|triton=", pin)
        files[CUDA if cuda else STORES if package(pin) in stores else MAIN].append(pin)
    return files


def without(entries: dict[str, str], pins: Iterable[str]) -> dict[str, str]:
    """The entries of packages that are not among the pins."""
    pinned = set(map(package, pins))
    return {pin: entry for pin, entry in entries.items() if package(pin) not in pinned}


def needed_there(entries: dict[str, str]) -> dict[str, str]:
    """The entries, which name only packages among them and ours as what needs them."""
    names = {"videoclip", *map(package, entries)}
    line = re.compile(r"^    #(?: via|  ) +(\S+).*\n", flags=re.MULTILINE)

    def kept(found: re.Match[str]) -> str:
        return found[0] if found[1] in names else ""

    return {pin: line.sub(kept, entry) for pin, entry in entries.items()}


def other_builds(source: str, version: str) -> set[str]:
    """The hashes of torch's builds: of a wheel, or of those that an index page links to."""
    with urlopen(source if "://" in source else Path(source).resolve().as_uri()) as stream:
        content = stream.read()
    if source.endswith(".whl"):
        return {f"sha256:{hashlib.sha256(content).hexdigest()}"}
    link = rf"torch-{re.escape(version)}[^\s\"'<>]*\.whl#sha256=([0-9a-f]{{64}})"
    found = {f"sha256:{digest}" for digest in re.findall(link, content.decode())}
    if not found:
        sys.exit(f"{source}: links to no wheel of torch {version} with a hash; give another page")
    return found


def compile_lock(output: Path, *options: str) -> None:
    """Resolve the requirements of some extras, keeping the versions in `output`."""
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml", "--quiet"]
    command = [*uv, *OPTIONS, *options, f"--output-file={output}"]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    """Resolve three times, then write each lock file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="append", default=[], metavar="PAGE_OR_WHEEL")
    arguments, compile_options = parser.parse_known_args()
    old = "".join((ROOT / name).read_text() for name in (MAIN, CUDA, STORES))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "all.lock"
        output.write_text(old)  # uv keeps the versions pinned there
        compile_lock(output, *EXTRAS, *compile_options)
        entries = lock_entries(output.read_text())
        peers = Path(folder) / "peers.lock"
        peers.write_text((ROOT / PEERS).read_text())
        compile_lock(peers, "--extra=peers", "--no-config", f"-c={output}", *compile_options)
        docs = Path(folder) / "docs.lock"
        docs.write_text((ROOT / DOCS).read_text())
        compile_lock(docs, "--extra=docs", f"-c={output}", f"-c={peers}", *compile_options)
        installed = [*split(entries)[MAIN], *split(entries)[CUDA]]
        added = {
            PEERS: without(lock_entries(peers.read_text()), entries),
            DOCS: needed_there(without(lock_entries(docs.read_text()), installed)),
        }
    torch = next(pin for pin in entries if package(pin) == "torch")
    hashes = set(HASH.findall(entries[torch] + lock_entries(old).get(torch, "")))
    for source in arguments.torch:
        hashes |= other_builds(source, torch.partition("==")[2])
    comments = [line for line in entries[torch].splitlines() if line.startswith("    #")]
    pinned = " \\\n    --hash=".join([torch, *sorted(hashes)])
    entries[torch] = "\n".join([pinned, *comments, ""])
    for name, pins in split(entries).items():
        (ROOT / name).write_text(HEAD + "".join(map(entries.get, pins)))
        print(f"{name}: {len(pins)} packages")
    for name, more in added.items():
        (ROOT / name).write_text(HEAD + "".join(more.values()))
        print(f"{name}: {len(more)} packages")


if __name__ == "__main__":
    main()
