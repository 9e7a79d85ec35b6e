"""The kubelet's API on this node, served in-process: the tunnel, the local endpoint and the socket for root all end here.

`READ_ONLY` is what anybody on this machine may ask; nothing in it executes, changes, or shows what pods are made of.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.observe.health import REPORTED, Health
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.runtime import ContainerState, Runtime, SandboxState
from pinnace.core.stream.http import JSON, TEXT, Exchange, Refusal
from pinnace.core.stream.logs import Logs
from pinnace.core.stream.ports import PodBook, Shelf
from pinnace.core.stream.remote import Wanted, serve
from pinnace.core.stream.stats import Stats

logger = logging.getLogger(__name__)

READ_ONLY: Final = frozenset({"healthz", "stats", "metrics"})
EVERYTHING: Final = READ_ONLY | {"readyz", "pods", "events", "node", "devices", "usage", "containerLogs", "exec", "attach", "portForward"}
TUNNEL: Final = EVERYTHING - {"readyz", "node", "devices", "usage"}
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class KubeletApi:
    """Answers one exchange after the other; what it is asked of is given with each by its door. `logs` is podLogsDir."""

    def __init__(
        self,
        *,
        runtime: Runtime | None,
        book: PodBook,
        shelf: Shelf,
        stats: Stats,
        health: Health,
        logs: Path | None = None,
        usage: Callable[[], Awaitable[Object]] | None = None,
    ) -> None:
        self._runtime = runtime
        self._book = book
        self._shelf = shelf
        self._stats = stats
        self._health = health
        self._usage = usage
        self._logs = Logs(runtime, folder=logs) if runtime is not None else None
        self._routes: Mapping[str, Callable[[Exchange, list[str]], Awaitable[None]]] = {
            "healthz": self._healthz,
            "readyz": self._readyz,
            "stats": self._summary,
            "metrics": self._metrics,
            "pods": self._pods,
            "events": self._events,
            "node": self._node,
            "devices": self._devices,
            "usage": self._own_usage,
            "containerLogs": self._container_logs,
            "exec": self._exec,
            "attach": self._attach,
            "portForward": self._port_forward,
        }

    async def serve(self, exchange: Exchange, allowed: frozenset[str]) -> None:
        """Raises ConnectionError when the other end is gone, and nothing else."""
        parts = [part for part in exchange.path.split("/") if part]
        route = self._routes.get(parts[0]) if parts and parts[0] in allowed else None
        try:
            if route is None:
                raise Refusal(404, "404 page not found")
            await route(exchange, parts[1:])
        except Refusal as refusal:
            await _refuse(exchange, refusal.status, refusal.text)
        except PinnaceError as error:
            await _refuse(exchange, 500, str(error))
        except ConnectionError:
            raise
        except Exception:  # the supervision border of one request
            logger.exception("stream.request.failed path=%s", exchange.path)
            await _refuse(exchange, 500, "the node failed on this request; its log says where")

    async def _healthz(self, exchange: Exchange, rest: list[str]) -> None:
        problems = self._health.problems
        text = "ok" if not problems else "".join(f"[-]{fact} {problem}\n" for fact, problem in sorted(problems.items()))
        await exchange.answer(200 if not problems else 500, text)

    async def _readyz(self, exchange: Exchange, rest: list[str]) -> None:
        """Whether the cloud has heard from this run of the agent that its node is Ready; for the image's judgement of a new root."""
        if not self._health.has_reached(REPORTED):
            raise Refusal(503, "; ".join(self._health.problems.values()) or "the node has not been reported to the cloud yet")
        await exchange.answer(200, "ok")

    async def _summary(self, exchange: Exchange, rest: list[str]) -> None:
        if rest not in ([], ["summary"]):
            raise Refusal(404, "only /stats/summary is served")
        await _send_json(exchange, await self._stats.summary())

    async def _metrics(self, exchange: Exchange, rest: list[str]) -> None:
        if rest == ["resource"]:
            await exchange.answer(200, await self._stats.resource_metrics(), _METRICS_TYPE)
        elif rest in ([], ["cadvisor"], ["probes"]):
            await exchange.answer(200, self._own_metrics() if not rest else "", _METRICS_TYPE)
        else:
            raise Refusal(404, "served are /metrics and /metrics/resource")

    def _own_metrics(self) -> str:
        lines = ["# TYPE pinnace_pods gauge", f"pinnace_pods {len(self._book.pods())}", "# TYPE pinnace_health_degraded gauge"]
        return "\n".join([*lines, *(f'pinnace_health_degraded{{fact="{fact}"}} 1' for fact in sorted(self._health.problems)), ""])

    async def _pods(self, exchange: Exchange, rest: list[str]) -> None:
        items = [{**pod.body, "kind": "Pod", "apiVersion": "v1"} for pod in self._book.pods()]
        await _send_json(exchange, _list_of("PodList", "v1", items))

    async def _events(self, exchange: Exchange, rest: list[str]) -> None:
        """Of /events/<pod uid>, or of the node."""
        await _send_json(exchange, _list_of("EventList", "v1", list(self._book.recent_events("".join(rest[:1])))))

    async def _node(self, exchange: Exchange, rest: list[str]) -> None:
        node = self._shelf.node()
        if node is None:
            raise Refusal(404, "this node is not registered yet: it has never been connected to its cloud")
        await _send_json(exchange, node)

    async def _devices(self, exchange: Exchange, rest: list[str]) -> None:
        await _send_json(exchange, _list_of("DeviceList", "devices.kubeedge.io/v1beta1", list(self._shelf.devices())))

    async def _own_usage(self, exchange: Exchange, rest: list[str]) -> None:
        """What the agent holds in memory, for `pinnace footprint`."""
        if self._usage is None:
            raise Refusal(404, "this agent does not count what it holds")
        await _send_json(exchange, await self._usage())

    async def _container_logs(self, exchange: Exchange, rest: list[str]) -> None:
        pod, container = self._target(rest)
        if self._logs is None:
            raise Refusal(503, "this node runs no pods")
        await self._logs.serve(exchange, pod, container)

    async def _exec(self, exchange: Exchange, rest: list[str]) -> None:
        pod, name = self._target(rest)
        wanted = _wanted(exchange)
        command = [value for key, value in exchange.arguments if key == "command"]
        if not command:
            raise Refusal(400, "you must specify at least 1 command")
        runtime, container_id = await self._running(pod, name)
        await _session(exchange, wanted, lambda: runtime.exec(container_id, command, tty=wanted.tty, stdin=wanted.stdin))

    async def _attach(self, exchange: Exchange, rest: list[str]) -> None:
        pod, name = self._target(rest)
        wanted = _wanted(exchange)
        runtime, container_id = await self._running(pod, name)
        await _session(exchange, wanted, lambda: runtime.attach(container_id, stdin=wanted.stdin))

    async def _port_forward(self, exchange: Exchange, rest: list[str]) -> None:
        from pinnace.core.base.tunnel.spdy import SpdyError
        from pinnace.core.stream import portforward, spdyremote, websocket

        if len(rest) not in (2, 3):
            raise Refusal(404, "expected /portForward/<namespace>/<pod>")
        pod = self._pod(rest)
        runtime = self._need_runtime()
        ready = [each for each in await runtime.sandboxes(pod.uid) if each.state is SandboxState.READY]
        if not ready:
            raise Refusal(500, f'pod "{pod.name}" has no sandbox that is ready')
        forwarding = portforward.Forwarding(runtime, ready[-1].id, f"{pod.namespace}/{pod.name}")
        kind = _upgrade(exchange)
        try:
            if kind == "websocket":
                await forwarding.run(await websocket.WebSocket.accept(exchange, (portforward.TUNNELED,)))
            else:
                await forwarding.run(await spdyremote.switched(exchange, (portforward.PROTOCOL,)))
        except SpdyError as error:
            logger.warning("stream.port-forward.broken pod=%s reason=%s", pod.name, error)

    def _target(self, rest: list[str]) -> tuple[Pod, str]:
        """Of `<namespace>/<pod>[/<uid>]/<container>`."""
        if len(rest) not in (3, 4):
            raise Refusal(404, "expected /<namespace>/<pod>/<container>")
        return self._pod(rest[:-1]), rest[-1]

    def _pod(self, rest: list[str]) -> Pod:
        found = [pod for pod in self._book.pods() if [pod.namespace, pod.name] == rest[:2] and (len(rest) < 3 or pod.uid == rest[2])]
        if not found:
            raise Refusal(404, f'pod "{rest[1]}" does not exist')
        return min(found, key=lambda pod: pod.is_deleting)

    def _need_runtime(self) -> Runtime:
        if self._runtime is None:
            raise Refusal(503, "this node runs no pods")
        return self._runtime

    async def _running(self, pod: Pod, name: str) -> tuple[Runtime, str]:
        """The runtime, and the id of the pod's running container. Raises Refusal."""
        runtime = self._need_runtime()
        if pod.container(name) is None:
            raise Refusal(404, f'container "{name}" not found in pod "{pod.name}"')
        running = [
            each for each in await runtime.containers(pod.uid) if each.name == name and each.state is ContainerState.RUNNING
        ]  # fmt: skip
        if not running:
            raise Refusal(500, f'container "{name}" of pod "{pod.name}" is not running: `kubectl describe pod {pod.name}` says why')
        return runtime, max(running, key=lambda each: each.attempt).id


async def _session(exchange: Exchange, wanted: Wanted, start: Callable[[], Any]) -> None:
    """Run a stream of the runtime over the upgraded connection. Raises Refusal."""
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
    if _upgrade(exchange) == "websocket":
        from pinnace.core.stream import websocket

        socket = await websocket.WebSocket.accept(exchange, websocket.CHANNEL_PROTOCOLS)
        await serve(websocket.Channels(socket), start(), wanted)
        return
    from pinnace.core.stream import spdyremote

    remote = spdyremote.SpdyRemote(await spdyremote.switched(exchange, ("v4.channel.k8s.io",)), wanted)
    async with remote.open():
        await serve(remote, start(), wanted)


def _upgrade(exchange: Exchange) -> str:
    """`websocket` or `spdy/3.1`. Raises Refusal."""
    kind = exchange.head.get("Upgrade").lower()
    if not exchange.head.is_upgrade or kind not in ("websocket", "spdy/3.1"):
        raise Refusal(400, "Upgrade request required: websocket or SPDY/3.1")
    return kind


def _wanted(exchange: Exchange) -> Wanted:
    """The streams asked for, in the kubelet's words (input) or the API's (stdin)."""
    return Wanted(
        stdin=exchange.flag("input") or exchange.flag("stdin"),
        stdout=exchange.flag("output") or exchange.flag("stdout"),
        stderr=exchange.flag("error") or exchange.flag("stderr"),
        tty=exchange.flag("tty"),
    )


def _list_of(kind: str, version: str, items: list[Object]) -> Object:
    return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}


async def _send_json(exchange: Exchange, value: Object) -> None:
    await exchange.answer(200, orjson.dumps(value), JSON)


async def _refuse(exchange: Exchange, status: int, text: str) -> None:
    if not exchange.has_begun:
        await exchange.answer(status, text + "\n", TEXT)
    else:
        logger.warning("stream.answer.cut path=%s reason=%s", exchange.path, text)
