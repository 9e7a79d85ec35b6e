"""The buffered socket between paho and the kernel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pinnace.core.base.errors import LinkError
from pinnace.core.eventbus.settings import BrokerAddress
from pinnace.core.eventbus.sockets import BufferedSocket, open_socket


@pytest.fixture
def pair() -> Iterator[tuple[BufferedSocket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    buffered = BufferedSocket(near)
    yield buffered, far
    buffered.close()
    far.close()


def test_many_small_reads_cost_one(pair: tuple[BufferedSocket, socket.socket]) -> None:
    near, far = pair
    far.send(b"abcdef")
    assert not near.buffered
    assert near.recv(1) == b"a"
    far.send(b"later")
    assert near.buffered
    assert near.recv(2) == b"bc"
    assert near.recv(100) == b"def"
    assert not near.buffered
    assert near.recv(100) == b"later"


def test_nothing_to_read(pair: tuple[BufferedSocket, socket.socket]) -> None:
    near, far = pair
    far.send(b"a")
    assert near.recv(5) == b"a"
    with pytest.raises(BlockingIOError):
        near.recv(1)
    assert not near.buffered
    far.close()
    assert near.recv(1) == b""


def test_writes_leave_with_push(pair: tuple[BufferedSocket, socket.socket]) -> None:
    near, far = pair
    assert near.send(b"ab") == 2
    assert near.send(bytearray(b"cd")) == 2
    with pytest.raises(BlockingIOError):
        far.recv(1)
    assert near.push()
    assert far.recv(100) == b"abcd"
    assert near.push()


def test_a_slow_reader_gets_everything_in_order(pair: tuple[BufferedSocket, socket.socket]) -> None:
    near, far = pair
    sent, got, number = bytearray(), bytearray(), 0
    refused = 0
    while len(sent) < 3 << 20:
        piece = b"%08d" % number * 100
        try:
            near.send(piece)
        except BlockingIOError:
            refused += 1
            got += far.recv(50_000)
        else:
            sent += piece
            number += 1
    while not near.push():
        got += far.recv(50_000)
    far.setblocking(True)
    while len(got) < len(sent):
        got += far.recv(1 << 20)
    assert refused > 0
    assert got == sent


def test_closing_sends_what_was_gathered(pair: tuple[BufferedSocket, socket.socket]) -> None:
    near, far = pair
    near.send(b"last")
    near.close()
    assert far.recv(100) == b"last"
    assert near.fileno() == -1
    near.close()


def test_writing_to_nobody_raises(pair: tuple[BufferedSocket, socket.socket]) -> None:
    near, far = pair
    far.close()
    near.send(b"x")
    with pytest.raises(OSError):
        near.push()


async def test_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await open_socket(BrokerAddress("127.0.0.1", held.getsockname()[1], False), None)


@pytest.mark.parametrize("host", ["no..host", "x" * 64, "ü" * 64])
async def test_what_is_no_host_name(host: str) -> None:
    with pytest.raises((LinkError, OSError)):
        await open_socket(BrokerAddress(host, 1883, False), None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connects_by_number_and_by_name(host: str) -> None:
    accepted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(await reader.read(5))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        opened = await open_socket(BrokerAddress(host, server.sockets[0].getsockname()[1], False), None)
        opened.send(b"hello")
        assert opened.push()
        assert await asyncio.wait_for(accepted, 10) == b"hello"
        opened.close()
