"""Children that somebody waits for, with real ones."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from rig.processes import children_of

from pinnace.core.base.aio import children


async def shell(text: str) -> Process:
    return await asyncio.create_subprocess_exec("/bin/sh", "-c", text, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def begun(path: Path) -> None:
    async with asyncio.timeout(30):
        await asyncio.sleep(0)
        while not path.exists():
            await asyncio.sleep(0.01)


async def test_what_a_child_says() -> None:
    assert await children.hear(await shell("echo out; echo err >&2")) == (b"out\n", b"err\n")


async def test_what_a_child_is_given() -> None:
    child = await children.start("sha1sum", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    said = await children.hear(child, bytes(1 << 20))
    assert said == (b"3b71f43ff30f4b15b5cd85dd9e95ebc7e84eb5a3  -\n", b"")


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_child_that_reads_nothing_of_what_it_is_given_is_heard_all_the_same(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def said() -> tuple[bytes, bytes]:
        child = await children.start("/bin/sh", "-c", "exec <&-; echo out; echo err >&2; exit 3", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert child.stdout is not None
        first = await child.stdout.readexactly(1)
        out, err = await children.hear(child, bytes(1 << 20))
        assert child.returncode == 3
        return first + out, err

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(said()) == (b"out\n", b"err\n")


async def test_a_child_that_takes_too_long_is_killed() -> None:
    child = await shell("exec sleep 1000")
    with pytest.raises(TimeoutError):
        await children.hear(child, seconds=0.1)
    assert not lives(child.pid)


async def test_a_child_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    """Also when something that it started holds its output."""
    child = await shell(f"sleep 1000 & echo $! >{tmp_path}/pid; touch {tmp_path}/begun; wait")
    hearing = asyncio.create_task(children.hear(child))
    await begun(tmp_path / "begun")
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    assert not lives(child.pid)
    other = await asyncio.create_subprocess_exec("kill", (tmp_path / "pid").read_text().strip())
    assert await other.wait() == 0


async def test_a_child_that_began_while_its_caller_was_cancelled_is_killed(tmp_path: Path) -> None:
    for _ in range(20):
        before = children_of()
        starting = asyncio.create_task(children.start("/bin/sleep", "1000", stdin=DEVNULL))
        while not children_of() - before and not starting.done():
            await asyncio.sleep(0)
        starting.cancel()
        try:
            await children.kill(await starting)
        except asyncio.CancelledError:
            assert not [pid for pid in children_of() - before if lives(pid)]


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await children.start(tmp_path / "none")
