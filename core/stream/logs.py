"""`/containerLogs/<namespace>/<pod>/<container>`: a container's log as `kubectl logs` wants it, with the kubelet's parameters and words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import Container, ContainerState, NoSuchContainer, Runtime
from pinnace.core.stream.http import TEXT, Exchange, Refusal
from pinnace.core.stream.logfiles import LogOptions, LogReader, nanos

_LOOKS: Final = (0.05, 0.5)
"""Seconds between two looks at a log that is followed: soon after something came, less often the longer nothing does."""
_RECHECK_SECONDS: Final = 10.0
"""How often at least the runtime is asked whether a silent container still runs."""


class Changes:
    """How often something happened to a pod's containers, counted by the runtime's own news."""

    def __init__(self, runtime: Runtime) -> None:
        self._counts: dict[str, int] = {}
        self._total = 0
        runtime.on_change(self._changed)

    def seen(self, uid: str) -> int:
        return self._counts.get(uid, 0)

    def _changed(self, uid: str) -> None:
        if len(self._counts) > 1024:
            self._counts.clear()  # whoever compares looks once more than needed
        self._total += 1
        self._counts[uid] = self._total


class Logs:
    """Serves logs from the files that the runtime names; of a container that it has forgotten, the last below `folder`, if there is one."""

    def __init__(self, runtime: Runtime, *, folder: Path | None = None, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._runtime = runtime
        self._folder = folder
        self._changes = Changes(runtime)
        self._sleep = sleep

    async def serve(self, exchange: Exchange, pod: Pod, name: str) -> None:
        options = options_of(exchange)
        previous = exchange.flag("previous")
        container = await self._container(pod, name, previous=previous)
        path = container.log_path
        if not await asyncio.to_thread(path.parent.is_dir):
            raise Refusal(404, f'the log of container "{name}" in pod "{pod.name}" is gone: {path}')
        reader = await asyncio.to_thread(LogReader, path, options)
        try:
            await exchange.begin(TEXT)
            async with exchange.until_left():
                await self._send(exchange, reader, pod, container, follow=options.follow and not previous)
        finally:
            reader.close()

    async def _container(self, pod: Pod, name: str, *, previous: bool) -> Container:
        """Raises Refusal in the kubelet's words."""
        if pod.container(name) is None:
            raise Refusal(400, f'container "{name}" in pod "{pod.name}" is not available: the pod has no such container')
        mine = [each for each in await self._runtime.containers(pod.uid) if each.name == name]
        if not mine and self._folder is not None:
            mine = await asyncio.to_thread(_left, self._folder / pod.log_folder / name, name)
        mine.sort(key=lambda each: (each.attempt, each.created_at))
        if previous:
            before = _last_ended(pod, mine) or (mine[-2] if len(mine) > 1 else None)
            if before is None and mine:
                before = await asyncio.to_thread(_earlier, mine[-1])
            if before is None:
                raise Refusal(400, f'previous terminated container "{name}" in pod "{pod.name}" not found')
            return before
        started = [each for each in mine if each.state is not ContainerState.CREATED]
        if not started:
            raise Refusal(400, f'container "{name}" in pod "{pod.name}" is waiting to start: {_waiting_reason(pod, name)}')
        return started[-1]

    async def _send(self, exchange: Exchange, reader: LogReader, pod: Pod, container: Container, *, follow: bool) -> None:
        first, longest = _LOOKS
        pause, is_over, seen, checked = first, not follow, -1, time.monotonic()
        while not reader.is_full:
            text = await asyncio.to_thread(reader.read)
            if text:
                pause = first
                await exchange.write(text)
                continue
            if is_over:
                break
            now = time.monotonic()
            if seen != self._changes.seen(pod.uid) or now - checked > _RECHECK_SECONDS:
                seen, checked = self._changes.seen(pod.uid), now
                is_over = not await self._runs(container.id)
                if is_over:
                    continue  # what it wrote last
            await self._sleep(pause)
            pause = min(pause * 1.5, longest)
        if rest := reader.flush():
            await exchange.write(rest)

    async def _runs(self, container_id: str) -> bool:
        try:
            return (await self._runtime.container(container_id)).state in (ContainerState.CREATED, ContainerState.RUNNING)
        except NoSuchContainer:
            return False


def options_of(exchange: Exchange) -> LogOptions:
    """The parameters of /containerLogs (kubelet API). Raises Refusal."""
    since = 0
    if text := exchange.argument("sinceTime"):
        try:
            since = nanos(text)
        except ValueError as error:
            raise Refusal(400, f"sinceTime: {error}") from error
    seconds = _number(exchange, "sinceSeconds", least=1)
    if seconds is not None:
        if since:
            raise Refusal(422, "sinceSeconds and sinceTime: at most one of them may be given")
        since = time.time_ns() - seconds * 1_000_000_000
    stream = exchange.argument("stream").lower()
    return LogOptions(
        follow=exchange.flag("follow"),
        tail=_number(exchange, "tailLines"),
        since=since,
        timestamps=exchange.flag("timestamps"),
        limit=_number(exchange, "limitBytes", least=1),
        streams=frozenset({stream.encode()} if stream in ("stdout", "stderr") else {b"stdout", b"stderr"}),
    )


def _number(exchange: Exchange, name: str, *, least: int = 0) -> int | None:
    text = exchange.argument(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise Refusal(422, f"{name}: must be greater than or equal to {least}")
    return int(text)


def _waiting_reason(pod: Pod, name: str) -> str:
    for kind in ("containerStatuses", "initContainerStatuses"):
        for each in pod.status.get(kind) or ():
            if each.get("name") == name:
                waiting = (each.get("state") or {}).get("waiting") or {}
                return str(waiting.get("message") or waiting.get("reason") or "ContainerCreating")
    return "ContainerCreating"


def _last_ended(pod: Pod, mine: list[Container]) -> Container | None:
    """The run that the pod's status calls the last: while a container waits to start again, that is the newest one."""
    ids = {
        str(((each.get("lastState") or {}).get("terminated") or {}).get("containerID") or "").rpartition("://")[2]
        for kind in ("containerStatuses", "initContainerStatuses")
        for each in pod.status.get(kind) or ()
    }
    return next((each for each in reversed(mine) if each.id and each.id in ids), None)


def _left(folder: Path, name: str) -> list[Container]:
    """The last run by its log file alone: of a pod that has ended everything else may have been collected."""
    newest = max((int(each.stem) for each in folder.glob("*.log") if each.stem.isdecimal()), default=None)
    if newest is None:
        return []
    return [Container("", "", name, newest, ContainerState.EXITED, "", "", "", 0.0, log_path=folder / f"{newest}.log")]


def _earlier(container: Container) -> Container | None:
    """The run before this one by its log file alone: the container may have been collected, its log stays."""
    import dataclasses

    path = container.log_path
    if not path.stem.isdigit():
        return None
    for attempt in range(int(path.stem) - 1, -1, -1):
        earlier: Path = path.with_name(f"{attempt}{path.suffix}")
        if earlier.exists():
            return dataclasses.replace(container, id="", attempt=attempt, state=ContainerState.EXITED, log_path=earlier)
    return None
