"""The application: API, pages and static files behind one guard."""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from videoclip import __version__
from videoclip.errors import ConfigError, DataError, DecodeError, MissingExtraError, VideoCLIPError
from videoclip.library.library import VideoLibrary

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.staticfiles import StaticFiles

    from videoclip.web import api, pages
    from videoclip.web.safety import HEADERS, Guard, ServeSettings, problem
    from videoclip.web.served import ServedLibrary
except ModuleNotFoundError as error:
    raise MissingExtraError("videoclip serve", "web") from error


def create_app(library: VideoLibrary, settings: ServeSettings | None = None) -> FastAPI:
    """Return the ASGI application of a library, which it does not close.

    Args:
        library: What is searched.
        settings: Who may use it; by default only this machine.
    """
    settings = settings or ServeSettings()
    served = ServedLibrary(library, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        served.close()

    app = FastAPI(
        title="videoclip",
        version=__version__,
        summary="Search the moments of a library of videos.",
        lifespan=lifespan,
        docs_url=None,  # Swagger UI comes from other servers; pages.py has a page of its own
        redoc_url=None,
        openapi_url="/openapi.json" if settings.is_local else None,
    )
    app.state.served = served
    app.add_middleware(Guard, settings=settings, metrics=served.metrics)
    app.include_router(api.router)
    app.include_router(pages.router)
    static = StaticFiles(directory=Path(__file__).with_name("static"))
    app.mount("/static", static, "static")

    @app.get("/healthz", include_in_schema=False)
    async def is_alive() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    def is_ready() -> PlainTextResponse:
        len(library)
        return PlainTextResponse("ok\n")

    @app.get("/metrics", include_in_schema=False)
    def read_metrics() -> PlainTextResponse:
        text = f"# TYPE videoclip_videos gauge\nvideoclip_videos {len(library)}\n{served.metrics}"
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.exception_handler(VideoCLIPError)
    def answer_error(request: Request, error: VideoCLIPError) -> Response:
        where = getattr(error, "path", None)
        is_ours = where is not None and str(where).startswith(str(library.folder))
        status = 500
        if isinstance(error, (ConfigError, DataError, DecodeError)) and not is_ours:
            status = 422
        elif isinstance(error, MissingExtraError):
            status = 501
        return _error(request, status, served.without_paths(str(error)))

    @app.exception_handler(HTTPException)
    def answer_refusal(request: Request, error: HTTPException) -> Response:
        return _error(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    def answer_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        what = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            what = "there is no such parameter"
        return _error(request, 422, f"{where}: {what}" if where else what)

    @app.exception_handler(Exception)
    def answer_bug(request: Request, error: Exception) -> Response:
        # Answered outside the guard, which sets these headers for all other answers.
        return _error(request, 500, "an error in the server; its log says more", HEADERS)

    return app


def _error(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error as a page where one was asked for, else as RFC 9457 describes."""
    is_page = not request.url.path.startswith("/api/")
    if is_page and "text/html" in request.headers.get("accept", ""):
        return pages.error_page(status, detail, headers)
    return JSONResponse(problem(status, detail), status, headers, "application/problem+json")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: If the address or port is not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({error.strerror}): choose another with --host "
            "or --port"
        ) from error
    # Connections inherit it. Otherwise the end of an answer waits 40 ms for the client's receipt.
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def address_of(server: socket.socket) -> str:
    """Return the web address of a socket that listens."""
    host, port = server.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, server: socket.socket) -> None:
    """Serve an application until the process is interrupted."""
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run([server])
