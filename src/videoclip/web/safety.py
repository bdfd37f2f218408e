"""What stands before every request: who may ask, from which page, how much, and response headers.

On loopback anyone on this machine may ask, but only under a known name: a foreign page that points
a host name of its own at 127.0.0.1 is refused, and so is a form or script of another origin. Beyond
loopback every request carries a bearer token, or the cookie that the login page gives for it.
"""

import asyncio
import hashlib
import hmac
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from time import perf_counter
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videoclip.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIN_TOKEN = 32
"""Fewest characters of a token."""
COOKIE = "videoclip_session"
OPEN_PATHS = ("/healthz", "/readyz", "/login", "/static/")
"""What answers without a token."""
MAX_BODY = 1 << 20
"""Bytes of a request, except of an upload."""
MAX_PAUSE = 30.0
"""Seconds between two parts of a request."""
MAX_REQUESTS = 256
"""Requests that are answered at once; more are refused with status 503."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Who may use a library, and how.

    Attributes:
        host: Address to listen on.
        token: What a request beyond loopback must carry; None: no token is asked for.
        allowed_hosts: Host names, beside `host` and those of loopback, by which browsers may call.
        sources: Videos and folders that an index job updates the library from.
        allow_upload: Whether files may be uploaded into the library's folder.
        max_upload: Bytes of an upload.

    Raises:
        ConfigError: If there is no token beyond loopback, or it is too short.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
    allow_upload: bool = False
    max_upload: int = 8 << 30

    def __post_init__(self) -> None:
        if not self.is_local and self.token is None:
            raise ConfigError(f"a token is needed beyond loopback, to listen on {self.host}")
        if self.token is not None and not re.fullmatch(rf"[!-~]{{{MIN_TOKEN},}}", self.token):
            raise ConfigError(f"a token has at least {MIN_TOKEN} letters, digits or signs")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK

    @property
    def session(self) -> str:
        """Value of the cookie that stands for the token."""
        return hmac.new((self.token or "").encode(), b"session", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Compare a token with the right one, in constant time."""
        return hmac.compare_digest((self.token or "").encode(), given.encode())

    def knows_host(self, address: str) -> bool:
        """Whether browsers may call by the host and port of a Host header."""
        match = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", address)
        if match is None:
            return False
        host = match[1].strip("[]").lower()
        if host in (*LOOPBACK, self.host, *self.allowed_hosts):
            return True
        # Who calls by an address was not led here by a name of someone else's.
        return not self.is_local and _is_address(host)


class Metrics:
    """Counts of requests and their seconds, as Prometheus reads them."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.in_flight = 0

    def __str__(self) -> str:
        lines = ["# TYPE videoclip_requests_total counter"]
        for (route, status), number in sorted(self.requests.items()):
            labels = f'route="{route}",status="{status}"'
            lines.append(f"videoclip_requests_total{{{labels}}} {number}")
        lines.append("# TYPE videoclip_request_seconds_total counter")
        for route, seconds in sorted(self.seconds.items()):
            lines.append(f'videoclip_request_seconds_total{{route="{route}"}} {seconds:.6f}')
        lines.append("# TYPE videoclip_requests_in_flight gauge")
        lines.append(f"videoclip_requests_in_flight {self.in_flight}")
        return "\n".join(lines) + "\n"


class Guard:
    """ASGI middleware that refuses what `ServeSettings` do not allow, and counts the rest."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        began, status = perf_counter(), 500

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                is_static = scope["path"].startswith("/static/")  # compared by its ETag
                headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
            await send(message)

        self.metrics.in_flight += 1
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, self._limited(scope, receive), send_safely)
            else:
                await _refuse(*refusal, send_safely)
        finally:
            self.metrics.in_flight -= 1
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests[route, status] += 1
            self.metrics.seconds[route] += perf_counter() - began

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        """Return status, reason and headers if a request must not be answered."""
        headers, settings = Headers(scope=scope), self.settings
        if self.metrics.in_flight > MAX_REQUESTS:
            return 503, "too many requests at once: try again", {"Retry-After": "1"}
        if not settings.knows_host(host := headers.get("host", "")):
            return 421, "unknown host name: name it with --allow-host", {}
        origin = headers.get("origin")
        is_foreign = origin is not None and origin.partition("://")[2] != host
        if is_foreign and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            return 403, "a page of another origin must not change anything here", {}
        if settings.token is None or scope["path"].startswith(OPEN_PATHS):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and settings.is_token(given.strip()):
            return None
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if hmac.compare_digest(cookie.encode(), settings.session.encode()):
            return None
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            query = scope["query_string"].decode("latin-1")
            return 303, "", {"Location": _login_address(scope["path"], query)}
        refusal = {"WWW-Authenticate": "Bearer"}
        if "hx-request" in headers:  # htmx goes there, and comes back to the page it is on
            page = urlsplit(headers.get("hx-current-url", "/"))
            refusal["HX-Redirect"] = _login_address(page.path, page.query)
        return 401, "a token is needed, as `Authorization: Bearer`", refusal

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return a `receive` that raises once a body is longer than its limit, or pauses."""
        is_upload = scope["path"].startswith("/api/v1/uploads/")
        limit = self.settings.max_upload if is_upload else MAX_BODY
        announced = Headers(scope=scope).get("content-length", "0")
        num_bytes, is_whole = 0, False

        async def receive_limited() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:  # what comes now is the end of the connection
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), MAX_PAUSE)
            except TimeoutError:
                raise HTTPException(408, f"nothing came for {MAX_PAUSE:g} s") from None
            is_whole = not message.get("more_body", False)
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit or (announced.isdecimal() and int(announced) > limit):
                raise HTTPException(413, f"a body of more than {limit:,} bytes")
            return message

        return receive_limited


def _login_address(path: str, query: str) -> str:
    """Return the address of the login page, which then goes to a page here."""
    return f"/login?next={quote(f'{path}?{query}' if query else path, safe='')}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _refuse(status: int, detail: str, headers: dict[str, str], send: Send) -> None:
    """Answer without the application."""
    body = json.dumps(problem(status, detail)).encode() if detail else b""
    head = {"Content-Type": "application/problem+json", "Content-Length": str(len(body)), **headers}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in head.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def problem(status: int, detail: str) -> dict[str, object]:
    """The content of an error (RFC 9457)."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}
