"""The cable between edge and cloud: forwards, can be cut and mended."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.cloud.local.ports import LOOPBACK, Chooser, free_port, is_own
from pinnace.cloud.local.relay import Relay


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_a_relay_forwards_until_it_is_cut_and_again_when_mended() -> None:
    async with asyncio.timeout(30), await asyncio.start_server(echo, LOOPBACK, 0) as server:
        relay = Relay(free_port(), server.sockets[0].getsockname()[1])
        await relay.mend()
        for _ in range(3):
            reader, writer = await asyncio.open_connection(LOOPBACK, relay.port)
            payload = bytes(range(256)) * 4096
            writer.write(payload)
            assert await reader.readexactly(len(payload)) == payload
            await relay.used()
            assert relay.lines == 1
            assert await relay.cut() == 1
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
            with pytest.raises(OSError):
                await asyncio.open_connection(LOOPBACK, relay.port)
            await relay.mend()
        await relay.cut()


async def test_the_end_of_one_side_reaches_the_other() -> None:
    async with asyncio.timeout(30), await asyncio.start_server(echo, LOOPBACK, 0) as server:
        relay = Relay(free_port(), server.sockets[0].getsockname()[1])
        await relay.mend()
        reader, writer = await asyncio.open_connection(LOOPBACK, relay.port)
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read() == b"last words"
        writer.close()
        await relay.cut()


async def test_busy_ports_are_chosen_around_and_said() -> None:
    said: list[str] = []
    async with await asyncio.start_server(echo, LOOPBACK, 0) as server:
        busy = server.sockets[0].getsockname()[1]
        free = free_port()
        chooser = Chooser(said.append)
        assert chooser.choose("the first", free) == free
        second, third = chooser.choose("the second", free), chooser.choose("the third", busy)
        assert len({free, busy, second, third}) == 4
    assert said == [f"port {free} is busy: the second takes {second}", f"port {busy} is busy: the third takes {third}"]


def test_an_address_of_this_machine_is_told_from_one_that_is_not() -> None:
    assert is_own(LOOPBACK)
    assert not is_own("203.0.113.9")  # TEST-NET-3 (RFC 5737)
