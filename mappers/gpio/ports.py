"""Where levels go: the Raspberry Pi's own pins, or simulated ones; either can be watched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import orjson

from pinnace.core.base.errors import ConfigError

logger = logging.getLogger(__name__)

WATCHER_BOUND = 256
"""Changes kept for a watcher that does not read; the oldest go, since the next line holds every level anyway."""


class Port(Protocol):
    """Digital outputs by BCM number; a level is 0 or 1. `write` and `read` raise OSError or RuntimeError when the pin cannot be driven."""

    def set_up(self, bcm: int) -> None:
        """Make the pin an output, keeping the level that it has."""
        ...

    def write(self, bcm: int, level: int) -> None: ...

    def read(self, bcm: int) -> int: ...

    def close(self) -> None: ...


class RaspberryPort:
    """The pins of the board through RPi.GPIO's interface as rpi-lgpio provides it on the kernel's GPIO character device.

    The levels stay when the mapper ends; `--at-exit off` is what switches the lamps off."""

    def __init__(self) -> None:
        if "LG_WD" not in os.environ:  # lgpio makes its pipes in the working directory otherwise
            os.environ["LG_WD"] = tempfile.mkdtemp(prefix="pinnace-lgpio-")
        try:
            from RPi import GPIO
        except (ImportError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(
                f"--port real: RPi.GPIO cannot be used here ({error}); install rpi-lgpio on a Raspberry Pi, or use --port simulated"
            ) from error
        self._gpio: Any = GPIO
        try:
            GPIO.setwarnings(False)
            GPIO.setmode(GPIO.BCM)
        except Exception as error:  # lgpio has an exception class of its own, unknown where it is not installed
            raise ConfigError(f"--port real: the GPIO chip cannot be opened: {error}; run as root or as a member of group gpio") from error

    def set_up(self, bcm: int) -> None:
        try:
            self._gpio.setup(bcm, self._gpio.OUT)
        except Exception as error:
            raise ConfigError(f"pin BCM {bcm} cannot be made an output: {error}; does another program use it?") from error

    def write(self, bcm: int, level: int) -> None:
        self._gpio.output(bcm, level)

    def read(self, bcm: int) -> int:
        return int(self._gpio.input(bcm))

    def close(self) -> None:
        """Nothing to do: giving the pins back would turn them into inputs and the lamps with them."""


class SimulatedPort:
    """Pins in memory."""

    def __init__(self) -> None:
        self._levels: dict[int, int] = {}

    def set_up(self, bcm: int) -> None:
        self._levels.setdefault(bcm, 0)

    def write(self, bcm: int, level: int) -> None:
        if bcm not in self._levels:
            raise RuntimeError(f"pin {bcm} was not set up")
        self._levels[bcm] = level

    def read(self, bcm: int) -> int:
        return self._levels[bcm]

    def close(self) -> None:
        """Nothing to do."""


class WatchedPort:
    """Another port, whose changes watchers are told (`on_change(line)`), one JSON object each:
    `{"ts": Unix seconds, "bcm": 26, "level": 1, "levels": {"13": 0, "19": 0, "26": 1}}`. Levels are read back from the pins."""

    def __init__(self, port: Port, clock: Callable[[], float] = time.time) -> None:
        self._port = port
        self._levels: dict[int, int] = {}
        self._clock = clock
        self.on_change: list[Callable[[bytes], None]] = []

    def set_up(self, bcm: int) -> None:
        self._port.set_up(bcm)
        self._note(bcm)

    def write(self, bcm: int, level: int) -> None:
        self._port.write(bcm, level)
        self._note(bcm)

    def read(self, bcm: int) -> int:
        return self._note(bcm)

    def close(self) -> None:
        self.on_change.clear()
        self._port.close()

    def line(self, bcm: int | None = None) -> bytes:
        """The JSON line about one change, or about how things are when no pin is named."""
        levels = {str(pin): level for pin, level in sorted(self._levels.items())}
        change = {} if bcm is None else {"bcm": bcm, "level": self._levels[bcm]}
        return orjson.dumps({"ts": self._clock(), **change, "levels": levels}) + b"\n"

    def _note(self, bcm: int) -> int:
        level = self._port.read(bcm)
        if self._levels.get(bcm) != level:
            self._levels[bcm] = level
            line = self.line(bcm)
            for each in self.on_change:
                each(line)
        return level


class PinSocket:
    """A Unix socket on which whoever connects reads the pins: first how they are, then each change, one JSON line each.

    It only tells; nothing can be set through it. A path has mode 0600; an abstract name (`@NAME`), which whoever shares the network can
    find, turns away other users than root and our own."""

    def __init__(self, port: WatchedPort, path: str) -> None:
        self._port = port
        self._path = path
        self._watchers: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        is_abstract = self._path.startswith("@")
        if not is_abstract:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)  # noqa: PTH108 - one name, before the loop has anything else to do
        previous = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, "\0" + self._path[1:] if is_abstract else self._path)
        except OSError as error:
            raise ConfigError(f"--pin-socket: {self._path}: {error.strerror or error}") from error
        finally:
            os.umask(previous)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in self._watchers:  # from Python 3.12 on a server is not closed before they are
                writer.transport.abort()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _user_of(writer) not in (0, os.geteuid()):
            writer.close()
            return
        lines: asyncio.Queue[bytes] = asyncio.Queue(WATCHER_BOUND)

        def changed(line: bytes) -> None:
            if lines.full():
                lines.get_nowait()
            lines.put_nowait(line)

        self._watchers.add(writer)
        changed(self._port.line())
        self._port.on_change.append(changed)
        gone = asyncio.ensure_future(reader.read())
        try:
            while not gone.done():
                line = asyncio.ensure_future(lines.get())
                await asyncio.wait({line, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done():
                    line.cancel()
                    break
                writer.write(line.result())
                await writer.drain()
        except OSError:
            logger.debug("gpio.watcher-gone")
        finally:
            gone.cancel()
            self._watchers.discard(writer)
            with contextlib.suppress(ValueError):
                self._port.on_change.remove(changed)
            writer.close()


def _user_of(writer: asyncio.StreamWriter) -> int:
    """Who is at the other end of a Unix socket: unix(7), SO_PEERCRED."""
    peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", peer)[1])


def is_raspberry(model: Path = Path("/proc/device-tree/model")) -> bool:
    """Whether this machine says that it is a Raspberry Pi."""
    try:
        return b"Raspberry Pi" in model.read_bytes()
    except OSError:
        return False
