"""Commands in containers, streams to them, and into a pod's network."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from contract.runtime.installations import Installation, Quirk
from contract.runtime.pods import DEADLINE, TestPod, until
from rig.processes import free_port

from pinnace.core.base.runtime import Namespaces, RuntimeFailed, Security, Stream


async def all_of(stream: Stream) -> tuple[bytes, bytes]:
    """Standard output and error to the end."""
    said = {1: b"", 2: b""}
    async for number, data in stream.output():
        said[number] += data
    return said[1], said[2]


async def said_until(stream: Stream, text: bytes) -> bytes:
    """What comes until a text has come."""
    said = b""
    async for _, data in stream.output():
        said += data
        if text in said:
            return said
    raise AssertionError(f"the stream ended after {said!r}")


async def test_exec_sync_gives_code_and_both_streams(pod: TestPod) -> None:
    container_id = await pod.start()
    result = await pod.runtime.exec_sync(container_id, ("/bin/sh", "-c", "echo out; echo err >&2; exit 3"), 20)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    result = await pod.runtime.exec_sync(container_id, ("true",), 20)
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"", b"")


async def test_exec_sync_by_signal_is_128_and_its_number(pod: TestPod) -> None:
    container_id = await pod.start()
    assert (await pod.runtime.exec_sync(container_id, ("/bin/sh", "-c", "kill -9 $$"), 20)).exit_code == 137


async def test_exec_sync_has_the_containers_user_environment_and_folder(pod: TestPod) -> None:
    security = Security(run_as_user=1000, run_as_group=1000)
    container_id = await pod.start(env=(("A", "b"),), working_dir="/tmp", security=security)
    assert await pod.exec(container_id, "echo $A $(pwd) $(id -u):$(id -g)") == "b /tmp 1000:1000\n"


async def test_exec_sync_that_takes_too_long_is_killed(pod: TestPod) -> None:
    container_id = await pod.start()
    with pytest.raises(TimeoutError):
        await pod.runtime.exec_sync(container_id, ("/bin/sh", "-c", "exec sleep 4242"), 1)

    async def is_gone() -> bool:
        return "sleep 4242" not in await pod.exec(container_id, "ps")

    await until(is_gone, what="the end of the command")


async def test_exec_sync_of_what_is_no_program(pod: TestPod) -> None:
    container_id = await pod.start()
    with pytest.raises(RuntimeFailed, match="/no/such/program"):
        await pod.runtime.exec_sync(container_id, ("/no/such/program",), 20)


async def test_exec_sync_in_what_does_not_run(pod: TestPod) -> None:
    container = await pod.run(("true",))
    for each in (container.id, "0" * 64):
        with pytest.raises(RuntimeFailed):
            await pod.runtime.exec_sync(each, ("true",), 20)


async def test_exec_sync_with_much_output(pod: TestPod) -> None:
    container_id = await pod.start()
    result = await pod.runtime.exec_sync(container_id, ("/bin/sh", "-c", "head -c 3000000 /dev/zero"), 60)
    assert result.stdout == bytes(3_000_000)


async def test_many_commands_at_once(pod: TestPod) -> None:
    container_id = await pod.start()
    said = await asyncio.gather(*(pod.exec(container_id, f"echo {number}") for number in range(6)))
    assert said == [f"{number}\n" for number in range(6)]


@pytest.mark.parametrize("user", [None, 1000])
async def test_no_stream_is_the_hosts_dev_null(pod: TestPod, installation: Installation, user: int | None) -> None:
    """Who has it as a standard stream may change its owner and mode: the host's, for everybody."""
    null = Path("/dev/null").stat()
    text, security = "for each in 0 1 2; do stat -L -c %d /proc/self/fd/$each; done", Security(run_as_user=user)
    lines = (await pod.output(text, security=security)).split()
    container_id = await pod.start(security=security)
    lines += (await pod.exec(container_id, text)).split()
    async with pod.runtime.exec(container_id, ("/bin/sh", "-c", text), tty=True, stdin=False) as stream:
        lines += (await all_of(stream))[0].decode().split()
    of_host = [each == str(null.st_dev) for each in lines]
    of_exec = Quirk.SHARES_NULL in installation.quirks
    assert of_host == [False, False, False, of_exec, False, False, False, False, False]
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (null.st_mode, null.st_uid, null.st_gid)


async def test_exec_streams_both_outputs_and_the_code(pod: TestPod) -> None:
    container_id = await pod.start()
    command = ("/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    async with pod.runtime.exec(container_id, command, tty=False, stdin=False) as stream:
        assert await all_of(stream) == (b"out\n", b"err\n")
        assert await stream.wait() == 3


async def test_exec_stdin_to_its_end(pod: TestPod) -> None:
    container_id = await pod.start()
    text = b"line\n" * 100_000
    async with pod.runtime.exec(container_id, ("/bin/sh", "-c", "wc -c; echo rest"), tty=False, stdin=True) as stream:
        await stream.write(text)
        await stream.close_stdin()
        assert await all_of(stream) == (f"{len(text)}\nrest\n".encode(), b"")
        assert await stream.wait() == 0


async def test_exec_passes_any_bytes_both_ways(pod: TestPod) -> None:
    container_id = await pod.start()
    text = bytes(range(256)) * 3000
    async with pod.runtime.exec(container_id, ("cat",), tty=False, stdin=True) as stream:

        async def send() -> None:
            await stream.write(text)
            await stream.close_stdin()

        sending = asyncio.create_task(send())
        assert (await all_of(stream))[0] == text
        await sending
        assert await stream.wait() == 0


async def test_exec_answers_as_one_writes(pod: TestPod) -> None:
    container_id = await pod.start()
    async with pod.runtime.exec(container_id, ("cat",), tty=False, stdin=True) as stream:
        for text in (b"one\n", b"two\n"):
            await stream.write(text)
            assert await said_until(stream, b"\n") == text


async def test_exec_with_a_terminal(pod: TestPod) -> None:
    container_id = await pod.start()
    async with pod.runtime.exec(container_id, ("/bin/sh",), tty=True, stdin=True) as stream:
        await stream.resize(77, 33)
        await stream.write(b"test -t 0 && echo is_a_$((1))_terminal; echo bad >&2\n")
        said = await said_until(stream, b"is_a_1_terminal")
        assert b"echo" in said, "a terminal echoes"

        async def has_size() -> bool:
            await stream.write(b"echo $(stty size) is_the_$((0))_size\n")
            return b"33 77 is_the_0_size" in await said_until(stream, b"is_the_0_size")

        await until(has_size, what="the new size")
        await stream.resize(100, 50)

        async def has_new_size() -> bool:
            await stream.write(b"echo $(stty size) is_the_$((0))_size\n")
            return b"50 100 is_the_0_size" in await said_until(stream, b"is_the_0_size")

        await until(has_new_size, what="the newer size")
        await stream.write(b"exit 4\n")
        await all_of(stream)
        assert await stream.wait() == 4


async def test_exec_of_what_is_no_program(pod: TestPod, installation: Installation) -> None:
    container_id = await pod.start()

    async def run() -> tuple[bytes, int]:
        async with pod.runtime.exec(container_id, ("/no/such/program",), tty=False, stdin=False) as stream:
            out, err = await all_of(stream)
            return out + err, await stream.wait()

    if Quirk.EXEC_FAILS_INSIDE in installation.quirks:
        said, code = await run()
        assert b"/no/such/program" in said
        assert code == 255
    else:
        with pytest.raises(RuntimeFailed, match="/no/such/program"):
            await run()


async def test_exec_in_what_is_not_there(pod: TestPod) -> None:
    async def run() -> None:
        async with pod.runtime.exec("0" * 64, ("true",), tty=False, stdin=False) as stream:
            await all_of(stream)
            await stream.wait()

    with pytest.raises(RuntimeFailed):
        await run()


async def test_leaving_an_exec_ends_it(pod: TestPod, installation: Installation) -> None:
    container_id = await pod.start()
    command = ("/bin/sh", "-c", "echo up; while :; do echo on; sleep 0.1; done; : 4242")
    async with pod.runtime.exec(container_id, command, tty=False, stdin=True) as stream:
        await said_until(stream, b"up")

    async def is_gone() -> bool:
        return "4242" not in await pod.exec(container_id, "ps")

    if Quirk.KEEPS_EXEC not in installation.quirks:
        await until(is_gone, what="the end of the command")


async def test_writing_after_the_end_is_nothing(pod: TestPod) -> None:
    container_id = await pod.start()
    async with pod.runtime.exec(container_id, ("true",), tty=False, stdin=True) as stream:
        await all_of(stream)
        assert await stream.wait() == 0
        await stream.write(b"late")
        await stream.close_stdin()
        await stream.resize(1, 1)


async def test_container_that_ends_ends_its_execs(pod: TestPod) -> None:
    container_id = await pod.start()
    async with pod.runtime.exec(container_id, ("/bin/sh", "-c", "echo up; sleep 1000"), tty=False, stdin=False) as stream:
        await said_until(stream, b"up")
        await pod.runtime.stop_container(container_id, 0)
        async with asyncio.timeout(DEADLINE):
            await all_of(stream)
            assert await stream.wait() == 137


async def test_attach_hears_from_now_on_and_ends_with_the_container(pod: TestPod) -> None:
    text = "echo before; while ! test -e /tmp/go; do sleep 0.02; done; echo after; echo bad >&2; sleep 0.3; exit 5"
    container_id = await pod.shell(text)
    await pod.until_said(container_id, "before")
    async with pod.runtime.attach(container_id, stdin=False) as stream:
        await pod.exec(container_id, "sleep 0.3; touch /tmp/go")
        out, err = await all_of(stream)
        assert (out, err) == (b"after\n", b"bad\n")
        assert await stream.wait() == 0
    assert (await pod.ended(container_id)).exit_code == 5
    await pod.until_said(container_id, "after")


async def test_attach_writes_to_stdin(pod: TestPod) -> None:
    container_id = await pod.shell("while read line; do echo got $line; done; echo over", stdin=True, stdin_once=True)
    async with pod.runtime.attach(container_id, stdin=True) as stream:
        await stream.write(b"one\n")
        assert b"got one" in await said_until(stream, b"got one\n")
        await stream.write(b"two\n")
        await stream.close_stdin()
        assert (await all_of(stream))[0].endswith(b"got two\nover\n")
    assert (await pod.ended(container_id)).exit_code == 0


async def test_attach_to_a_terminal(pod: TestPod) -> None:
    container_id = await pod.start(("/bin/sh",), stdin=True, tty=True)
    async with pod.runtime.attach(container_id, stdin=True) as stream:
        await stream.resize(88, 22)

        async def has_size() -> bool:
            await stream.write(b"echo $(stty size) is_the_$((0))_size\n")
            return b"22 88 is_the_0_size" in await said_until(stream, b"is_the_0_size")

        await until(has_size, what="the size")
    assert (await pod.runtime.container(container_id)).finished_at == 0.0, "leaving an attach ends nothing"


async def test_two_attach_at_once(pod: TestPod) -> None:
    container_id = await pod.shell("while ! test -e /tmp/go; do sleep 0.02; done; echo heard; sleep 0.3")
    async with pod.runtime.attach(container_id, stdin=False) as one, pod.runtime.attach(container_id, stdin=False) as two:
        await pod.exec(container_id, "sleep 0.3; touch /tmp/go")
        assert [said for said, _ in await asyncio.gather(all_of(one), all_of(two))] == [b"heard\n", b"heard\n"]


@pytest.mark.parametrize("is_hosts", [False, True])
async def test_port_forward_carries_both_ways(pod: TestPod, is_hosts: bool) -> None:
    port = free_port() if is_hosts else 8080
    await pod.sandbox(namespaces=Namespaces(host_network=is_hosts))
    container_id = await pod.shell(f"exec nc -ll -p {port} -e cat")
    await until_listens(pod, container_id, port)
    text = bytes(range(256)) * 2000
    async with pod.runtime.port_forward(pod.sandbox_id, port) as connection:

        async def send() -> None:
            await connection.write(text)
            await connection.close_write()

        sending = asyncio.create_task(send())
        said = b""
        while data := await connection.read():
            said += data
        await sending
        assert said == text


async def test_port_forwards_are_apart(pod: TestPod) -> None:
    await pod.sandbox(namespaces=Namespaces())
    container_id = await pod.shell("exec nc -ll -p 8080 -e cat")
    await until_listens(pod, container_id, 8080)
    async with pod.runtime.port_forward(pod.sandbox_id, 8080) as one, pod.runtime.port_forward(pod.sandbox_id, 8080) as two:
        await one.write(b"one")
        await two.write(b"two")
        assert (await one.read(), await two.read()) == (b"one", b"two")
        await one.write(b"again")
        assert await one.read(2) == b"ag"
        assert await one.read() == b"ain"


async def test_port_forward_to_where_nobody_listens(pod: TestPod) -> None:
    await pod.sandbox(namespaces=Namespaces())

    async def talk() -> None:
        async with pod.runtime.port_forward(pod.sandbox_id, 9) as connection:
            await connection.write(b"anybody?")
            assert await connection.read() == b""

    with pytest.raises(RuntimeFailed):
        await talk()


async def until_listens(pod: TestPod, container_id: str, port: int) -> None:
    async def listens() -> bool:
        return f":{port:04X} " in await pod.exec(container_id, "cat /proc/net/tcp /proc/net/tcp6 | grep ' 0A ' || true")

    await until(listens, what=f"a listener at {port}")
