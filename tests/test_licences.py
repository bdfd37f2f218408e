"""The lock files have hashes, and the page of licences lists exactly what they pin."""

import hashlib
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.requirements import Requirement

from tools.licences import HEADER, PAGE, licence, parts
from tools.lock import (
    CUDA,
    DOCS,
    HASH,
    MAIN,
    PEERS,
    ROOT,
    STORES,
    lock_entries,
    other_builds,
    package,
    split,
)

ENTRIES = {name: lock_entries((ROOT / name).read_text()) for name in (MAIN, STORES, CUDA)}
OF_PEERS = lock_entries((ROOT / PEERS).read_text())
FIRST = {pin: entry for entries in ENTRIES.values() for pin, entry in entries.items()}
OF_DOCS = lock_entries((ROOT / DOCS).read_text())
PINNED = OF_DOCS | FIRST | OF_PEERS
ROWS = [line.strip("| \n").split(" | ") for line in PAGE.read_text().split(HEADER)[1].splitlines()]
COPYLEFT = re.compile(r"GPL|MPL|EPL|EUPL|CDDL|GNU|Mozilla|General Public", re.IGNORECASE)
FOR_USERS = {"run time", "ann", "demo", "hf", "lance", "cluster", "mcp"}


def test_the_page_lists_exactly_what_the_locks_pin():
    assert [f"{name}=={pinned}" for name, pinned, *_ in ROWS] == [
        pin.split(" ")[0] for pin in sorted(PINNED)
    ]


def test_the_page_has_the_part_and_the_licence_of_each_package():
    needed = parts(PINNED)
    for name, pinned, terms, part, _ in ROWS:
        assert part == needed[name], name
        try:
            installed = version(name).split("+")[0] == pinned
        except PackageNotFoundError:
            installed = False
        assert not installed or terms == licence(name), f"{name}: run `make licences`"


def test_nothing_that_users_need_is_copyleft():
    copyleft = {(name, part) for name, _, terms, part, _ in ROWS if COPYLEFT.search(terms)}
    for_users = {name for name, part in copyleft if part in FOR_USERS}
    assert for_users == {"certifi", "tqdm"}  # MPL-2.0: ends at their own files, which are unchanged
    assert {name for name, part in copyleft if part == "dev"} == {
        "axe-playwright-python",  # MPL-2.0: axe, unchanged
        "hypothesis",
        "pathspec",
    }
    assert not {name for name, part in copyleft if part == "stores"}
    assert {name for name, part in copyleft if part == "peers"} == {"orjson"}
    assert not {name for name, part in copyleft if part == "docs"}


def test_every_pin_has_hashes_and_all_of_them_are_of_one_resolution():
    assert all(HASH.search(entry) for entry in PINNED.values())
    assert len(FIRST) == sum(map(len, ENTRIES.values()))
    assert split(FIRST) == {name: list(entries) for name, entries in ENTRIES.items()}


def test_the_second_resolution_pins_no_package_again():
    assert not set(map(package, FIRST)) & set(map(package, OF_PEERS))


def test_the_site_has_the_versions_of_the_other_locks():
    installed = {*ENTRIES[MAIN], *ENTRIES[CUDA]}
    assert not set(map(package, OF_DOCS)) & set(map(package, installed))
    elsewhere = {package(pin): pin for pin in {**ENTRIES[STORES], **OF_PEERS}}
    for pin in OF_DOCS:
        assert elsewhere.get(package(pin), pin).split(" ")[0] == pin.split(" ")[0]


def test_the_pins_are_within_the_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = dict(pin.split(" ")[0].split("==") for pin in PINNED)
    for text in [
        *project["dependencies"],
        *extras["hf"],
        *extras["web"],
        *extras["dev"],
        *extras["stores"],
        *extras["peers"],
        *extras["docs"],
    ]:
        requirement = Requirement(text)
        if requirement.name != "videoclip":
            assert requirement.specifier.contains(pinned[requirement.name]), text


def test_the_hashes_of_other_builds(tmp_path):
    digest = "ab" * 32
    page = tmp_path / "torch.html"
    page.write_text(
        f'<a href="/whl/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl#sha256={digest}">'
        f'<a href="/whl/torch-2.12.0%2Bcpu-cp311-cp311-linux_x86_64.whl#sha256={"cd" * 32}">'
    )
    assert other_builds(str(page), "2.13.0") == {f"sha256:{digest}"}
    wheel = tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"wheel")
    assert other_builds(str(wheel), "2.13.0") == {f"sha256:{hashlib.sha256(b'wheel').hexdigest()}"}
    with pytest.raises(SystemExit, match=r"no wheel of torch 2.14.0"):
        other_builds(str(page), "2.14.0")


def test_entries_for_other_systems_are_left_out():
    text = "# head\na==1 \\\n    --hash=sha256:0\n    # via b\nw==2 ; sys_platform == 'win32'\n"
    assert list(lock_entries(text)) == ["a==1"]
    assert package("a==1 ; python_full_version < '3.12'") == "a"
