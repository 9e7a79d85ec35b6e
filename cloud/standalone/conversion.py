"""Custom objects between the versions of their definition: strategy None (another apiVersion) or Webhook (ConversionReview v1)."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.state import Object, State
from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)

WEBHOOK_SECONDS = 10.0

Post = Callable[[str, bytes, ssl.SSLContext], Awaitable[tuple[int, bytes]]]
"""Sends JSON to a URL: the answer's status and body. Raises OSError or TimeoutError."""

Finish = Callable[[Kind, Object], None]
"""Prunes and defaults a converted object by the schema of its new version."""


class Conversions:
    """Implements `views.Converter`. Definitions are looked up at each call, so that a new webhook is used at once."""

    def __init__(self, state: State, post: Post, finish: Finish) -> None:
        self._state = state
        self._post = post
        self._finish = finish
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def convert(self, kind: Kind, objects: Sequence[Object]) -> list[Object]:
        """The objects in the version of `kind`, in the same order. Raises ApiError 500 when the webhook fails."""
        to_do = [obj for obj in objects if obj["apiVersion"] != kind.api_version]
        if not to_do:
            return list(objects)
        item = self._state.table("customresourcedefinitions.apiextensions.k8s.io").latest("", f"{kind.plural}.{kind.group}")
        conversion = item.decode()["spec"].get("conversion", {}) if item is not None else {}
        if conversion.get("strategy") == "Webhook":
            done = await self._by_webhook(kind, to_do, conversion.get("webhook") or {})
        else:
            done = [{**obj, "apiVersion": kind.api_version} for obj in to_do]
        for obj in done:
            self._finish(kind, obj)
        following = iter(done)
        return [obj if obj["apiVersion"] == kind.api_version else next(following) for obj in objects]

    async def _by_webhook(self, kind: Kind, objects: Sequence[Object], webhook: Mapping[str, Any]) -> list[Object]:
        client = webhook.get("clientConfig") or {}
        identity = str(uuid.uuid4())
        review = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "request": {"uid": identity, "desiredAPIVersion": kind.api_version, "objects": list(objects)},
        }
        url = self._url(client)
        prefix = f"conversion webhook for {kind.group}/{kind.version}, Kind={kind.kind} failed"
        try:
            async with asyncio.timeout(WEBHOOK_SECONDS):
                status, body = await self._post(url, orjson.dumps(review), self._context(client.get("caBundle", "")))
        except (OSError, TimeoutError, ssl.SSLError) as error:
            logger.warning("api.conversion.unreachable kind=%s url=%s error=%r", kind.kind, url, error)
            raise ApiError(500, f"{prefix}: Post {url}: {str(error) or 'no answer in time'}", reason="InternalError") from error
        if status != 200:
            raise ApiError(500, f"{prefix}: {url} answered {status}", reason="InternalError")
        return _read(prefix, identity, kind, objects, body)

    def _url(self, client: Mapping[str, Any]) -> str:
        if client.get("url"):
            return str(client["url"])
        service = client.get("service") or {}
        path = service.get("path") or "/"
        port = service.get("port") or 443
        return f"https://{service.get('name')}.{service.get('namespace')}.svc:{port}{path}"

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            text = base64.b64decode(bundle).decode() if bundle else None
            context = self._contexts[bundle] = ssl.create_default_context(cadata=text)
        return context


def _read(prefix: str, identity: str, kind: Kind, objects: Sequence[Object], body: bytes) -> list[Object]:
    """Check the webhook's answer: success, as many objects, in the wanted version, their identity kept."""
    try:
        response = orjson.loads(body)["response"]
        result, converted = response.get("result") or {}, response.get("convertedObjects") or []
        is_ours = response.get("uid") == identity
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ApiError(500, f"{prefix}: its answer is no ConversionReview", reason="InternalError") from error
    if result.get("status") != "Success":
        raise ApiError(500, f"{prefix}: {result.get('message') or 'no reason given'}", reason="InternalError")
    if not is_ours or len(converted) != len(objects):
        raise ApiError(
            500, f"{prefix}: expected {len(objects)} converted objects of this request, got {len(converted)}", reason="InternalError"
        )
    for before, after in zip(objects, converted, strict=True):
        if after.get("apiVersion") != kind.api_version or after.get("kind") != kind.kind:
            raise ApiError(500, f"{prefix}: an object came back as {after.get('apiVersion')} {after.get('kind')}", reason="InternalError")
        kept = {key: after.get("metadata", {}).get(key, {}) for key in ("labels", "annotations")}
        after["metadata"] = {key: value for key, value in before["metadata"].items() if key not in kept}
        after["metadata"] |= {key: value for key, value in kept.items() if value}
    return list(converted)
