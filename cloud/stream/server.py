"""The listener on 10003, where the API server asks for logs, commands and metrics of nodes, as it would ask their kubelets.

An exchange is one connection: its head is read, judged and sent on; what follows is only carried. Between two of ours the node's whole
answer comes back; KubeEdge's edge sends bodies of logs and metrics alone, and for those the answer's head is made here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

from pinnace.cloud.hub.tls import Gated, TlsGate, peer_of
from pinnace.cloud.hub.vault import Vault
from pinnace.cloud.kube.resources import PODS
from pinnace.cloud.ports import KubeApi
from pinnace.cloud.stream.reviews import Caller, Reviews, certified
from pinnace.cloud.stream.settings import CloudStreamSettings
from pinnace.cloud.stream.tunnels import Tunnels
from pinnace.cloud.watch import ObjectCache
from pinnace.core.base.contract.keys import NODE_NAME, NodeName
from pinnace.core.base.errors import PinnaceError, RemoteError
from pinnace.core.base.tunnel import frames
from pinnace.core.base.tunnel.duplex import StreamDuplex, WithRest, join
from pinnace.core.base.tunnel.heads import Head, answer_head, read_head

logger = logging.getLogger(__name__)

HEAD_SECONDS: Final = 10.0
CONNECTIONS: Final = 4096
_OF_PODS: Final = {"containerLogs": frames.LOGS, "exec": frames.EXEC, "attach": frames.ATTACH, "portForward": frames.EXEC}
_OF_NODES: Final = frozenset({"stats", "metrics"})


class Refused(Exception):
    """The answer instead of the node's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Errand(NamedTuple):
    """What is asked of which node."""

    node: NodeName
    kind: int


class StreamServer:
    """`start` listens, `close` ends it with every connection."""

    def __init__(
        self, api: KubeApi, vault: Vault, settings: CloudStreamSettings, *, tunnels: Tunnels, pods: ObjectCache, nodes: ObjectCache,
        clients: str,
    ) -> None:  # fmt: skip
        """`clients`: PEM of the authorities whose client certificates count."""
        self._api = api
        self._vault = vault
        self._settings = settings
        self._tunnels = tunnels
        self._pods = pods
        self._nodes = nodes
        self._clients = clients
        self._reviews = Reviews(api)
        self._gate: TlsGate | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.WriteTransport] = set()

    @property
    def port(self) -> int:
        """The port in use; 0 when not started."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server and self._server.sockets else 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        gate = self._gate = TlsGate("stream.server", self._vault.context(certificate_required=False, clients=self._clients))

        def protocol() -> asyncio.Protocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), self._connected, loop=loop)

        self._server = await loop.create_server(lambda: Gated(gate, protocol), self._settings.address, self._settings.stream_port)
        logger.info("stream.server.listening address=%s port=%d", self._settings.address, self.port)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._gate is not None:
            self._gate.close()
        for transport in self._open:
            transport.abort()  # somebody who reads nothing would keep us for ever
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        duplex = StreamDuplex(reader, writer)
        self._open.add(writer.transport)
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head, rest = await read_head(duplex)
            try:
                await self._carry(head, WithRest(duplex, rest), certified(writer.get_extra_info("peercert")))
            except Refused as refused:
                peer = peer_of(writer.transport)
                logger.info("stream.refused peer=%s path=%s status=%d reason=%s", peer, head.opening.path, refused.status, refused.text)
                await duplex.write(_whole(refused.status, refused.text))
        except (ValueError, EOFError, TimeoutError, ConnectionError) as error:
            logger.debug("stream.connection.left reason=%s", error)
        except Exception:  # one connection's fault ends that connection only
            logger.exception("stream.connection.failed")
        finally:
            await duplex.close()
            self._open.discard(writer.transport)

    async def _carry(self, head: Head, duplex: WithRest, caller: Caller | None) -> None:
        """Raises Refused, ConnectionError."""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                caller = caller or await self._bearer(head)
                errand = await self._errand(head)
                if not await self._reviews.allows(caller, errand.node, head.first[0], head.opening.path):
                    raise Refused(403, f"Forbidden (user={caller.name}, resource=nodes, name={errand.node})")
        except PinnaceError as error:
            raise Refused(500, f"the API server cannot be asked: {error}") from error
        is_whole = self._tunnels.is_ours(errand.node)
        kind = frames.EXEC if is_whole else errand.kind
        if kind in (frames.EXEC, frames.ATTACH) and not is_whole and not head.is_upgrade:
            raise Refused(400, "Upgrade request required")
        if head.opening.path.startswith("/portForward/") and not is_whole and errand.node in self._tunnels:
            raise Refused(501, f"node {errand.node} is KubeEdge's: its tunnel has no port-forward")
        opening = head.opening
        kept = tuple(pair for pair in opening.headers if pair[0].lower() != "authorization")
        try:
            channel = await self._tunnels.open(errand.node, kind, frames.Opening(opening.method, opening.path, opening.query, kept))
        except ConnectionError as error:
            raise Refused(502, str(error)) from error
        try:
            if kind in (frames.LOGS, frames.METRICS):
                await duplex.write(answer_head(200, (("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close"))))
            await join(duplex, channel)
        finally:
            await channel.close()

    async def _bearer(self, head: Head) -> Caller:
        """Who asks without a certificate. Raises Refused, RemoteError, LinkError."""
        scheme, _, token = head.get("Authorization").partition(" ")
        caller = await self._reviews.bearer(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
        if caller is None:
            raise Refused(401, "Unauthorized")
        return caller

    async def _errand(self, head: Head) -> Errand:
        """Raises Refused, RemoteError, LinkError."""
        parts = head.opening.path[1:].split("/")
        if not {".", "..", ""}.isdisjoint(parts[:-1]) or parts[-1] in (".", ".."):
            raise Refused(404, "404 page not found")  # a node may understand another path than was judged
        if head.first[0] not in ("GET", "POST"):
            raise Refused(405, "Method Not Allowed")
        if parts[0] in _OF_PODS and len(parts) >= 3:
            return Errand(await self._node_of_pod(parts[1], parts[2]), _OF_PODS[parts[0]])
        if parts[0] in _OF_NODES:
            return Errand(self._node_of_request(head), frames.METRICS)
        raise Refused(404, "404 page not found")

    async def _node_of_pod(self, namespace: str, name: str) -> NodeName:
        pod = self._pods.get(namespace, name)
        if pod is None:  # the watch may lag behind who just made it
            try:
                pod = await self._api.get(PODS, name, namespace)
            except RemoteError as error:
                if error.code == 404:
                    raise Refused(404, f'pod "{name}" does not exist') from error
                raise
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            raise Refused(400, f"pod {name} does not have a host assigned")
        return NodeName(node)

    def _node_of_request(self, head: Head) -> NodeName:
        """`X-Forwarded-Uri: /api/v1/nodes/<node>/proxy/...` names it; else the Host is one of the node's addresses, or its name."""
        forwarded = head.get("X-Forwarded-Uri").split("/")
        if forwarded[:4] == ["", "api", "v1", "nodes"] and len(forwarded) > 6 and NODE_NAME.fullmatch(forwarded[4]):
            return NodeName(forwarded[4])
        host = head.get("Host")
        address = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if self._nodes.get("", address) is not None:
            return NodeName(address)
        found = self._tunnels.at(address)
        if found is not None:
            return found
        raise Refused(404, f"no node, or more than one, has the address {address}: name the node in X-Forwarded-Uri")


def _whole(status: int, text: str) -> bytes:
    body = (text + "\n").encode()
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), ("Connection", "close"))
    return answer_head(status, headers) + body
