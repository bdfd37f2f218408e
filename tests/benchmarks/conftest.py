"""Made-up rows in the formats of the benchmarks."""

import json

import pytest


@pytest.fixture
def write(tmp_path):
    """Write a text, or JSON for anything else, and return the path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return path

    return write
