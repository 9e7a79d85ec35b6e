"""What systemd hears, at an address of its own or in the abstract namespace, and that nobody else is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.core.base.notices import Notices


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        name = str(tmp_path / "n") if request.param == "file" else f"@pinnace-{secrets.token_hex(8)}"
        made.bind(name.replace("@", "\0"))
        made.settimeout(10)
        yield name, made


async def test_ready_alive_stopping(systemd: tuple[str, socket.socket]) -> None:
    address, heard = systemd
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    notices = Notices(environment)
    assert environment == {"PATH": "/bin"}, "children do not speak for us"
    notices.ready("ready: node n")
    assert heard.recv(100) == b"READY=1\nSTATUS=ready: node n"
    task = asyncio.create_task(notices.live())
    for _ in range(3):
        assert await asyncio.to_thread(heard.recv, 100) == b"WATCHDOG=1"
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    notices.stopping()
    while (said := heard.recv(100)) == b"WATCHDOG=1":
        pass
    assert said == b"STOPPING=1"


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "1"}, {"NOTIFY_SOCKET": "/nowhere/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, {"NOTIFY_SOCKET": "@none"}],
)
async def test_nobody_listens_or_asks(environment: dict[str, str]) -> None:
    notices = Notices(environment)
    assert notices.period == 0
    notices.ready()
    live = asyncio.create_task(notices.live())
    await asyncio.sleep(0)
    assert not live.done()
    live.cancel()
    notices.stopping()
