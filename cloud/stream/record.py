"""Where the API server finds the nodes of this cloudcore: its tunnel port, recorded in ConfigMap `kubeedge/tunnelport` and written to each
connected Node (docs/protocol.md, Tunnel)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import orjson

from pinnace.cloud.kube.resources import CONFIG_MAPS, NODES
from pinnace.cloud.ports import KubeApi, Object
from pinnace.cloud.watch import Change, ObjectCache
from pinnace.cloud.watch.workers import KeyWorkers
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import RemoteError

logger = logging.getLogger(__name__)

NAMESPACE: Final = "kubeedge"
NAME: Final = "tunnelport"
RECORD: Final = "tunnelportrecord.kubeedge.io"
STREAMS: Final = "pinnace.io/streams"
"""Ours, beside KubeEdge's record: each cloudcore's address and the port of its stream server, for an API server without iptables."""
FIRST_PORT: Final = 10351
_ATTEMPTS: Final = 10


class TunnelRecord:
    """`open` takes a tunnel port for this cloudcore; nodes whose tunnel is here show it from then on."""

    def __init__(self, api: KubeApi, nodes: ObjectCache, *, address: str, is_here: Callable[[NodeName], bool]) -> None:
        self._api = api
        self._nodes = nodes
        self._address = address
        self._is_here = is_here
        self.port = 0
        self.workers: KeyWorkers[NodeName] = KeyWorkers("stream.node", self._reconcile, parallel=4)
        nodes.on_change(self._changed)

    async def open(self, stream_port: int) -> None:
        """Raises RemoteError, LinkError."""
        for _ in range(_ATTEMPTS):
            try:
                found = await self._api.get(CONFIG_MAPS, NAME, NAMESPACE)
            except RemoteError as error:
                if error.code != 404:
                    raise
                found = None
            body, self.port = recorded(found, self._address, stream_port)
            try:
                if found is None:
                    await self._api.create(CONFIG_MAPS, body, NAMESPACE)
                elif body != found:
                    await self._api.replace(CONFIG_MAPS, body, NAME, NAMESPACE)
                logger.info("stream.recorded address=%s tunnel_port=%d stream_port=%d", self._address, self.port, stream_port)
                return
            except RemoteError as error:
                if error.code != 409:
                    raise  # another cloudcore was quicker otherwise: look again
        raise RemoteError(f"ConfigMap {NAMESPACE}/{NAME} changes all the time", reason="Conflict", code=409)

    async def connected(self, node: NodeName) -> None:
        self.workers.touch(node)

    def _changed(self, change: Change) -> None:
        node = NodeName(change.key.name)
        if change.new is not None and self._is_here(node) and port_of(change.new) != self.port:
            self.workers.touch(node)

    async def _reconcile(self, node: NodeName) -> None:
        obj = self._nodes.get("", node)
        if obj is None or not self._is_here(node) or port_of(obj) == self.port:
            return
        patch: Object = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}}}}
        await self._api.patch(NODES, node, patch, subresource="status")


def port_of(node: Object) -> int:
    """Where a Node says its kubelet is; 0 when it does not."""
    endpoints = (node.get("status") or {}).get("daemonEndpoints") or {}
    return int((endpoints.get("kubeletEndpoint") or {}).get("Port") or 0)


def recorded(found: Object | None, address: str, stream_port: int) -> tuple[Object, int]:
    """The ConfigMap with this cloudcore in it, and its tunnel port: the one it had, else the first that is free."""
    body: Object = found or {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE}}
    annotations = dict(body["metadata"].get("annotations") or {})
    record = _object(annotations.get(RECORD, ""))
    addresses, taken = dict(record.get("ipTunnelPort") or {}), dict(record.get("port") or {})
    port = addresses.get(address)
    if not isinstance(port, int):
        port = FIRST_PORT
        while str(port) in taken:
            port += 1
    addresses[address] = port
    taken[str(port)] = True
    annotations[RECORD] = orjson.dumps({"ipTunnelPort": addresses, "port": taken}).decode()
    streams = _object(annotations.get(STREAMS, "")) | {address: stream_port}
    annotations[STREAMS] = orjson.dumps(streams).decode()
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}, port


def _object(text: str) -> Object:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
