"""What assistants are told and answered, as approved."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")

import anyio
from mcp import Client

from tests import approved
from videoclip.integrations import mcp


def test_tools_for_assistants(indexed, made_videos, monkeypatch):
    monkeypatch.setattr(mcp, "MAX_CUES", 1)
    monkeypatch.setattr(mcp, "FRAME_PIXELS", 16)

    def shown(result):
        if result.is_error:
            return f"error: {result.content[0].text}".splitlines()[0]
        if result.structured_content is not None:
            return result.structured_content
        picture = Image.open(io.BytesIO(base64.b64decode(result.content[0].data)))
        colour = (np.asarray(picture).mean(axis=(0, 1)) / 16).round().astype(int).tolist()
        return [result.content[0].mime_type, picture.size, colour, picture.layers]

    calls = [
        ("search", {"query": "yellow"}),
        ("search", {"query": "red, then blue", "top_k": 1}),
        ("search", {"query": "yellow", "where": "duration < 5"}),
        ("search", {"query": "chopping the onions", "top_k": 2, "min_confidence": "high"}),
        ("search", {"query": "nothing such", "min_confidence": "none", "top_k": 1}),
        ("search", {"query": "red", "where": "length > 3"}),
        ("localize", {"video": "a.mp4", "steps": ["red", "green"]}),
        ("localize", {"video": "a.mp4", "steps": ["green", "red", "yellow"]}),
        ("localize", {"video": "a.mp4", "steps": ["green", "red"], "ordered": False}),
        ("read", {"video": "b.mp4"}),
        ("read", {"video": "b.mp4", "start": 5, "end": 9}),
        ("read", {"video": str(made_videos / "b.mp4"), "start": 20}),
        ("read", {"video": "b.mp4", "start": 4, "end": 21}),
        ("read", {"video": "nowhere.mp4"}),
        ("frame", {"video": "a.mp4", "time": 15}),
        ("frame", {"video": "a.mp4", "time": 1000}),
    ]

    async def ask():
        async with Client(mcp.create_server(indexed)) as client:
            listed = await client.list_tools()
            answers = [[*call, shown(await client.call_tool(*call))] for call in calls]
            return listed, answers

    listed, answers = anyio.run(ask)
    tools = {
        tool.name: [
            tool.description,
            sorted(tool.input_schema.get("required", [])),
            {name: one.get("default") for name, one in tool.input_schema["properties"].items()},
        ]
        for tool in listed.tools
    }
    server = mcp.create_server(indexed)
    twins = SimpleNamespace(
        videos=lambda: [
            SimpleNamespace(path=f"/{name}") for name in ("x/a.mp4", "y/a.mp4", "b.mp4")
        ]
    )
    named = {
        name: approved.outcome(lambda name=name: mcp._find(twins, name).path)
        for name in ("a.mp4", "/y/a.mp4", "b.mp4")
    }
    found = {
        "names": named,
        "tools": tools,
        "answers": answers,
        "server": [server.name, server.instructions],
    }
    approved.check("assistants", found, VIDEOS=made_videos)
