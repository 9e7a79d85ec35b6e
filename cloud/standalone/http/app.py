"""From sockets to requests and back: aiohttp's low-level server, client certificates, chunked watches."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import unquote

from aiohttp import web

from pinnace.cloud.standalone.http.upgrade import carried
from pinnace.cloud.standalone.identity import Peer
from pinnace.cloud.standalone.negotiation import MAX_BODY
from pinnace.cloud.standalone.requests import Answer, Request
from pinnace.cloud.standalone.status import ApiError
from pinnace.core.base.tunnel.duplex import bound

logger = logging.getLogger(__name__)

Serve = Callable[[Request, Peer], Awaitable[Answer]]
SEND_SECONDS = 30.0


def _certificate(transport: asyncio.BaseTransport | None) -> Peer:
    """The names in the client's verified certificate; empty without one."""
    names: list[tuple[str, str]] = []
    found = transport.get_extra_info("peercert") if transport is not None else None
    if found:
        names = [pair for relative in found.get("subject", ()) for pair in relative]
    common = next((value for key, value in names if key == "commonName"), "")
    return Peer(common, tuple(value for key, value in names if key == "organizationName"))


class HttpServer:
    """Serves `serve` over HTTPS. One instance, one socket."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._runner: web.ServerRunner | None = None

    async def open(self, host: str, port: int, context: ssl.SSLContext) -> Sequence[tuple[str, int]]:
        """Listen; returns the addresses bound. Raises OSError."""
        server = web.Server(self._handle, access_log=None, keepalive_timeout=300.0, max_line_size=16384, max_field_size=32768,
                            handler_cancellation=True)  # fmt: skip
        self._runner = web.ServerRunner(server, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=context, backlog=512, reuse_address=True)
        await site.start()
        return [(address[0], address[1]) for address in self._runner.addresses]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        try:
            raw._client_max_size = MAX_BODY
            body = await raw.read() if raw.body_exists else b""
        except web.HTTPRequestEntityTooLarge:
            refusal = ApiError(413, f"Request entity too large: limit is {MAX_BODY}", reason="RequestEntityTooLarge", details={})
            return web.json_response(refusal.status(), status=413)
        headers = {name.lower(): value for name, value in raw.headers.items()}
        if "Impersonate-Group" in raw.headers:
            headers["impersonate-group"] = "\n".join(raw.headers.getall("Impersonate-Group"))
        query: dict[str, str] = {}
        for name, value in raw.rel_url.query.items():
            query.setdefault(name, value)
        path = raw.rel_url.raw_path
        request = Request(
            raw.method, path if "%2F" in path.upper() else unquote(path), query, headers, body,
            raw_headers=tuple(raw.headers.items()), arguments=tuple(raw.rel_url.query.items()),
        )  # fmt: skip
        answer = await self._serve(request, _certificate(raw.transport))
        if answer.upgraded is not None:
            return await carried(raw, answer.body, answer.upgraded)
        for text in request.warnings:
            logger.debug("api.warning path=%s text=%s", path, text)
        if answer.stream is not None:
            return await self._stream(raw, answer)
        response = web.Response(status=answer.status, body=answer.body, headers=_headers(answer, request))
        if len(answer.body) > 131072 and "gzip" in headers.get("accept-encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
            response.headers["Vary"] = "Accept-Encoding"
        return response

    async def _stream(self, raw: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        """Send a watch's chunks as they come. A client that does not read for half a minute is cut off."""
        assert answer.stream is not None
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type, **answer.headers})
        response.enable_chunked_encoding()
        stream = answer.stream
        if raw.transport is not None:
            answer.abandon = raw.transport.abort
            if answer.is_patient:
                bound(raw.transport)
        try:
            await response.prepare(raw)
            async for chunk in stream:
                async with asyncio.timeout(None if answer.is_patient else SEND_SECONDS):
                    await response.write(chunk)
            await response.write_eof()
        except TimeoutError:
            logger.warning("api.watch.dropped path=%s peer=%s: the client does not read", raw.path, raw.remote)
            answer.abandon()
        except (ConnectionError, RuntimeError) as error:
            logger.debug("api.watch.broken path=%s error=%s", raw.path, error)
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return response


def _headers(answer: Answer, request: Request) -> list[tuple[str, str]]:
    headers = [("Content-Type", answer.content_type), ("Cache-Control", "no-cache, private"), *answer.headers.items()]
    if "Cache-Control" in answer.headers:
        del headers[1]
    headers += [("Warning", f'299 - "{_quoted(text)}"') for text in request.warnings]
    return headers


def _quoted(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text).replace("\\", "\\\\").replace('"', '\\"')
