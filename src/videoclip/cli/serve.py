"""`videoclip serve`: a page and a REST API for a library, or tools for an assistant."""

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from videoclip.cli import options
from videoclip.config.codec import require
from videoclip.errors import DataError


@dataclass(frozen=True)
class Serve:
    """Serve a page and a REST API, where the moments of a library are searched and played.

    Only this machine can connect, unless --host names another address. Then everyone needs a token:
    that of the environment variable VIDEOCLIP_TOKEN (32 characters or more), or a new one, which is
    printed. docs/serve.md describes the API and its safety.
    """

    sources: Annotated[tuple[Path, ...], Positional, arg(metavar="[VIDEO ...]")] = ()
    """Video files, and folders of videos, that the page "Jobs" can index."""
    library: options.Library = options.LIBRARY
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen on; 0.0.0.0: all of this machine."""
    port: Annotated[int, arg(metavar="PORT")] = 8000
    """Port to listen on; 0: any free one."""
    allow_host: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME")] = ()
    """Host name by which browsers may call, beside --host; may be repeated."""
    allow_upload: bool = False
    """Let users upload videos, into the folder uploads of the library."""
    mcp: bool = False
    """Instead of a page, serve tools for an assistant on standard input and output (Model Context
    Protocol, extra "mcp"): search, localize, read, frame."""
    model: options.Model = None
    device: options.Device = options.AUTO

    def __post_init__(self) -> None:
        require(0 <= self.port < 65536, "a port is a number from 0 to 65535")
        require(not (self.mcp and self.sources), "--mcp serves a library: index the videos first")
        if self.mcp:
            network = ("host", "port", "allow_host", "allow_upload")
            options.refuse_given(self, network, "--mcp does not use the network")

    def run(self) -> int:
        """Serve until interrupted."""
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        if self.mcp:
            return self._serve_tools()
        from videoclip.features.video_file import os_reason
        from videoclip.library.library import VideoLibrary
        from videoclip.library.storage import kind_of
        from videoclip.web.app import address_of, create_app, listen, run
        from videoclip.web.safety import LOOPBACK, ServeSettings

        for path in self.sources:
            try:
                path.stat()
            except OSError as error:
                raise DataError(os_reason(path, error), path) from None
            if kind_of(path):
                raise DataError(f"is a library; serve it as --library {path}", path)
        token = os.environ.get("VIDEOCLIP_TOKEN") or None
        if token is None and self.host not in LOOPBACK:
            token = secrets.token_urlsafe(32)
            print(f"token: {token}", file=sys.stderr)
        settings = ServeSettings(
            host=self.host,
            token=token,
            allowed_hosts=self.allow_host,
            sources=tuple(path.absolute() for path in self.sources),
            allow_upload=self.allow_upload,
        )
        must_exist = not (self.sources or self.allow_upload)
        with (
            listen(self.host, self.port) as server,
            VideoLibrary.open(
                self.library, self.model, self.device, must_exist=must_exist
            ) as library,
        ):
            print(f"{library!r}: {address_of(server)}", file=sys.stderr)
            run(create_app(library, settings), server)
        return 0

    def _serve_tools(self) -> int:
        """Answer an assistant until it closes standard input."""
        from videoclip.integrations.mcp import create_server
        from videoclip.library.library import VideoLibrary

        with VideoLibrary.open(self.library, self.model, self.device, must_exist=True) as library:
            create_server(library).run()
        return 0
