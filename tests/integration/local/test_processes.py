"""Children, their record and their end, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnace.cloud.local import record as records
from pinnace.cloud.local.children import Child, ChildFailed
from pinnace.cloud.local.record import Process, Record, start_time
from pinnace.core.base.errors import PinnaceError

READY = "import os, sys, time; os.write(int(sys.argv[2]), b'ready'); print('up', flush=True); time.sleep(600)"
STUBBORN = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_a_child_is_ready_when_it_says_so_and_ends_when_told(tmp_path: Path) -> None:
    child = Child("sleeper", python(READY), tmp_path / "log")
    await child.start()
    assert child.identity is not None
    assert child.identity.is_alive
    await child.stop()
    assert not child.identity.is_alive


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("print('no luck'); raise SystemExit(3)", "ended with code 3"),
        ("import os; print('no luck', flush=True); os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
async def test_a_child_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path, code: str, how: str) -> None:
    log = tmp_path / "log"
    log.write_text("an earlier run\n")
    with pytest.raises(ChildFailed) as raised:
        await Child("sleeper", python(code), log).start()
    assert "an earlier run" not in str(raised.value)
    assert str(raised.value).startswith("sleeper ")
    for each in (how, str(log), "no luck"):
        assert each in str(raised.value)


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="sleeper: /no/such cannot be started: No such file"):
        await Child("sleeper", ["/no/such"], tmp_path / "log").start()


async def test_an_end_that_nobody_asked_for_is_noticed(tmp_path: Path) -> None:
    child = Child("sleeper", python(READY), tmp_path / "log")
    await child.start()
    assert child.identity is not None
    os.kill(child.identity.pid, signal.SIGKILL)
    with pytest.raises(ChildFailed, match="sleeper was killed by SIGKILL"):
        await child.failed()


def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """The parent is killed as nothing can be caught; its child must not stay."""
    script = (
        "import asyncio, sys, time\nfrom pathlib import Path\nfrom pinnace.cloud.local.children import Child\n"
        f"child = Child('sleeper', [sys.executable, '-c', {READY!r}], Path({str(tmp_path / 'log')!r}))\n"
        "async def main():\n    await child.start()\n    print(child.identity.pid, child.identity.started, flush=True)\n"
        "    await asyncio.sleep(600)\nasyncio.run(main())\n"
    )
    parent = subprocess.Popen(python(script), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, started = map(int, parent.stdout.readline().split())
    child = Process("sleeper", pid, started)
    assert child.is_alive
    parent.kill()
    parent.communicate()
    until(lambda: not child.is_alive)


def test_end_takes_the_owner_first_and_the_stubborn_by_force() -> None:
    with subprocess.Popen(python(STUBBORN), stdout=subprocess.PIPE) as stubborn, subprocess.Popen(["sleep", "600"]) as owner:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        record = Record(Process("up", owner.pid, start_time(owner.pid) or 0))
        record.children.append(Process("stubborn", stubborn.pid, start_time(stubborn.pid) or 0))
        assert records.end(record, seconds=0.2) == []
        assert (owner.wait(20), stubborn.wait(20)) == (-signal.SIGTERM, -signal.SIGKILL)


def test_a_stranger_with_the_same_process_id_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        real = start_time(stranger.pid)
        assert real is not None
        record = Record(Process("up", stranger.pid, real - 1))
        assert record.alive == []
        assert records.end(record, seconds=0.05) == []
        assert stranger.poll() is None
        stranger.kill()


def test_a_record_survives_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "running.json"
    assert records.read(path) is None
    written = Record(Process("up", 1, 2), [Process("edge", 3, 4, "/log")], {"ports": {"mqtt": 1883}})
    written.write(path)
    assert records.read(path) == written
    for garbage in (b"", b"[]", b'{"owner": {}}', b'{"owner": {"name": 1}, "children": 2, "facts": 3}'):
        path.write_bytes(garbage)
        with pytest.raises(PinnaceError, match=r"running\.json: cannot be read"):
            records.read(path)


async def test_ready_without_words_is_asked_for(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    child = Child(
        "toucher",
        python(f"open({str(flag)!r}, 'w'); import time; time.sleep(600)"),
        tmp_path / "log",
        says_ready=False,
        is_ready=flag.exists,
    )
    await child.start()
    assert await asyncio.to_thread(flag.exists)
    await child.stop()
