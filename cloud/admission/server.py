"""The HTTPS server the API server calls for conversions: ConversionReview v1 (Kubernetes API, apiextensions.k8s.io) on /convert."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from aiohttp import web

from pinnace.cloud.admission.conversion import GROUP, convert

logger = logging.getLogger(__name__)

PATH: Final = "/convert"
BODY_LIMIT: Final = 32 << 20


def review(body: bytes) -> bytes:
    """Answer a ConversionReview. Raises ValueError when it is none."""
    decoded = orjson.loads(body)
    request = decoded.get("request") if isinstance(decoded, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("objects"), list):
        raise ValueError("no ConversionReview request with objects")  # noqa: TRY004 - of a value, not of an argument
    response: dict[str, Any] = {"uid": request.get("uid", "")}
    wanted = str(request.get("desiredAPIVersion", ""))
    try:
        if not wanted.startswith(f"{GROUP}/"):
            raise ValueError(f"{wanted} is none of the versions of {GROUP}")
        version = wanted.removeprefix(f"{GROUP}/")
        response["convertedObjects"] = [convert(obj, version) for obj in request["objects"]]
        response["result"] = {"status": "Success"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("conversion.failed to=%s error=%r", wanted, error)
        response |= {"convertedObjects": [], "result": {"status": "Failure", "message": str(error)}}
    return orjson.dumps({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})


async def _convert(request: web.Request) -> web.Response:
    try:
        answer = review(await request.read())
    except ValueError as error:
        return web.Response(status=400, text=f"{error}\n")
    return web.Response(body=answer, content_type="application/json")


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext, host: str, port: int) -> AsyncIterator[int]:
    """Serve until the block ends; the port it listens on (`port` 0 picks a free one)."""
    app = web.Application(client_max_size=BODY_LIMIT)
    app.router.add_post(PATH, _convert)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=3600.0, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=context)
        await site.start()
        listening = int(runner.addresses[0][1])
        logger.info("conversion.listening host=%s port=%s", host, listening)
        yield listening
    finally:
        await runner.cleanup()
