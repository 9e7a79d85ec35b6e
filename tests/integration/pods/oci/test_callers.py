"""A command whose caller is gone is ended, also when it does not read what its caller has sent: on the whole way from kubectl, and through
the control socket."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, until
from rig.oci import OciHome
from rig.processes import pinnace
from rig.streams import Way, way

from pinnace.core.base.aio import children
from pinnace.core.pods.oci.runtime import OciRuntime
from pinnace.core.stream import remote

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.kubectl]


@pytest.fixture
async def made(pod: TestPod, runtime: OciRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Way]:
    """The way to a pod `web` whose container `main` sleeps; callers are asked for a sign of life soon."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    monkeypatch.setattr(remote, "STUCK_SECONDS", 0.2)
    async with way(tmp_path, runtime) as opened:
        await opened.web(pod, "exec sleep 1000")
        yield opened


Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture(params=["tunnel", "socket"])
def start(request: pytest.FixtureRequest, made: Way, tmp_path: Path) -> Start:
    """`start(*arguments, stdin=)`: exec in the pod, by kubectl or by the command on the node."""
    if request.param == "tunnel":
        return lambda *arguments, stdin: made.start("exec", *arguments, stdin=stdin)
    command = pinnace("exec", "--socket", str(tmp_path / "c.sock"))
    return lambda *arguments, stdin: asyncio.create_subprocess_exec(*command, *arguments, stdin=stdin, stdout=PIPE, stderr=PIPE)


async def test_a_command_that_reads_no_input_ends_with_its_caller(start: Start, home: OciHome, tmp_path: Path) -> None:
    running = home.settings.run_dir / "oci/exec"
    with (tmp_path / "zeros").open("w+b") as zeros:
        zeros.truncate(1 << 30)
        caller = await start("-i", "web", "--", "sleep", "666", stdin=zeros.fileno())
        try:
            await until(lambda: is_used(running), what="the command")
            await until(lambda: has_stopped(zeros.fileno()), what="input that nobody takes any more")
        finally:
            await children.kill(caller)
    await until(lambda: is_used(running, by=0), what="the end of the command")


async def test_a_command_that_reads_its_input_late_gets_it_all(start: Start, tmp_path: Path) -> None:
    with (tmp_path / "zeros").open("w+b") as zeros:
        zeros.truncate(3_000_000)
        caller = await start("-i", "web", "--", "sh", "-c", "sleep 1; wc -c; exit 7", stdin=zeros.fileno())
        async with asyncio.timeout(60):
            said, error = await caller.communicate()
    assert (said, caller.returncode) == (b"3000000\n", 7), error


async def is_used(folder: Path, by: int = 1) -> bool:
    return len(list(folder.iterdir())) == by


async def has_stopped(fd: int) -> bool:
    """Whether the process that shares this file reads it no further."""
    before = os.lseek(fd, 0, os.SEEK_CUR)
    await asyncio.sleep(0.5)
    return 0 < before == os.lseek(fd, 0, os.SEEK_CUR)
