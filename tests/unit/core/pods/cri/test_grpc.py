"""Calls over HTTP/2 against a server that may do anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fakes.criserver import Call, CriServer, Failure, Raw, framed

from pinnace.core.pods.cri import messages
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
    path = "/runtime.v1.RuntimeService/GetContainerEvents"
    said = [each.container_id async for each in channel.stream(path, messages.Empty(), messages.ContainerEventResponse)]
    assert said == ["0", "1", "2"]


async def test_stream_that_fails_after_some(server: CriServer, channel: Channel) -> None:
    async def one(call: Call) -> None:
        await call.push(messages.ContainerEventResponse(container_id="0"))
        raise Failure(13, "enough")

    server.streams["GetContainerEvents"] = one
    path = "/runtime.v1.RuntimeService/GetContainerEvents"
    said = []

    async def listen() -> None:
        async for each in channel.stream(path, messages.Empty(), messages.ContainerEventResponse):
            said.append(each.container_id)

    with pytest.raises(CallFailed, match="enough"):
        await listen()
    assert said == ["0"]
