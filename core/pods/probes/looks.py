"""One look at a container by a handler (Kubernetes API, core/v1 Probe and LifecycleHandler): exec, httpGet, tcpSocket, grpc."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from pinnace.core.base.pod import Container, Object
from pinnace.core.base.runtime import ExecResult, RuntimeFailed
from pinnace.core.pods.probes import health, http
from pinnace.core.pods.rules.probing import Outcome

_TOLD_BYTES: Final = 10 << 10
_HERE: Final = "127.0.0.1"


class Look(NamedTuple):
    """What was seen, and the words for it."""

    outcome: Outcome
    message: str


class Target(NamedTuple):
    """A running container; `pod_ip` "" is looked for on this machine. `is_host`: it has the machine's network."""

    container: Container
    container_id: str
    pod_ip: str
    is_host: bool = False

    @property
    def host(self) -> str:
        """Where it is now. A machine may lose its address, as with its network cable, and what listens there must not be ended for that."""
        return self.pod_ip if self.pod_ip and not (self.is_host and not _has(self.pod_ip)) else _HERE


class Executor(Protocol):
    """The part of a Runtime that handlers need."""

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> ExecResult: ...


class Looks:
    """Runs handlers."""

    def __init__(self, runtime: Executor) -> None:
        self._runtime = runtime

    async def look(self, method: str, action: Object, target: Target, timeout_seconds: float) -> Look:
        """Never raises: what cannot be found out is UNKNOWN."""
        try:
            match method:
                case "exec":
                    return await self._exec(action, target, timeout_seconds)
                case "httpGet":
                    return await _http(action, target, timeout_seconds)
                case "tcpSocket":
                    return await _tcp(action, target, timeout_seconds)
                case "grpc":
                    return await _grpc(action, target, timeout_seconds)
                case _:
                    return Look(Outcome.UNKNOWN, f"missing probe handler for {method}")
        except (ValueError, TypeError, AttributeError) as error:
            return Look(Outcome.UNKNOWN, f"the {method} handler is wrong: {error}")

    async def _exec(self, action: Object, target: Target, timeout_seconds: float) -> Look:
        command = [str(each) for each in action.get("command") or ()]
        try:
            result = await self._runtime.exec_sync(target.container_id, command, timeout_seconds)
        except TimeoutError:
            return Look(Outcome.FAILURE, f'command "{shlex.join(command)[:200]}" timed out after {timeout_seconds:g} s')
        except RuntimeFailed as error:
            return Look(Outcome.UNKNOWN, str(error))
        said = (result.stdout + result.stderr)[:_TOLD_BYTES].decode(errors="replace")
        return Look(Outcome.SUCCESS if result.exit_code == 0 else Outcome.FAILURE, said or f"exit code {result.exit_code}")


async def _http(action: Object, target: Target, timeout_seconds: float) -> Look:
    host = action.get("host") or target.host
    url = http.address(action.get("scheme") or "http", host, port_number(action.get("port"), target.container), action.get("path") or "/")
    headers = [(str(each.get("name", "")), str(each.get("value", ""))) for each in action.get("httpHeaders") or ()]
    try:
        answer = await http.get(url, headers, timeout_seconds=timeout_seconds)
    except http.HttpFailed as error:
        return Look(Outcome.FAILURE, str(error))
    said = answer.body.decode(errors="replace")
    if answer.left_for or 300 <= answer.status < 400:
        return Look(Outcome.WARNING, f"Probe terminated redirects, Response body: {said}")
    if 200 <= answer.status < 300:
        return Look(Outcome.SUCCESS, said)
    return Look(Outcome.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")


async def _tcp(action: Object, target: Target, timeout_seconds: float) -> Look:
    host = action.get("host") or target.host
    port = port_number(action.get("port"), target.container)
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Look(Outcome.FAILURE, f"dial tcp {host}:{port}: no connection within {timeout_seconds:g} s")
    except OSError as error:
        return Look(Outcome.FAILURE, f"dial tcp {host}:{port}: {error}")
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await writer.wait_closed()
    return Look(Outcome.SUCCESS, "")


async def _grpc(action: Object, target: Target, timeout_seconds: float) -> Look:
    host, port = target.host, port_number(action.get("port"), target.container)
    try:
        status = await health.check(
            host, port, action.get("service") or "", timeout_seconds=timeout_seconds, user_agent=f"{http.USER_AGENT} grpc"
        )
    except health.HealthFailed as error:
        return Look(Outcome.FAILURE, str(error))
    if status == "SERVING":
        return Look(Outcome.SUCCESS, "service healthy")
    return Look(Outcome.FAILURE, f'service unhealthy (responded with "{status}")')


def _has(address: str) -> bool:
    """Whether this machine has the address at this moment."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def port_number(port: Any, container: Container) -> int:
    """A port as a number, or by its name among the container's. Raises ValueError."""
    if isinstance(port, str) and not port.isdigit():
        named = [each.get("containerPort") for each in container.spec.get("ports") or () if each.get("name") == port]
        if not named:
            raise ValueError(f"couldn't find port: {port}")
        port = named[0]
    number = int(port or 0)
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {port}")
    return number
