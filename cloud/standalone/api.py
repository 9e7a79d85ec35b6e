"""One request through the API: who asks, what is asked, whether they may, and the part that answers."""

from __future__ import annotations

import logging

import orjson

from pinnace.cloud.standalone.access import CLOUDCORE, NODES, Access, Attempt
from pinnace.cloud.standalone.bodies import decode_body
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.discovery import Discovery
from pinnace.cloud.standalone.documents import Documents
from pinnace.cloud.standalone.identity import Peer, authenticate
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.metrics import Metrics
from pinnace.cloud.standalone.negotiation import is_pretty
from pinnace.cloud.standalone.reading import Reading
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.requests import Answer, Request, Target, split, target_of
from pinnace.cloud.standalone.reviews import Reviews
from pinnace.cloud.standalone.status import ApiError, PlainError, bad_request, internal, method_not_allowed, no_such_resource
from pinnace.cloud.standalone.subresources import Subresources
from pinnace.cloud.standalone.tokens import Tokens
from pinnace.cloud.standalone.watches import Watches
from pinnace.cloud.standalone.writes import Writes

logger = logging.getLogger(__name__)

_REVIEW_GROUPS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
_BOUND_BY_NAMES = frozenset({NODES, CLOUDCORE})
"""Groups whose rules look at the name of what is created."""


class Api:
    """Everything below HTTP. `serve` never raises."""

    def __init__(
        self,
        *,
        registry: Registry,
        tokens: Tokens,
        access: Access,
        discovery: Discovery,
        documents: Documents,
        reading: Reading,
        watches: Watches,
        writes: Writes,
        deletion: Deletion,
        subresources: Subresources,
        reviews: Reviews,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._tokens = tokens
        self._access = access
        self._discovery = discovery
        self._documents = documents
        self._reading = reading
        self._watches = watches
        self._writes = writes
        self._deletion = deletion
        self._subresources = subresources
        self._reviews = reviews
        self._metrics = metrics

    async def serve(self, request: Request, peer: Peer) -> Answer:
        try:
            request.user = authenticate(peer, request.headers, self._tokens)
            return await self._answer(request)
        except ApiError as error:
            return _refused(request, error)
        except PlainError as error:
            return Answer(error.code, error.text.encode(), "text/plain; charset=utf-8", {"X-Content-Type-Options": "nosniff"})
        except RecursionError:
            return _refused(request, bad_request("the body is nested too deeply"))
        except Exception:  # the supervision border of one request
            logger.exception("api.request.failed method=%s path=%s", request.method, request.path)
            return _refused(request, internal("the server failed on this request; its log says where"))

    async def _answer(self, request: Request) -> Answer:
        parts = split(request.path)
        is_resource = "//" not in request.path.rstrip("/") and (
            (parts[:1] == ["api"] and len(parts) > 2) or (parts[:1] == ["apis"] and len(parts) > 3)
        )
        if is_resource:
            return await self._resource(request)
        self._access.check(request.user, Attempt(request.method.lower() if request.method != "HEAD" else "get", path=request.path))
        answer = self._discovery.answer(request) or self._documents.answer(request)
        if answer is None:
            raise no_such_resource() if "//" in request.path and parts[:2] == ["api", "v1"] else PlainError()
        if request.method != "GET":
            raise method_not_allowed()
        return answer

    async def _resource(self, request: Request) -> Answer:
        target = target_of(request, self._registry)
        kind, sub = target.kind, target.subresource
        attempt = Attempt(
            target.verb, kind.group, kind.version, kind.plural, sub.name if sub is not None else "", target.scope,
            target.name or _body_name(request, kind),
            field_selector=request.query.get("fieldSelector", ""),
        )  # fmt: skip
        self._access.check(request.user, attempt)
        if sub is not None:
            return await self._subresources.answer(request, target, sub)
        if kind.is_measured:
            return await self._metrics.answer(request, target)
        if kind.group in _REVIEW_GROUPS:
            return self._reviews.answer(request, target)
        if kind.plural == "bindings":
            return await self._subresources.bind(request, "", target.scope)
        return await self._object(request, target)

    async def _object(self, request: Request, target: Target) -> Answer:
        match target.verb:
            case "get":
                return await self._reading.get(request, target)
            case "list":
                return await self._reading.collection(request, target)
            case "watch":
                return self._watches.answer(request, target)
            case "create":
                return await self._writes.create(request, target)
            case "update":
                return await self._writes.update(request, target)
            case "patch":
                return await self._writes.patch(request, target)
            case "delete":
                return await self._deletion.answer(request, target)
            case _:
                return await self._deletion.collection(request, target)


def _body_name(request: Request, kind: Kind) -> str:
    """The name of what is to be created, for those who may create by name only; "" when there is none. Raises 400 and 415."""
    if request.method != "POST" or not _BOUND_BY_NAMES.intersection(request.user.groups) or not request.body.strip():
        return ""
    body = decode_body(request, kind.kind)
    metadata = body.get("metadata") if isinstance(body, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _refused(request: Request, error: ApiError) -> Answer:
    option = orjson.OPT_INDENT_2 if is_pretty(request) else 0
    return Answer(error.code, orjson.dumps(error.status(), option=option) + b"\n", headers=error.headers)
