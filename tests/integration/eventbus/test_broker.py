"""The broker of our own: a real mosquitto that we start, watch and end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from integration.eventbus.conftest import DEADLINE, run
from integration.mosquitto import Mosquitto, Probe, program
from rig.processes import free_port
from rig.waiting import until

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.eventbus import broker as broker_module
from pinnace.core.eventbus.broker import Broker
from pinnace.core.eventbus.settings import parse_address

pytestmark = pytest.mark.mosquitto


class Owned:
    """A Broker on a free port and what it reported."""

    def __init__(self, folder: Path, *, port: int = 0, username: str = "", password: str = "") -> None:
        program()
        self.url = f"tcp://127.0.0.1:{port or free_port()}"
        self.reports: list[str] = []
        self.broker = Broker(
            parse_address(self.url),
            folder=folder,
            report=self.reports.append,
            username=username,
            password=password,
            backoff=Backoff(0.01, 0.05),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Broker]:
        async with run(self.broker.run()):
            await self.is_ready()
            yield self.broker

    async def is_ready(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.broker.ready.wait()


def alive(pid: int) -> bool:
    """Is there such a process that has not ended?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_starts_and_ends_with_us(tmp_path: Path) -> None:
    owned = Owned(tmp_path / "own")
    async with owned.running() as broker:
        pid = broker.pid
        assert alive(pid)
        with Probe(owned.url) as probe:
            probe.subscribe("a")
            probe.publish("a", b"x")
            assert probe.next() == ("a", b"x")
    assert not alive(pid)
    assert owned.reports == [""]


def _is_another(broker: Broker, before: int) -> bool:
    return broker.pid not in (0, before)


async def test_comes_back_when_it_was_killed(tmp_path: Path) -> None:
    owned = Owned(tmp_path / "own")
    async with owned.running() as broker:
        for _ in range(3):
            before = broker.pid
            os.kill(before, signal.SIGKILL)
            await until(partial(_is_another, broker, before))
            await owned.is_ready()
            with Probe(owned.url) as probe:
                probe.publish("a", b"x")
    assert [each for each in owned.reports if each] == ["mosquitto ended with status -9"] * 3
    assert owned.reports[-1] == ""


async def test_keeps_what_is_retained_across_restarts(tmp_path: Path) -> None:
    owned = Owned(tmp_path / "own")
    async with owned.running():
        with Probe(owned.url) as probe:
            probe.publish("state", b"kept", retain=True)
    async with owned.running():
        with Probe(owned.url) as probe:
            probe.subscribe("state")
            assert probe.next() == ("state", b"kept")


async def test_with_a_password_it_refuses_everybody_else(tmp_path: Path) -> None:
    owned = Owned(tmp_path / "own", username="pi", password="gehe:im ü$")
    async with owned.running():
        with Probe(owned.url, username="pi", password="gehe:im ü$") as probe:
            probe.publish("a", b"x")
        for username, password in (("", ""), ("pi", "wrong"), ("root", "gehe:im ü$")):
            with pytest.raises(AssertionError, match=r"(?i)not authori"):
                Probe(owned.url, username=username, password=password).__enter__()
    assert stat.S_IMODE((tmp_path / "own" / "passwords").stat().st_mode) & 0o007 == 0
    assert "gehe" not in (tmp_path / "own" / "passwords").read_text()


async def test_a_restart_writes_no_configuration_unless_it_changed(tmp_path: Path) -> None:
    names = ("mosquitto.conf", "passwords")
    port = free_port()

    async def start(password: str) -> list[int]:
        async with Owned(tmp_path / "own", port=port, username="pi", password=password).running():
            with Probe(f"tcp://127.0.0.1:{port}", username="pi", password=password):
                pass
        return [(tmp_path / "own" / name).stat().st_ino for name in names]

    first = await start("one")
    assert await start("one") == first
    changed = await start("two")
    assert changed[0] == first[0]
    assert changed[1] != first[1]
    (tmp_path / "own" / "passwords").write_text("pi:$7$nonsense\n")
    await start("two")


async def test_listens_on_loopback_only(tmp_path: Path) -> None:
    owned = Owned(tmp_path / "own")
    port = f"{owned.broker.address.port:04X}"
    async with owned.running():
        rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    assert {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port}")} == {f"0100007F:{port}"}


@pytest.mark.root
@pytest.mark.parametrize("mask", [0o022, 0o077])
async def test_does_not_run_as_root(tmp_path: Path, request: pytest.FixtureRequest, mask: int) -> None:
    before = os.umask(mask)
    request.addfinalizer(lambda: os.umask(before))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    owned = Owned(closed / "own")
    async with owned.running() as broker:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{broker.pid}/status").read_text().splitlines())
        assert "0" not in fields["Uid"].split() + fields["Gid"].split() + fields["Groups"].split()
        with Probe(owned.url) as probe:
            probe.publish("state", b"x", retain=True)
    assert list((closed / "own" / "data").iterdir())  # it could write there


async def test_a_busy_port_is_said_and_taken_once_it_is_free(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as other:
        owned = Owned(tmp_path / "own", port=other.port)
        async with run(owned.broker.run()):
            await until(lambda: owned.reports)
            assert "Address already in use" in owned.reports[0]
            assert not owned.broker.ready.is_set()
            other.stop()
            await owned.is_ready()
    assert owned.reports[-1] == ""


async def test_no_mosquitto_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker_module, "_PLACES", str(tmp_path))
    reports: list[str] = []
    broker = Broker(parse_address("tcp://127.0.0.1:1"), folder=tmp_path / "own", report=reports.append, backoff=Backoff(0.01, 0.05))
    async with run(broker.run()):
        await until(lambda: len(reports) > 1)
    assert "apt install mosquitto" in reports[0]


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    owned = Owned(tmp_path / "file" / "own")
    async with run(owned.broker.run()):
        await until(lambda: owned.reports)
    assert "Not a directory" in owned.reports[0]


PARENT = """
import asyncio, sys
from pathlib import Path
from pinnace.core.eventbus.broker import Broker
from pinnace.core.eventbus.settings import parse_address

async def main():
    broker = Broker(parse_address(sys.argv[1]), folder=Path(sys.argv[2]), report=lambda problem: None)
    task = asyncio.create_task(broker.run())
    await broker.ready.wait()
    print(broker.pid, flush=True)
    await task

if sys.argv[3] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_dies_with_us_however_we_die(tmp_path: Path, loop: str) -> None:
    program()
    url = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", PARENT, url, str(tmp_path / "own"), loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as parent:
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        with Probe(url) as probe:  # a mosquitto that does not serve yet may overlook a signal
            probe.publish("state", b"kept", retain=True)
        parent.kill()
        await asyncio.to_thread(parent.wait)
    await until(lambda: not alive(pid))
    assert (tmp_path / "own" / "data" / "mosquitto.db").exists()


async def test_an_orphan_of_an_earlier_run_is_ended(tmp_path: Path) -> None:
    owned = Owned(tmp_path / "own")
    async with owned.running():
        pass
    with subprocess.Popen([program(), "-c", "mosquitto.conf"], cwd=tmp_path / "own", stderr=subprocess.DEVNULL) as orphan:
        (tmp_path / "own" / "pid").write_text(f"{orphan.pid}\n")
        await until(lambda: Path(f"/proc/{orphan.pid}/comm").read_text() == "mosquitto\n")  # the name comes late in an exec
        async with run(owned.broker.run()):
            async with asyncio.timeout(DEADLINE):
                await asyncio.to_thread(orphan.wait)
            await owned.is_ready()


async def test_a_strangers_process_is_let_live(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pid").write_text(f"{os.getpid()}\n")
    async with Owned(tmp_path / "own").running():
        pass
