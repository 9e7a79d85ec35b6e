"""Calls over HTTP/2 against a server that may do anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import uvloop
from fakes.criserver import Call, CriServer, Failure, Raw, framed

from pinnace.core.pods.cri import grpc, messages
from pinnace.core.pods.cri.grpc import (
    DEADLINE_EXCEEDED,
    MOST_BYTES,
    NOT_FOUND,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    CallFailed,
    Channel,
    Unreachable,
)

VERSION = "/runtime.v1.RuntimeService/Version"
EXEC = "/runtime.v1.RuntimeService/ExecSync"
EVENTS = "/runtime.v1.RuntimeService/GetContainerEvents"


@pytest.fixture
def socket() -> Iterator[Path]:
    with TemporaryDirectory(prefix="cri-", dir="/tmp") as folder:
        yield Path(folder) / "s"


@pytest.fixture
async def server(socket: Path) -> AsyncIterator[CriServer]:
    async with CriServer(socket) as made:
        made.methods["Version"] = lambda _: messages.VersionResponse(runtime_name="fake", runtime_version="1")
        yield made


@pytest.fixture
async def channel(socket: Path) -> AsyncIterator[Channel]:
    made = Channel(socket)
    yield made
    made.close()


async def version(channel: Channel, timeout: float | None = 5) -> messages.VersionResponse:
    return await channel.call(VERSION, messages.VersionRequest(version="v1"), messages.VersionResponse, timeout=timeout)


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_calls_on_the_agents_own_event_loop_as_on_others(socket: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def call() -> str:
        async with CriServer(socket) as server:
            server.methods["Version"] = lambda _: messages.VersionResponse(runtime_name="fake")
            channel = Channel(socket)
            try:
                return (await version(channel)).runtime_name
            finally:
                channel.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(call()) == "fake"


async def refusal(channel: Channel) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await version(channel)
    return caught.value


async def test_call_and_answer(server: CriServer, channel: Channel) -> None:
    assert (await version(channel)).runtime_name == "fake"
    assert server.asked == [("Version", messages.VersionRequest(version="v1").encode())]
    assert server.headers[0]["te"] == "trailers"
    assert server.headers[0]["content-type"] == "application/grpc"
    assert server.headers[0]["grpc-timeout"] == "5000m"


async def test_many_calls_share_one_connection_and_wait_for_streams(socket: Path, channel: Channel) -> None:
    async with CriServer(socket, most_streams=2) as server:

        async def slow(_: bytes) -> messages.VersionResponse:
            await asyncio.sleep(0)
            return messages.VersionResponse(runtime_name="fake")

        server.methods["Version"] = slow
        said = await asyncio.gather(*(version(channel) for _ in range(20)))
        assert len(said) == 20
        assert len(server.connections) == 1


async def test_large_messages_pass_both_ways(server: CriServer, channel: Channel) -> None:
    def echo(body: bytes) -> messages.ExecSyncResponse:
        return messages.ExecSyncResponse(stdout=messages.ExecSyncRequest.decode(body).cmd[0].encode() * 8)

    server.methods["ExecSync"] = echo
    text = "x" * 1_000_000
    said = await channel.call(EXEC, messages.ExecSyncRequest(cmd=(text,)), messages.ExecSyncResponse, timeout=60)
    assert said.stdout == text.encode() * 8


async def test_status_of_a_failure(server: CriServer, channel: Channel) -> None:
    server.methods["Version"] = lambda _: Failure(NOT_FOUND, "no such%20thing: 100%25")
    error = await refusal(channel)
    assert (error.code, str(error)) == (NOT_FOUND, "no such thing: 100%")
    server.methods["Version"] = lambda _: Failure(2)
    assert str(await refusal(channel)) == "gRPC status 2"
    del server.methods["Version"]
    assert (await refusal(channel)).code == UNIMPLEMENTED


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Raw(b"", []), 2),
        (Raw(framed(b"") * 2), 2),
        (Raw(b""), 2),
        (Raw(framed(b"\x80")), 2),
        (Raw(b"\x01\0\0\0\0"), RESOURCE_EXHAUSTED),
        (Raw(b"\0" + (MOST_BYTES + 1).to_bytes(4, "big")), RESOURCE_EXHAUSTED),
        (Raw(b"", [("grpc-status", "many")]), 2),
        (Raw(b"<html>", [], http="503"), UNAVAILABLE),
        (Raw(b"", [("grpc-status", "0")], http="404"), 2),
    ],
)
async def test_answers_that_are_none(server: CriServer, channel: Channel, answer: Raw, code: int) -> None:
    if not answer.trailers:
        answer.trailers = [("x-nothing", "at-all")]
    server.methods["Version"] = lambda _: answer
    assert (await refusal(channel)).code == code
    server.methods["Version"] = lambda _: messages.VersionResponse(runtime_name="well")
    assert (await version(channel)).runtime_name == "well"


async def test_time_out_cancels_the_call(server: CriServer, channel: Channel) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def wait(_: bytes) -> messages.VersionResponse:
        begun.set()
        await never.wait()
        return messages.VersionResponse()

    server.methods["Version"] = wait
    with pytest.raises(CallFailed) as caught:
        await version(channel, timeout=0.2)
    assert caught.value.code == DEADLINE_EXCEEDED
    assert begun.is_set()
    async with asyncio.timeout(5):
        while not server.resets:
            await asyncio.sleep(0.01)


async def test_nobody_there(channel: Channel) -> None:
    with pytest.raises(Unreachable, match="nothing answers on"):
        await version(channel)


async def test_connection_that_breaks_fails_the_call_and_the_next_makes_a_new_one(server: CriServer, channel: Channel) -> None:
    begun = asyncio.Event()

    async def wait(_: bytes) -> messages.VersionResponse:
        begun.set()
        await asyncio.Event().wait()
        return messages.VersionResponse()

    server.methods["Version"] = wait
    call = asyncio.create_task(version(channel))
    await begun.wait()
    await server.stop()
    with pytest.raises(Unreachable, match="may be restarting"):
        await call
    with pytest.raises(Unreachable):
        await version(channel)
    await server.start()
    server.methods["Version"] = lambda _: messages.VersionResponse(runtime_name="back")
    assert (await version(channel)).runtime_name == "back"


async def test_goodbye_ends_the_calls_and_the_next_makes_a_new_connection(server: CriServer, channel: Channel) -> None:
    begun = asyncio.Event()

    async def wait(_: bytes) -> messages.VersionResponse:
        begun.set()
        await asyncio.Event().wait()
        return messages.VersionResponse()

    server.methods["Version"] = wait
    call = asyncio.create_task(version(channel))
    await begun.wait()
    server.connections[0].goodbye()
    with pytest.raises(Unreachable, match="goodbye"):
        await call
    server.methods["Version"] = lambda _: messages.VersionResponse(runtime_name="new")
    assert (await version(channel)).runtime_name == "new"


async def test_what_is_no_http2_is_told(socket: Path, channel: Channel) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        await reader.read(1)
        writer.close()

    async with await asyncio.start_unix_server(answer, str(socket)):
        with pytest.raises(Unreachable, match=r"HTTP/2|closed"):
            await version(channel)


async def test_stream_of_answers(server: CriServer, channel: Channel) -> None:
    async def three(call: Call) -> None:
        for number in range(3):
            await call.push(messages.ContainerEventResponse(container_id=str(number)))

    server.streams["GetContainerEvents"] = three
    said = [each.container_id async for each in channel.stream(EVENTS, messages.Empty(), messages.ContainerEventResponse)]
    assert said == ["0", "1", "2"]


async def test_stream_that_fails_after_some(server: CriServer, channel: Channel) -> None:
    async def one(call: Call) -> None:
        await call.push(messages.ContainerEventResponse(container_id="0"))
        raise Failure(13, "enough")

    server.streams["GetContainerEvents"] = one
    said = []

    async def listen() -> None:
        async for each in channel.stream(EVENTS, messages.Empty(), messages.ContainerEventResponse):
            said.append(each.container_id)

    with pytest.raises(CallFailed, match="enough"):
        await listen()
    assert said == ["0"]


async def test_runtime_that_hangs_is_left_by_who_gives_up(socket: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and says nothing, as a process that is stopped does: none is kept."""
    monkeypatch.setattr(grpc, "_CONNECT_SECONDS", 0.05)
    came, left = [], []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        while await reader.read(4096):
            pass
        left.append(writer)
        writer.close()

    async with await asyncio.start_unix_server(hang, str(socket)):
        with pytest.raises(Unreachable, match="time-out"):
            await version(channel)
        monkeypatch.setattr(grpc, "_CONNECT_SECONDS", 30.0)
        with pytest.raises(CallFailed, match="no answer within"):
            await version(channel, timeout=0.05)
        async with asyncio.timeout(20):
            while len(left) < 2:
                await asyncio.sleep(0.01)
        assert came == left


async def test_stream_from_a_runtime_that_hangs_is_unreachable_however_many_wait(
    socket: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc, "_CONNECT_SECONDS", 0.1)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def listen() -> None:
        async for _ in channel.stream(EVENTS, messages.Empty(), messages.ContainerEventResponse):
            pass

    async with await asyncio.start_unix_server(hang, str(socket)):
        ends = await asyncio.gather(*(listen() for _ in range(4)), return_exceptions=True)
    assert [type(each) for each in ends] == [Unreachable] * 4


async def test_stream_nobody_reads_holds_up_the_other_side_and_no_other_call(server: CriServer, channel: Channel) -> None:
    count, sent = 3000, 0

    async def many(call: Call) -> None:
        nonlocal sent
        for number in range(count):
            await call.push(messages.ContainerEventResponse(container_id=f"{number:01000}"))
            sent += 1

    server.streams["GetContainerEvents"] = many
    stream = channel.stream(EVENTS, messages.Empty(), messages.ContainerEventResponse)
    assert int((await anext(stream)).container_id) == 0
    before = -1
    while sent != before:
        before = sent
        for _ in range(5):
            assert (await version(channel)).runtime_name == "fake"
    assert sent < count / 2
    assert [int(each.container_id) async for each in stream] == list(range(1, count))


async def test_window_of_all_calls_comes_back_from_streams_that_were_left(server: CriServer, channel: Channel) -> None:
    async def many(call: Call) -> None:
        while not call.connection.transport or not call.connection.transport.is_closing():
            await call.push(messages.ContainerEventResponse(container_id="x" * 10_000))

    server.streams["GetContainerEvents"] = many
    for _ in range(12):  # each would keep a fifth of it
        stream = channel.stream(EVENTS, messages.Empty(), messages.ContainerEventResponse)
        await anext(stream)
        for _ in range(20):
            await version(channel)
        await stream.aclose()
    assert len(server.connections) == 1
    text = "x" * 1_000_000
    server.methods["ExecSync"] = lambda _: messages.ExecSyncResponse(stdout=text.encode() * 8)
    said = await channel.call(EXEC, messages.ExecSyncRequest(cmd=("x",)), messages.ExecSyncResponse, timeout=30)
    assert len(said.stdout) == 8_000_000
