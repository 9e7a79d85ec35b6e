"""Logs, exec and attach where the built-in runtime has rules of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, log_lines, until
from rig.oci import OciHome

from pinnace.core.base.runtime import RuntimeFailed, Stream
from pinnace.core.pods.oci.runtime import OciRuntime

pytestmark = [pytest.mark.containers, pytest.mark.root]


async def said(stream: AsyncIterator[tuple[int, bytes]], text: bytes) -> bytes:
    """Read until `text` has come."""
    found = b""
    async with asyncio.timeout(30):
        async for _, data in stream:
            found += data
            if text in found:
                return found
    raise AssertionError(f"{text!r} did not come, but {found[-500:]!r}")


async def test_long_and_unfinished_lines_are_partial(pod: TestPod) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short; printf end >&2"
    container = await pod.run(("/bin/sh", "-c", script))
    lines = log_lines(container.log_path)
    out = [line for line in lines if line.stream == "stdout"]
    assert [(line.is_partial, len(line.text)) for line in out] == [(True, 16384), (True, 16384), (False, 40000 - 32768), (False, 5)]
    assert [(line.is_partial, line.text) for line in lines if line.stream == "stderr"] == [(True, "end")]


async def test_log_goes_on_in_a_new_file(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell("n=0; while [ $n -lt 2000 ]; do echo line $n; n=$((n+1)); [ $((n%50)) = 0 ] && sleep 0.01; done")
    log = (await runtime.container(container_id)).log_path
    await until(lambda: _exists(log), what="the first line")
    for number in range(5):
        log.rename(log.with_suffix(f".{number}"))
        await runtime.reopen_log(container_id)
        assert log.exists()
    await pod.ended(container_id)
    paths = [log.with_suffix(f".{number}") for number in range(5)] + [log]
    assert [line.text for path in paths for line in log_lines(path)] == [f"line {n}" for n in range(2000)]


async def _exists(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


async def test_full_disk_drops_lines_and_says_so_later(pod: TestPod, runtime: OciRuntime, tmp_path: Path) -> None:
    container_id = await pod.shell("read a; head -c 300000 /dev/zero | tr '\\0' x | fold -w 999; echo; read b; echo late", stdin=True)
    log = (await runtime.container(container_id)).log_path
    log.unlink()
    log.symlink_to("/dev/full")
    await runtime.reopen_log(container_id)
    async with runtime.attach(container_id, stdin=True) as stream:
        await stream.write(b"go\n")
        output = stream.output()
        await said(output, b"x" * 300)
        log.unlink()
        await runtime.reopen_log(container_id)
        await stream.write(b"go\n")
        await said(output, b"late")
    await pod.ended(container_id)
    lines = log_lines(log)
    assert lines[-1].text == "late"
    assert any(line.stream == "stderr" and "could not be written to this log" in line.text for line in lines)


async def test_slow_reader_holds_up_neither_container_nor_log(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell("read go; head -c 8000000 /dev/zero | tr '\\0' y | fold -w 99; echo done; read stay", stdin=True)
    async with runtime.attach(container_id, stdin=True) as slow:
        await slow.write(b"go\n")
        log = (await runtime.container(container_id)).log_path
        await until(lambda: _ends_with(log, b"done\n"), what="the whole log")
        found = await said(slow.output(), b"left out")
        assert found.startswith(b"y" * 99)
        await slow.write(b"end\n")
    container = await pod.ended(container_id)
    assert sum(line.text.count("y") for line in log_lines(log)) == 8000000
    assert container.exit_code == 0


async def _ends_with(path: Path, text: bytes) -> bool:
    return path.exists() and path.read_bytes()[-len(text) :] == text


async def test_two_attached_see_the_same_and_the_end(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell("read a; echo got $a; echo err >&2", stdin=True)
    async with runtime.attach(container_id, stdin=True) as one, runtime.attach(container_id, stdin=False) as two:
        await until(lambda: _is_attached(runtime, container_id))
        await one.write(b"it\n")
        seen = [[each async for each in stream.output()] for stream in (one, two)]
        assert await one.wait() == 0
    for each in seen:
        assert b"".join(data for number, data in each if number == 1) == b"got it\n"
        assert b"".join(data for number, data in each if number == 2) == b"err\n"


async def _is_attached(runtime: OciRuntime, container_id: str) -> bool:
    await runtime.reopen_log(container_id)  # answered in order: those who came before are in
    return True


async def test_terminal_of_a_container(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell("read a; stty size; echo got $a; [ -t 0 ] && [ -t 1 ] && echo terminal", stdin=True, tty=True)
    async with runtime.attach(container_id, stdin=True) as stream:
        await stream.resize(123, 45)
        await stream.write(b"it\r")
        output = b"".join([data async for _, data in stream.output()])
    assert b"45 123\r\n" in output
    assert b"got it\r\nterminal\r\n" in output
    assert "got it" in pod.said(await pod.ended(container_id))


async def test_stdin_once_ends_with_the_first_who_attached(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell("cat; echo over", stdin=True, stdin_once=True)
    async with runtime.attach(container_id, stdin=False):
        await until(lambda: _is_attached(runtime, container_id))
    async with runtime.attach(container_id, stdin=True) as stream:
        await stream.write(b"some\n")
        await said(stream.output(), b"some")
    assert pod.said(await pod.ended(container_id)) == "some\nover\n"


async def test_stdin_stays_open_for_the_next(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell("while read a; do echo got $a; done; echo over", stdin=True)
    for text in (b"one", b"two"):
        async with runtime.attach(container_id, stdin=True) as stream:
            await stream.write(text + b"\n")
            await said(stream.output(), b"got " + text)
    async with runtime.attach(container_id, stdin=True) as stream:
        await stream.close_stdin()
        await said(stream.output(), b"over")


async def test_who_leaves_while_nobody_takes_the_input_gives_the_place_free(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell("sleep 1000", stdin=True)
    async with asyncio.timeout(60):
        await asyncio.gather(*(_type_in_vain(runtime.attach(container_id, stdin=True)) for _ in range(12)))
        await asyncio.gather(*(_type_in_vain(runtime.attach(container_id, stdin=True)) for _ in range(12)))
        await until(lambda: _is_attached(runtime, container_id), what="the shim, which has places for 16")


async def test_however_many_attach_the_container_hears_its_signals(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.start(("/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"))
    async with contextlib.AsyncExitStack() as crowd:
        for _ in range(14):
            await crowd.enter_async_context(runtime.attach(container_id, stdin=False))
        async with runtime.attach(container_id, stdin=False):
            for _ in range(3):
                with pytest.raises(RuntimeFailed, match="attached to the container already; end one of them"):
                    await crowd.enter_async_context(runtime.attach(container_id, stdin=False))
            await runtime.reopen_log(container_id)
        await crowd.enter_async_context(runtime.attach(container_id, stdin=False))
        await runtime.stop_container(container_id, 20)
        assert (await runtime.container(container_id)).exit_code == 3


async def test_an_exec_whose_input_nobody_takes_ends_with_its_caller(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.start()
    async with asyncio.timeout(60):
        await _type_in_vain(runtime.exec(container_id, ("sleep", "666"), tty=False, stdin=True))
    left = await runtime.exec_sync(container_id, ("/bin/sh", "-c", "ps | grep -c '[s]leep 666'"), 30)
    assert left.stdout == b"0\n"


async def _type_in_vain(stream: Stream) -> None:
    """Until nothing more is taken, then leave."""
    async with stream:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await stream.write(b"x" * (256 << 10))


async def test_attach_to_what_has_ended_is_at_its_end(pod: TestPod, runtime: OciRuntime) -> None:
    container = await pod.run(("true",))
    async with runtime.attach(container.id, stdin=False) as stream:
        assert [each async for each in stream.output()] == []
        assert await stream.wait() == 0


async def test_exec_in_a_terminal_that_changes_size(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.start()
    async with runtime.exec(container_id, ("/bin/sh",), tty=True, stdin=True) as stream:
        output = stream.output()
        for columns, rows in ((80, 24), (200, 50)):
            await stream.resize(columns, rows)
            await stream.write(b"stty size\r")
            await said(output, b"%d %d\r\n" % (rows, columns))
        await stream.write(b"exit 3\r")
        async for _ in output:
            pass
        assert await stream.wait() == 3


SLOW = """#!/bin/sh
case "$*" in
    *" exec "*)
        (sleep 0.1 & echo $! >{told})
        while [ -e /proc/$(cat {told}) ]; do sleep 0.01; done ;;
esac
exec crun "$@"
"""
"""Goes on when its orphan is reaped, as a shim does while it waits for what it is to pass on."""


async def test_exec_in_a_terminal_that_takes_its_time_to_come(home: OciHome, tmp_path: Path, cgroup: str) -> None:
    crun = tmp_path / "crun"
    crun.write_text(SLOW.format(told=tmp_path / "told"))
    crun.chmod(0o755)
    settings = replace(home.settings, crun=str(crun), root_dir=home.folder / "slow/root", run_dir=home.folder / "slow/run")
    runtime = OciRuntime(settings, home.images, bridge=home.bridge)
    await runtime.start()
    pod = TestPod(runtime, tmp_path, cgroup)
    container_id = await pod.start()
    async with runtime.exec(container_id, ("/bin/sh", "-c", "read a; stty size; echo got $a; exit 3"), tty=True, stdin=True) as stream:
        await stream.resize(123, 45)
        await stream.write(b"it\r")
        async with asyncio.timeout(60):
            output = b"".join([data async for _, data in stream.output()])
        assert await stream.wait() == 3
    assert b"45 123\r\n" in output
    assert b"got it\r\n" in output
    await pod.remove()
    await runtime.close()


async def test_exec_takes_input_and_its_end(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.start()
    sent = b"0123456789abcdef" * 65536
    async with runtime.exec(container_id, ("sha1sum",), tty=False, stdin=True) as stream:
        await stream.write(sent)
        await stream.close_stdin()
        output = b"".join([data async for _, data in stream.output()])
        assert await stream.wait() == 0
    import hashlib

    assert output.split()[0].decode() == hashlib.sha1(sent).hexdigest()


async def test_exec_that_takes_too_long_is_killed_with_all_it_started(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.start()
    with pytest.raises(TimeoutError):
        await runtime.exec_sync(container_id, ("/bin/sh", "-c", "sleep 777 & (sleep 777 & sleep 777); wait"), 1)
    left = await runtime.exec_sync(container_id, ("/bin/sh", "-c", "ps | grep -c '[s]leep 777'"), 30)
    assert left.stdout == b"0\n"
    assert list((home.settings.run_dir / "oci/exec").iterdir()) == []


async def test_leaving_an_exec_ends_it(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.start()
    for tty in (False, True):
        async with runtime.exec(container_id, ("/bin/sh", "-c", "echo up; sleep 888"), tty=tty, stdin=False) as stream:
            await said(stream.output(), b"up")
    left = await runtime.exec_sync(container_id, ("/bin/sh", "-c", "ps | grep -c '[s]leep 888'"), 30)
    assert left.stdout == b"0\n"


async def test_exec_of_what_is_no_program(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.start()
    with pytest.raises(RuntimeFailed, match="no/such"):
        await runtime.exec_sync(container_id, ("/no/such",), 30)
    async with runtime.exec(container_id, ("/no/such",), tty=True, stdin=True) as stream:
        with pytest.raises(RuntimeFailed, match="no/such"):
            await stream.wait()
    assert (await runtime.exec_sync(container_id, ("/bin/sh", "-c", "echo a; echo b >&2; exit 5"), 30)).exit_code == 5


async def test_exec_that_says_much_is_cut_at_its_bound(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.start()
    result = await runtime.exec_sync(container_id, ("head", "-c", "20000000", "/dev/zero"), 60)
    assert (result.exit_code, len(result.stdout)) == (0, 16 << 20)
