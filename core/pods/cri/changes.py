"""Which pods something happened to: the runtime's event stream where it has one, otherwise a list each second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pinnace.core.base.runtime import POD_UID_LABEL
from pinnace.core.pods.cri import messages
from pinnace.core.pods.cri.grpc import CallFailed, Channel, Unreachable

logger = logging.getLogger(__name__)

RELIST_SECONDS: Final = 1.0
HEALTH_SECONDS: Final = 5.0
_SERVICE: Final = "/runtime.v1.RuntimeService"
Seen = Mapping[str, tuple[int, str]]
"""Id of a container or sandbox to its state and the uid of its pod."""


class Changes:
    """Watches one runtime. `changed` is told the uid of each pod that something appeared in, ended in or went from; `came_back` is called
    whenever the runtime answers again."""

    def __init__(self, channel: Channel, *, request_seconds: float, changed: Callable[[str], None], came_back: Callable[[], None]) -> None:
        self._channel = channel
        self._request_seconds = request_seconds
        self._changed = changed
        self._came_back = came_back
        self._seen: Seen = {}
        self._has_events = True
        self.problem = ""
        """Why the runtime does not answer; "" when it does."""

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look()
                if self._has_events:
                    await self._listen()
            except (CallFailed, Unreachable) as error:
                self._down(str(error))
            await asyncio.sleep(HEALTH_SECONDS if self.problem else RELIST_SECONDS)

    async def look(self) -> None:
        """List once and tell what differs from the last time. Raises CallFailed, Unreachable."""
        containers = await self._channel.call(
            f"{_SERVICE}/ListContainers", messages.ListContainersRequest(), messages.ListContainersResponse, timeout=self._request_seconds
        )
        sandboxes = await self._channel.call(
            f"{_SERVICE}/ListPodSandbox", messages.ListPodSandboxRequest(), messages.ListPodSandboxResponse, timeout=self._request_seconds
        )
        now: dict[str, tuple[int, str]] = {each.id: (each.state, each.labels.get(POD_UID_LABEL, "")) for each in containers.containers}
        for each in sandboxes.items:
            now[each.id] = (-1 - each.state, each.metadata.uid if each.metadata else "")
        self._up()
        before, self._seen = self._seen, now
        for uid in sorted(set(differing(before, now))):
            self._changed(uid)

    async def _listen(self) -> None:
        """Events until the stream ends; health checks beside it, which end it too."""
        async with asyncio.TaskGroup() as group:
            events = group.create_task(self._events())
            check = group.create_task(self._check())
            await asyncio.wait((events, check), return_when=asyncio.FIRST_COMPLETED)
            events.cancel()
            check.cancel()

    async def _events(self) -> None:
        count = 0
        try:
            stream = self._channel.stream(f"{_SERVICE}/GetContainerEvents", messages.Empty(), messages.ContainerEventResponse)
            async for each in stream:
                count += 1
                status = each.pod_sandbox_status
                uid = status.metadata.uid if status is not None and status.metadata is not None else ""
                if not uid:
                    uid = self._seen.get(each.container_id, (0, ""))[1]
                if uid:
                    self._changed(uid)
                else:
                    await self.look()
        except Unreachable as error:
            self._down(str(error))
            return
        except CallFailed as error:
            logger.info("pods.cri.events.none reason=%s: listing each second instead", error)
        self._has_events = count > 0  # a stream that worked is worth another try

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            try:
                await self._channel.call(
                    f"{_SERVICE}/Version", messages.VersionRequest(), messages.VersionResponse, timeout=self._request_seconds
                )
            except (CallFailed, Unreachable) as error:
                self._down(str(error))
                return

    def _down(self, why: str) -> None:
        if why != self.problem:
            logger.warning("pods.cri.unreachable path=%s reason=%s", self._channel.path, why)
        self.problem = why

    def _up(self) -> None:
        if self.problem:
            logger.info("pods.cri.reachable path=%s", self._channel.path)
            self.problem = ""
            self._has_events = True  # it may be another version now
            self._came_back()


def differing(before: Seen, now: Seen) -> Iterator[str]:
    """The uids of pods with something new, gone or in another state."""
    for key, (state, uid) in now.items():
        if uid and before.get(key, (None, ""))[0] != state:
            yield uid
    for key, (_, uid) in before.items():
        if uid and key not in now:
            yield uid
