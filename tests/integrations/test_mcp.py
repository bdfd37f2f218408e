"""The tools of the Model Context Protocol, called by its own client."""

import base64
import io
import json
import sys

import pytest
from PIL import Image as Pictures

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")

import anyio
from mcp import Client

from tests.library.colours import ColourEmbedder
from videoclip.cli import main
from videoclip.embedding import Embedder
from videoclip.integrations.mcp import create_server


@pytest.fixture(scope="module")
def call(indexed):
    """A function that calls a tool and returns its result."""

    def call_tool(name, **arguments):
        async def ask():
            async with Client(create_server(indexed)) as client:
                return await client.call_tool(name, arguments)

        return anyio.run(ask)

    return call_tool


def structured(result):
    assert not result.is_error, result.content
    found = result.structured_content
    return found.get("result", found)


def test_every_tool_is_described(indexed):
    async def list_tools():
        async with Client(create_server(indexed)) as client:
            return await client.list_tools()

    tools = {tool.name: tool for tool in anyio.run(list_tools).tools}
    assert set(tools) == {"search", "localize", "read", "frame"}
    assert all(tool.description for tool in tools.values())
    json.dumps([tool.input_schema for tool in tools.values()], allow_nan=False)


def test_search_returns_moments(call, made_videos):
    first = structured(call("search", query="yellow"))[0]
    assert (first["path"], first["start"], first["end"]) == (str(made_videos / "b.mp4"), 20, 25)
    assert "parts" not in first
    both = structured(call("search", query="red, then blue", top_k=1))[0]
    assert [part["label"] for part in both["parts"]] == ["red", "blue"]
    assert structured(call("search", query="yellow", where="duration < 5")) == []


def test_steps_are_localized_and_narration_is_read(call, made_videos):
    found = structured(call("localize", video="a.mp4", steps=["red", "green"]))
    assert [(m["label"], m["start"]) for m in found["moments"]] == [("red", 0.0), ("green", 22.0)]
    spoken = structured(call("read", video=str(made_videos / "b.mp4"), start=20))
    assert [cue["text"] for cue in spoken["cues"]] == ["Now we are chopping the onions finely."]
    assert (spoken["duration"], spoken["num_cues_left_out"]) == (35.0, 0)
    assert len(structured(call("read", video="b.mp4"))["cues"]) == 2
    assert structured(call("read", video="b.mp4", start=5, end=9))["cues"] == []


def test_a_frame_is_a_picture(call):
    (content,) = call("frame", video="a.mp4", time=15).content
    picture = Pictures.open(io.BytesIO(base64.b64decode(content.data)))
    red, green, blue = picture.convert("RGB").getpixel((16, 16))
    assert content.mime_type == "image/jpeg" and blue > 150 > max(red, green)


@pytest.mark.parametrize(
    "name, arguments, reason",
    [
        ("read", {"video": "/etc/passwd"}, "no video in the library has this path or name"),
        ("frame", {"video": "nowhere.mp4", "time": 1}, "no video in the library has this path"),
        ("search", {"query": "red", "where": "length > 3"}, "unknown name 'length'"),
        ("search", {"query": "red", "top_k": 0}, "greater than or equal to 1"),
        ("localize", {"video": "a.mp4", "steps": []}, "at least 1 item"),
    ],
)
def test_errors_are_answers_that_an_assistant_can_read(call, name, arguments, reason):
    result = call(name, **arguments)
    assert result.is_error and reason in result.content[0].text


def test_the_command_serves_on_standard_input_and_output(indexed, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_: ColourEmbedder())
    monkeypatch.setattr("mcp.server.mcpserver.MCPServer.run", lambda server: served.append(server))
    assert main(["serve", "--library", str(indexed.folder), "--mcp"]) == 0
    assert [server.name for server in served] == ["videoclip"]
    assert capsys.readouterr().out == ""  # it belongs to the protocol
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "videos", "--mcp"])
    monkeypatch.delitem(sys.modules, "videoclip.integrations.mcp")
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    assert main(["serve", "--library", str(indexed.folder), "--mcp"]) == 1
    assert "videoclip[mcp]" in capsys.readouterr().err
