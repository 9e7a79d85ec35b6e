"""The streaming client against servers that refuse, break off or send rubbish."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.pods.cri import streams
from pinnace.core.pods.cri.streams import CommandStream, PortStream, exit_code

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n"


@contextlib.asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[str]:
    """The address of a server of one connection; its reader is past the request's head."""

    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.clear()
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                await serve(reader, writer)
        finally:
            writer.close()
            ended.set()

    ended.set()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/exec/token"
        async with asyncio.timeout(20):
            await ended.wait()


async def run(url: str, *, stdin: bool = False) -> tuple[bytes, int]:
    async def address() -> tuple[str, bool]:
        return url, False

    said = b""
    async with asyncio.timeout(20):
        async with CommandStream(address, stdin=stdin, is_attach=False) as stream:
            async for _, data in stream.output():
                said += data
            return said, await stream.wait()


def data(number: int, content: bytes, *, is_last: bool = False) -> bytes:
    return struct.pack(">II", number, (1 if is_last else 0) << 24 | len(content)) + content


async def test_output_code_and_pings() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"9"}]}}'
        ping = struct.pack(">HHII", 0x8003, 6, 4, 2)
        writer.write(UPGRADED + ping + data(3, b"out") + data(5, b"err", is_last=True) + data(99, b"for nobody"))
        writer.write(data(3, b"", is_last=True) + data(1, status[:20]) + data(1, status[20:], is_last=True))
        seen = b""
        while ping not in seen:
            seen += await reader.read(4096)

    async with served(serve) as url:
        said, code = await run(url)
        assert sorted(said) == sorted(b"outerr")
        assert code == 9


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\nunable to upgrade", "refused SPDY/3.1 .*403 Forbidden: unable to upgrade"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "refused SPDY/3.1"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer"),
        (b"", "does not answer"),
        (b"x" * 100_000, "does not answer"),
    ],
)
async def test_server_that_does_not_upgrade(answer: bytes, words: str) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with served(serve) as url:
        with pytest.raises(RuntimeFailed, match=words):
            await run(url)


async def test_nobody_there() -> None:
    async with served(lambda _, __: asyncio.sleep(0)) as url:
        pass
    with pytest.raises(RuntimeFailed, match="does not answer"):
        await run(url)


async def test_tls_is_refused_with_advice() -> None:
    with pytest.raises(RuntimeFailed, match="switch TLS streaming off"):
        await run("https://127.0.0.1:1/exec/token")


async def test_connection_that_breaks_ends_output_and_fails_the_wait() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED + data(3, b"half"))

    async with served(serve) as url:
        with pytest.raises(RuntimeFailed, match="broke off"):
            await run(url)


async def test_stream_that_is_refused() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resets = b"".join(struct.pack(">HHIII", 0x8003, 3, 8, number, 3) for number in (1, 3, 5))
        writer.write(UPGRADED + resets)
        await reader.read()

    async with served(serve) as url:
        with pytest.raises(RuntimeFailed, match="broke off"):
            await run(url)


@pytest.mark.parametrize("seed", range(20))
async def test_rubbish_ends_soon_and_well(seed: int) -> None:
    source = random.Random(seed)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED + source.randbytes(source.randrange(4000)))

    async with served(serve) as url:
        with contextlib.suppress(RuntimeFailed):
            await run(url, stdin=True)


async def test_port_forward_error_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED + data(1, b"connection refused in the pod", is_last=True) + data(3, b"", is_last=True))
        await reader.read()

    async with served(serve) as url:

        async def address() -> str:
            return url

        async with PortStream(address, 80) as connection:
            with pytest.raises(RuntimeFailed, match="port 80: connection refused in the pod"):
                await connection.read()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b'{"metadata":{},"status":"Success"}', 0),
        (b'{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"137"}]}}', 137),
        (b'{"status":"Failure","reason":"InternalError","message":"error executing command in container: signal: killed"}', 137),
    ],
)
def test_exit_code_of_a_status(said: bytes, code: int) -> None:
    assert exit_code(said) == code


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b'{"status":"Failure","message":"no such program"}', "no such program"),
        (b"plain words", "plain words"),
        (b"", "broke off"),
        (b"[]", r"\[\]"),
        (b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"x"}]}}', "did not run"),
        (b'{"status":"Failure","details":[]}', "did not run"),
    ],
)
def test_status_that_has_no_code(said: bytes, words: str) -> None:
    with pytest.raises(RuntimeFailed, match=words):
        exit_code(said)


async def test_leaving_a_server_that_reads_nothing_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_LEAVE_SECONDS", 0.05)
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED)
        await left.wait()
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass

    async def address() -> str:
        return url

    async with served(serve) as url:
        async with PortStream(address, 80) as stream:
            writer = stream._writer
            assert writer is not None
            writer.write(bytes(1 << 25))  # more than the kernel takes
        async with asyncio.timeout(20):
            while writer.transport.get_write_buffer_size():
                await asyncio.sleep(0.01)
        left.set()
