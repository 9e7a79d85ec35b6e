"""How this server reaches nodes: through cloudcore, whose address and port it looks up where cloudcore recorded them (docs/protocol.md,
Tunnel). What iptables rules do for another API server is done here in process."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import orjson

from pinnace.cloud.standalone.access import KUBELET_CLIENT
from pinnace.cloud.standalone.pki import Authority
from pinnace.cloud.standalone.state import Object, State
from pinnace.cloud.standalone.status import ApiError, not_found
from pinnace.core.base.tunnel.duplex import Duplex, StreamDuplex, WithRest
from pinnace.core.base.tunnel.heads import Head, encode, read_head

USER: Final = "kube-apiserver-kubelet-client"
NAMESPACE: Final = "kubeedge"
RECORD: Final = "tunnelportrecord.kubeedge.io"
STREAMS: Final = "pinnace.io/streams"
ANSWER_SECONDS: Final = 30.0
LEAVE_SECONDS: Final = 2.0
"""What a node gets to take the rest of a client's bytes when the client has left."""
_ERROR_BYTES: Final = 4096

Arguments = tuple[tuple[str, str], ...]


class Answered:
    """A node's answer: its head, and the bytes behind it, which are there once. `aclose` lets go of the connection."""

    def __init__(self, head: Head, duplex: Duplex) -> None:
        self.head = head
        self.duplex = duplex

    def __aiter__(self) -> Answered:
        return self

    async def __anext__(self) -> bytes:
        data = await self.duplex.read()
        if not data:
            await self.aclose()
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        await self.duplex.close()

    async def text(self, limit: int = _ERROR_BYTES) -> bytes:
        """The body, up to so many bytes of it."""
        body = b""
        try:
            while len(body) < limit and (data := await self.duplex.read()):
                body += data
        finally:
            await self.aclose()
        return body[:limit]


class Kubelets:
    """Asks nodes. TLS is made anew when cloudcore's authority changes; this server's own certificate lives in memory only."""

    def __init__(self, state: State, authority: Authority) -> None:
        self._state = state
        self._authority = authority
        self._context: tuple[bytes, ssl.SSLContext] | None = None

    async def ask(
        self, node: str, path: str, arguments: Arguments = (), *, method: str = "GET", headers: Arguments = ()
    ) -> Answered:  # fmt: skip
        """Raises ApiError when the node cannot be reached; what it answers is the caller's to judge."""
        host, port, context = await self._way(node)
        target = quote(path) + (f"?{urlencode(arguments)}" if arguments else "")
        forwarded = ("X-Forwarded-Uri", f"/api/v1/nodes/{node}/proxy/{path.lstrip('/')}")
        request = Head((method, target, "HTTP/1.1"), (("Host", f"{host}:{port}"), forwarded, *headers))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(
                    host, port, ssl=context, server_hostname=host, ssl_shutdown_timeout=LEAVE_SECONDS
                )
                duplex = StreamDuplex(reader, writer)
                try:
                    await duplex.write(encode(request))
                    head, rest = await read_head(duplex)
                except BaseException:
                    writer.transport.abort()
                    raise
        except (OSError, EOFError, ValueError) as error:  # a time-out and ssl.SSLError are OSErrors
            reason = str(error) or type(error).__name__
            raise _unreachable(node, f"cloudcore's stream server at {host}:{port} does not answer: {reason}") from error
        return Answered(head, WithRest(duplex, rest))

    async def _way(self, node: str) -> tuple[str, int, ssl.SSLContext]:
        """Address and port of the stream server behind which the node is. Raises ApiError."""
        item = self._state.table("nodes").get("", node)
        if item is None:
            raise not_found("", "pods", node)  # in the API's own words
        endpoints = (item.decode().get("status") or {}).get("daemonEndpoints") or {}
        tunnel_port = (endpoints.get("kubeletEndpoint") or {}).get("Port") or 0
        found = self._state.table("configmaps").get(NAMESPACE, "tunnelport")
        annotations = (found.decode()["metadata"].get("annotations") or {}) if found is not None else {}
        addresses, streams = _object(annotations.get(RECORD)).get("ipTunnelPort") or {}, _object(annotations.get(STREAMS))
        address = next((address for address, port in addresses.items() if port == tunnel_port and address in streams), "")
        if not tunnel_port or not address:
            raise _unreachable(node, "it has no tunnel: it has never connected, or modules.cloudStream or edgeStream is switched off")
        secret = self._state.table("secrets").get(NAMESPACE, "casecret")
        try:
            authority = base64.b64decode((secret.decode().get("data") or {})["cadata"]) if secret is not None else b""
        except (KeyError, TypeError, binascii.Error):
            authority = b""
        if not authority:
            raise _unreachable(node, f"Secret {NAMESPACE}/casecret, by which cloudcore is recognised, is missing")
        return address, int(streams[address]), await self._tls(authority)

    async def _tls(self, authority: bytes) -> ssl.SSLContext:
        if self._context is None or self._context[0] != authority:
            self._context = (authority, await asyncio.to_thread(self._new_context, authority))
        return self._context[1]

    def _new_context(self, authority: bytes) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=authority)
        context.check_hostname = False  # of this authority only cloudcores have certificates for servers, whatever their address
        pair = self._authority.client(USER, (KUBELET_CLIENT,))
        with tempfile.TemporaryDirectory(prefix="pinnace-") as folder:  # mode 0700; ssl reads pairs from files only
            path = Path(folder, "pair")
            path.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(path)
        return context


def _unreachable(node: str, why: str) -> ApiError:
    return ApiError(503, f"node {node} cannot be asked: {why}", reason="ServiceUnavailable")


def _object(text: str | None) -> Object:
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
