"""What comparing checksums costs: at the first search of a library, and when a model is loaded.

    python -m bench.checksums --windows 300000 --dim 384

Processor time, medians; each search is the first one of a library that was just opened.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from bench.search import RandomText, fill
from videoclip.embedding import STARTER, Embedder
from videoclip.library.catalog import Catalog
from videoclip.library.library import VideoLibrary
from videoclip.model import hub

START = "from videoclip.library.library import *; Embedder.from_pretrained(STARTER, 'cpu')"
"""What `videoclip search` does before it opens a library."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=300_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place, embedder = Path(folder) / "library", RandomText(arguments.dim)
        with VideoLibrary(place, embedder) as library:
            fill(library, arguments.windows, arguments.dim)
            seal(library._catalog)

        def search() -> None:
            with VideoLibrary(place, embedder) as library:
                library.search("chop the onion")

        def without(name: str) -> Callable[[], None]:
            def run() -> None:
                with mock.patch.object(Catalog, name, lambda *_: None):
                    search()

            return run

        model = Path(folder) / "model"
        Embedder.from_pretrained(STARTER, "cpu").save_pretrained(model)

        def load() -> None:
            Embedder.from_pretrained(model, "cpu")

        def load_unchecked() -> None:
            with mock.patch.object(hub, "verify", lambda folder: []):
                load()

        def start() -> None:
            subprocess.run([sys.executable, "-c", START], check=True)

        work = {
            "imports and starter model": start,
            "first search": search,
            "without checksums of vectors": without("check"),
            "without checksums of records": without("check_records"),
            "loading a model": load,
            "without SHA-256": load_unchecked,
        }
        for name, median in measure(work, arguments.rounds).items():
            print(f"{name:<30} {1000 * median:7.1f} ms")


def seal(catalog: Catalog) -> None:
    """Give every video the checksum of its vectors, which the random ones lack."""
    vectors = catalog.vectors()
    with catalog.writing():
        for video in catalog.videos():
            rows = vectors.map_half(video.first_row, video.num_windows)
            catalog.change(video.id, checksum=video.checksum_of(rows))


def processor_time() -> float:
    """Return the seconds of processor time of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(some.ru_utime + some.ru_stime for some in used)


def measure(work: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Run each work in turns; return the median seconds of processor time."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, run in work.items():
            began = processor_time()
            run()
            times[name].append(processor_time() - began)
    return {name: statistics.median(some[1:]) for name, some in times.items()}


if __name__ == "__main__":
    main()
