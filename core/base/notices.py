"""What systemd is told of this process (sd_notify(3)): that it serves, that it lives, that it stops. Nothing where nobody listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import MutableMapping
from typing import Final

_PER_PERIOD: Final = 3
"""Signs of life in the time after which systemd takes a silent process for hung."""


class Notices:
    """Takes the address out of the environment: children do not speak for us, and crun would hand it on to containers. `period` is the
    watchdog's, in seconds; 0 without one."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        is_watched = bool(address) and microseconds.isdecimal() and pid in ("", str(os.getpid()))
        self.period = int(microseconds) / 1e6 if is_watched else 0.0

    def ready(self, status: str = "") -> None:
        """What comes after may start. `status` is one line for `systemctl status`."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    async def live(self) -> None:
        """Give signs of life for ever: they cease when the event loop hangs."""
        if not self.period:
            await asyncio.Event().wait()
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.period / _PER_PERIOD)

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.connect(self._address)
            sender.send(text.encode())
