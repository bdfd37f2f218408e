"""A search through the REST API, compared with the same search in one process; then saturation.

    python -m bench.serve [--videos N] [--dim E] [--seconds S] [--clients C] [--json]

The server is a process of its own, on loopback, with a library of random vectors in which every
video has 30 seconds; embedding a query takes no time. First browsers that were just started open
the first page: the time from the start of the navigation until the search field has the focus and
htmx and our scripts have run. Then one client asks, and both searches take turns. Then clients ask
without a pause: p50 and p99, answers that were not 200, and how much the server's memory grew
between the first quarter of that time and its end.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import numpy as np
from playwright.sync_api import sync_playwright

from bench.search import RandomText, video_of
from videoclip.embedding import window_spans
from videoclip.library.library import VideoLibrary
from videoclip.library.search import SearchOptions
from videoclip.zeroshot.confidence import BIAS_UNIT, hub_biases

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "serve.json"
SECONDS_PER_VIDEO = 30
ROUNDS = 40
BROWSERS = 5
INTERACTIVE = """
addEventListener("htmx:load", function wait() {
  if (document.activeElement?.name === "q") window.interactive ??= performance.now();
  else requestAnimationFrame(wait);
});
"""
OPTIONS = SearchOptions(top_k=11)  # a page of 10, and whether there are more


def fill(library: VideoLibrary, num_videos: int, dim: int) -> None:
    """Add videos as an update would, but without files."""
    per_video = len(window_spans(SECONDS_PER_VIDEO, 1.0))
    rng = np.random.default_rng(0)
    store, catalog = library._catalog.vectors(), library._catalog
    with catalog.writing(), store.path.open("ab") as file:
        for number in range(num_videos):
            vectors = rng.standard_normal((per_video, dim), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            biases = hub_biases(vectors, library._unrelated.scenes) / BIAS_UNIT
            file.write(np.column_stack((vectors, biases)).astype(np.float16).tobytes())
            catalog.add(video_of(number, SECONDS_PER_VIDEO, per_video), [])


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, address: str) -> tuple[int, bytes]:
        """Return the status and content of an address."""
        self._connection.request("GET", address)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def search(self, number: int) -> int:
        """Search for one of many queries and return the status."""
        return self.get(f"/api/v1/search?limit=10&q={quote(f'query number {number}')}")[0]


def saturate(port: int, seconds: float, num_clients: int) -> tuple[list[float], Counter[int]]:
    """Return the milliseconds of each request of clients that ask without a pause."""
    times: list[float] = []
    statuses: Counter[int] = Counter()
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        client = Client(port)
        while (began := time.perf_counter()) < end:
            statuses[client.search(number)] += 1
            times.append(1e3 * (time.perf_counter() - began))
            number += num_clients

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, statuses


def milliseconds_to_interactive(port: int) -> list[float]:
    """Return how long browsers take, each just started, until the first page can be used."""
    times = []
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        for _ in range(BROWSERS):
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.add_init_script(INTERACTIVE)
            page.goto(f"http://127.0.0.1:{port}/")
            while (time_ms := page.evaluate("window.interactive")) is None:
                page.wait_for_timeout(10)
            times.append(time_ms)
            browser.close()
    return times


def resident_mib(process: int) -> float:
    """Return the memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def serve(folder: str, dim: int) -> None:
    """Serve a library on a free port, which is printed."""
    from videoclip.web.app import create_app, listen, run

    with VideoLibrary(folder, RandomText(dim)) as library, listen("127.0.0.1", 0) as server:
        print(server.getsockname()[1], flush=True)
        run(create_app(library), server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", metavar="LIBRARY", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.dim)
        return
    with tempfile.TemporaryDirectory() as folder:
        with VideoLibrary(folder, RandomText(asked.dim)) as library:
            fill(library, asked.videos, asked.dim)
        command = [sys.executable, "-m", "bench.serve", "--serve", folder, "--dim", str(asked.dim)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert process.stdout is not None
            result = measure(int(process.stdout.readline()), process.pid, folder, asked)
        finally:
            process.terminate()
            process.wait()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:<40} {value}")


def measure(port: int, process: int, folder: str, asked: argparse.Namespace) -> dict[str, object]:
    """Return all figures."""
    client = Client(port)
    client.search(0)
    began = time.perf_counter()
    status, page = client.get("/")
    first_page = 1e3 * (time.perf_counter() - began)
    assert status == 200
    interactive = milliseconds_to_interactive(port)
    client = Client(port)  # the server has closed a connection that was idle
    over_http, in_process = [], []
    with VideoLibrary(folder, RandomText(asked.dim)) as library:
        library.search("warm")
        for number in range(ROUNDS):
            began = time.perf_counter()
            assert client.search(number) == 200
            over_http.append(1e3 * (time.perf_counter() - began))
            began = time.perf_counter()
            library.search_many([f"query number {number}"], OPTIONS)
            in_process.append(1e3 * (time.perf_counter() - began))
    saturate(port, asked.seconds / 4, asked.clients)
    before = resident_mib(process)
    times, statuses = saturate(port, asked.seconds * 3 / 4, asked.clients)
    http_ms, own_ms = statistics.median(over_http), statistics.median(in_process)
    return {
        "videos": asked.videos,
        "first page (ms)": round(first_page, 1),
        "first page (bytes of HTML)": len(page),
        "first page interactive (ms)": round(statistics.median(interactive), 1),
        "the slowest of the browsers (ms)": round(max(interactive), 1),
        "search in process (ms)": round(own_ms, 1),
        "search through HTTP (ms)": round(http_ms, 1),
        "ratio": round(http_ms / own_ms, 2),
        "clients at saturation": asked.clients,
        "requests": len(times),
        "not 200": sum(statuses.values()) - statuses[200],
        "p50 (ms)": round(float(np.percentile(times, 50)), 1),
        "p99 (ms)": round(float(np.percentile(times, 99)), 1),
        "memory growth (MiB)": round(resident_mib(process) - before, 1),
    }


if __name__ == "__main__":
    main()
