"""Commands and attached terminals between a runtime's stream and whoever asked, whichever protocol carries them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pinnace.core.base.runtime import RuntimeFailed, Stream

logger = logging.getLogger(__name__)

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
STUCK_SECONDS: Final = 5.0
"""How long a command may leave what its caller sent, before it is asked whether the caller is there still, and how often then."""


@dataclass(frozen=True, slots=True)
class Typed:
    """Bytes for standard input."""

    data: bytes


@dataclass(frozen=True, slots=True)
class InputEnded:
    pass


@dataclass(frozen=True, slots=True)
class Resized:
    columns: int
    rows: int


Event = Typed | InputEnded | Resized


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the request asks for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Remote(Protocol):
    """The other end of a session."""

    def events(self) -> AsyncIterator[Event]:
        """Ends when the other end is gone."""
        ...

    async def send(self, channel: int, data: bytes) -> None:
        """STDOUT, STDERR or ERROR. No data at all says nothing, but goes all the way. Raises ConnectionError."""
        ...

    async def finish(self, status: dict[str, Any]) -> None:
        """The last word (Kubernetes API, meta/v1 Status), then the end."""
        ...


async def serve(remote: Remote, stream: Stream, wanted: Wanted) -> None:
    """Until the command ends or the other end leaves; a command whose caller left is ended."""
    try:
        async with stream:
            status = await _session(remote, stream, wanted)
    except RuntimeFailed as error:
        status = failure(str(error), reason="InternalError", code=500)
    if status is not None:
        await remote.finish(status)


async def _session(remote: Remote, stream: Stream, wanted: Wanted) -> dict[str, Any] | None:
    putting, taken = asyncio.Event(), 0

    async def take() -> None:
        nonlocal taken
        async for event in remote.events():
            putting.set()
            await put(event)
            putting.clear()
            taken += 1

    async def put(event: Event) -> None:
        match event:
            case Typed(data):
                if wanted.stdin:
                    await stream.write(data)
            case InputEnded():
                await stream.close_stdin()
            case Resized(columns, rows):
                await stream.resize(columns, rows)

    async def watch() -> None:
        """While a command does not take its input, nothing is read on any hop of the way, and no end of it is seen: sending meets that."""
        channel = STDOUT if wanted.stdout else STDERR if wanted.stderr and not wanted.tty else ERROR
        while True:
            await putting.wait()
            before = taken
            await asyncio.sleep(STUCK_SECONDS)
            if taken == before:
                await remote.send(channel, b"")

    async def give() -> int:
        async for channel, data in stream.output():
            if (channel == STDOUT and wanted.stdout) or (channel == STDERR and wanted.stderr and not wanted.tty):
                await remote.send(channel, data)
        return await stream.wait()

    taking, giving, watching = asyncio.create_task(take()), asyncio.create_task(give()), asyncio.create_task(watch())
    tasks: tuple[asyncio.Task[Any], ...] = (taking, giving, watching)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if giving.done():
            return status_of(await giving)
        for task in (taking, watching):
            if task.done():
                await task
        return None  # the other end left
    except ConnectionError:
        return None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def status_of(code: int) -> dict[str, Any]:
    """A command's exit code as the Status that ends a session."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str, *, reason: str, code: int) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "reason": reason, "message": message, "code": code}
