"""The HTTPS listener on 10002, where a machine becomes a node (docs/protocol.md, Joining).

Open to anyone: `/ca.crt` (the edge compares its hash with the join token) and `/node/<name>` (a joining tool asks whether the name is
taken). `/edge.crt` wants a join token or the node's current certificate. The texts are those of KubeEdge's cloudcore.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from pinnace.cloud.hub import tokens
from pinnace.cloud.hub.pki import CLIENT_AUTH, NODE_GROUP
from pinnace.cloud.hub.settings import CloudHubSettings
from pinnace.cloud.hub.tls import Gated, TlsGate, peer_of
from pinnace.cloud.hub.vault import Vault
from pinnace.cloud.kube.resources import NODES
from pinnace.cloud.ports import KubeApi, Object
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract import wireversion
from pinnace.core.base.contract.keys import NODE_COMMON_NAME, NODE_NAME
from pinnace.core.base.errors import PinnaceError, RefusedError, RemoteError

logger = logging.getLogger(__name__)

BODY_LIMIT: Final = 1 << 20
ATTEMPTS: Final = 60
"""Failed attempts an address may make at once; one comes back each second."""
ADDRESSES: Final = 1024
"""Addresses whose failures are remembered; the least recent is forgotten."""


class Attempts:
    """A token bucket of failures for each address."""

    def __init__(self, clock: Clock, *, burst: int = ATTEMPTS, per_second: float = 1.0) -> None:
        self._clock = clock
        self._burst = burst
        self._per_second = per_second
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def are_spent(self, address: str) -> bool:
        return self._level(address) + 1 > self._burst

    def failed(self, address: str) -> None:
        self._spent[address] = (self._level(address) + 1, self._clock.now())
        self._spent.move_to_end(address)
        if len(self._spent) > ADDRESSES:
            self._spent.popitem(last=False)

    def _level(self, address: str) -> float:
        level, since = self._spent.get(address, (0.0, 0.0))
        return max(0.0, level - (self._clock.now() - since) * self._per_second)


class Bootstrap:
    """The listener. `start` binds and serves, `close` ends it."""

    def __init__(self, vault: Vault, kube: KubeApi, settings: CloudHubSettings, clock: Clock | None = None) -> None:
        self._vault = vault
        self._kube = kube
        self._settings = settings
        self._clock = clock or LoopClock()
        self._attempts = Attempts(self._clock)
        self._gate: TlsGate | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port in use; 0 when not started."""
        return int(self._listener.sockets[0].getsockname()[1]) if self._listener and self._listener.sockets else 0

    async def start(self) -> None:
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[_plain_refusals])
        app.router.add_get("/ca.crt", self._ca)
        app.router.add_get("/edge.crt", self._edge)
        app.router.add_get("/node/{name}", self._node)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=15, shutdown_timeout=2.0)
        await runner.setup()
        server = runner.server
        assert server is not None
        gate = TlsGate("hub.bootstrap", self._vault.context(certificate_required=False))
        self._gate, self._runner = gate, runner
        https = self._settings.https
        self._listener = await asyncio.get_running_loop().create_server(lambda: Gated(gate, server), https.address, https.port)
        logger.info("hub.bootstrap.listening address=%s port=%d", https.address, self.port)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._gate is not None:
            self._gate.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _ca(self, request: web.Request) -> web.Response:
        return _der(self._vault.authority.pair.certificate)

    async def _node(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not NODE_NAME.fullmatch(name):
            return web.Response(status=404, text="Node not found")
        try:
            found = await self._known(name)
        except PinnaceError as error:
            logger.warning("hub.bootstrap.node_lookup_failed node=%s error=%s", name, error)
            return web.Response(status=500, text="Failed to query node information")
        if found is None or may_take_name(found, request.headers.get(wireversion.MACHINE, "")):
            return web.Response(status=404, text="Node not found")
        return web.Response(text="Node founded")

    async def _edge(self, request: web.Request) -> web.Response:
        address = request.remote or ""
        if self._attempts.are_spent(address):
            return web.Response(status=429, text="too many failed attempts; try again in a minute", headers={"Retry-After": "60"})
        node = request.headers.get("NodeName", "")
        try:
            self._authorize(request, node)
        except RefusedError as error:
            return self._refuse(request, node, 401, str(error))
        machine = request.headers.get(wireversion.MACHINE, "")
        try:
            found = await self._known(node) if machine else None
        except PinnaceError as error:
            logger.warning("hub.bootstrap.node_lookup_failed node=%s error=%s", node, error)
            return web.Response(status=503, text=f"the Kubernetes API cannot be asked about node {node} now; try again in a minute")
        if found is not None and not may_take_name(found, machine):
            why = f"{node} is Ready on another machine; choose another name, or switch that one off: then this one takes its place"
            return self._refuse(request, node, 409, why)
        try:
            certificate = self._sign(await request.read(), node, request.headers.get("ExtKeyUsages", ""))
        except RefusedError as error:
            return self._refuse(request, node, 500, f"failed to sign certs for edgenode {node}, err: fail to signCerts, err: {error}")
        logger.info("hub.bootstrap.certificate_issued node=%s peer=%s", node, peer_of(request.transport))
        return _der(certificate)

    async def _known(self, node: str) -> Object | None:
        """The Node of that name. Raises PinnaceError when the API does not tell."""
        try:
            return await self._kube.get(NODES, node)
        except RemoteError as error:
            if error.code == 404:
                return None
            raise

    def _authorize(self, request: web.Request, node: str) -> None:
        """By the client certificate when one was presented, else by the join token. Raises RefusedError with the answer's text."""
        certificate: dict[str, Any] | None = request.transport.get_extra_info("peercert") if request.transport else None
        if certificate:
            if identity(certificate) != (NODE_GROUP, NODE_COMMON_NAME + node):
                why = "request node name is not match with the certificate"
                raise RefusedError(f"failed to verify the certificate for edgenode: {node}, err: {why}")
            return
        try:
            tokens.check_authorization(request.headers.get("Authorization", ""), self._vault.authority.pair.key, self._clock.wall())
        except RefusedError as error:
            raise RefusedError(f"token validation failure, {error}") from error

    def _sign(self, request: bytes, node: str, usages_header: str) -> bytes:
        usages = [CLIENT_AUTH]
        if usages_header:
            try:
                usages = orjson.loads(usages_header)
            except orjson.JSONDecodeError as error:
                raise RefusedError(f"unmarshal http header ExtKeyUsages fail, err: {error}") from error
            if not isinstance(usages, list):
                raise RefusedError("unmarshal http header ExtKeyUsages fail, err: expected a list of numbers")
        now = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)
        life = datetime.timedelta(days=self._settings.edge_cert_signing_duration)
        return self._vault.authority.sign_node(request, node, now, life, usages)

    def _refuse(self, request: web.Request, node: str, status: int, text: str) -> web.Response:
        self._attempts.failed(request.remote or "")
        logger.warning("hub.bootstrap.refused node=%r peer=%s status=%d reason=%s", node, peer_of(request.transport), status, text)
        return web.Response(status=status, text=text)


def may_take_name(node: Mapping[str, Any], machine: str) -> bool:
    """Whether the machine with this id may have the name of a Node that is there: it is that machine, or that one is not Ready any more
    (its lease has run out, Kubernetes API, Node). Never for "", who does not say which machine it is."""
    status = node.get("status") or {}
    known = (status.get("nodeInfo") or {}).get("machineID", "")
    is_ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or ())
    return bool(machine) and (known == machine or not is_ready)


def identity(certificate: dict[str, Any]) -> tuple[str, str]:
    """(O, CN) of a certificate as `SSLObject.getpeercert()` gives it; "" for one that is missing or given more than once."""
    attributes = [attribute for relative in certificate.get("subject", ()) for attribute in relative]

    def only(name: str) -> str:
        found = [value for key, value in attributes if key == name]
        return found[0] if len(found) == 1 else ""

    return only("organizationName"), only("commonName")


def _der(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/octet-stream")


@web.middleware
async def _plain_refusals(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return web.Response(status=404, text="404: Page Not Found")
