"""The bad line itself: it must cut, stall and corrupt exactly where it was told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from fakes.clock import settle
from fakes.cutproxy import CutProxy, Plan


class Echo:
    """A server that sends everything back and keeps what it got."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                self.got += data
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    made.server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made
    made.server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[CutProxy]:
    assert echo.server is not None
    async with CutProxy("127.0.0.1", echo.server.sockets[0].getsockname()[1]) as made:
        yield made


async def exchanged(proxy: CutProxy, data: bytes, *, is_all: bool = False) -> bytes:
    """What comes back for `data` before the connection ends, or before all of it is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    back = bytearray()
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            while (is_all is False or len(back) < len(data)) and (chunk := await reader.read(4096)):
                back += chunk
    except OSError:
        pass
    finally:
        writer.close()
    return bytes(back)


async def until_got(echo: Echo, count: int) -> None:
    async with asyncio.timeout(10):
        while len(echo.got) < count:
            await asyncio.sleep(0.002)


async def test_passes_everything_without_a_plan(proxy: CutProxy) -> None:
    data = bytes(range(256)) * 1000
    assert await exchanged(proxy, data, is_all=True) == data
    assert (proxy.up, proxy.down, proxy.cuts) == (len(data), len(data), 0)


@pytest.mark.parametrize("at", [1, 100, 5000])
async def test_cuts_what_goes_up_after_so_many_bytes(echo: Echo, proxy: CutProxy, at: int) -> None:
    proxy.plan(Plan(cut_up=at, reset=False))
    await exchanged(proxy, b"x" * 10_000)
    await until_got(echo, at)
    assert len(echo.got) == at
    assert proxy.cuts == 1


async def test_a_reset_lets_no_more_through_than_a_close(echo: Echo, proxy: CutProxy) -> None:
    """It may swallow what was on its way."""
    proxy.plan(Plan(cut_up=5000))
    await exchanged(proxy, b"x" * 10_000)
    await until_got(echo, 1)
    await settle()
    assert len(echo.got) <= 5000
    assert (proxy.up, proxy.cuts) == (5000, 1)


@pytest.mark.parametrize("at", [1, 100, 5000])
async def test_cuts_what_comes_down_after_so_many_bytes(proxy: CutProxy, at: int) -> None:
    proxy.plan(Plan(cut_down=at, reset=False))
    assert len(await exchanged(proxy, b"x" * 10_000)) == at


async def test_changes_one_byte(echo: Echo, proxy: CutProxy) -> None:
    proxy.plan(Plan(corrupt_up=700))
    await exchanged(proxy, b"x" * 1000, is_all=True)
    assert [position for position, byte in enumerate(echo.got) if byte != ord("x")] == [700]


async def test_stalls_and_stays_open(echo: Echo, proxy: CutProxy) -> None:
    proxy.plan(Plan(stall_up=600))
    task = asyncio.create_task(exchanged(proxy, b"x" * 1000))
    await until_got(echo, 600)
    await settle()
    assert len(echo.got) == 600
    assert not task.done()
    await proxy.cut()
    await task


async def test_a_plan_is_for_one_connection_and_refusing_for_all(proxy: CutProxy) -> None:
    proxy.plan(Plan(refuse=True))
    assert await exchanged(proxy, b"abc") == b""
    assert await exchanged(proxy, b"abc", is_all=True) == b"abc"
    proxy.is_refusing = True
    assert await exchanged(proxy, b"abc") == b""


@pytest.mark.parametrize("turns", range(8))
async def test_who_is_accepted_as_it_ends_is_closed(turns: int) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as target:
        async with CutProxy("127.0.0.1", target.sockets[0].getsockname()[1]) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            for _ in range(turns):
                await asyncio.sleep(0)
        async with asyncio.timeout(20):
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
        writer.close()
