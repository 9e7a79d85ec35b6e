"""Paths, the errors of the API and of what stands before it, and streams that are not what they should be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web

from pinnace.cloud.kube import HttpKubeApi, load_access
from pinnace.cloud.kube import api as api_module
from pinnace.cloud.kube.api import ApiFailure, path_of, status_of
from pinnace.cloud.kube.resources import CONFIG_MAPS, DEVICES, NODES
from pinnace.core.base.errors import LinkError, RemoteError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[HttpKubeApi]:
    """A client of a server that answers everything with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with HttpKubeApi(await load_access(master=f"http://127.0.0.1:{runner.addresses[0][1]}")) as api:
            yield api
    finally:
        await runner.cleanup()


def test_paths() -> None:
    assert path_of(NODES) == "/api/v1/nodes"
    assert path_of(NODES, "", "n", "status") == "/api/v1/nodes/n/status"
    assert path_of(CONFIG_MAPS) == "/api/v1/configmaps"
    assert path_of(CONFIG_MAPS, "a b", "c/d") == "/api/v1/namespaces/a%20b/configmaps/c%2Fd"
    assert path_of(DEVICES, "default", "d") == "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices/d"


@pytest.mark.parametrize(
    ("code", "body", "reason", "message"),
    [
        (409, b'{"kind":"Status","status":"Failure","reason":"AlreadyExists","message":"it is"}', "AlreadyExists", "it is"),
        (502, b"<html>proxy</html>", "", "<html>proxy</html>"),
        (403, b"", "Forbidden", "HTTP 403"),
        (404, b'{"kind":"Other"}', "NotFound", '{"kind":"Other"}'),
        (410, b"[]", "Expired", "[]"),
    ],
)
def test_every_failure_becomes_a_status(code: int, body: bytes, reason: str, message: str) -> None:
    failure = ApiFailure(status_of(code, body))
    assert (failure.code, failure.reason, str(failure)) == (code, reason, message)
    assert failure.status["status"] == "Failure"


async def test_what_answers_without_json_is_no_api() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text="hello")

    async with answering(handler) as api:
        with pytest.raises(LinkError, match="answered 200 with no JSON"):
            await api.get(NODES, "n")


async def test_a_server_that_is_gone_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    original = api_module._watched_socket

    def noting(address: tuple[Any, ...]) -> socket.socket:
        made.append(original(address))
        return made[-1]

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Node"})

    monkeypatch.setattr(api_module, "_watched_socket", noting)
    async with answering(handler) as api:
        await api.get(NODES, "n")
        (one,) = made
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        quiet, between, count = (one.getsockopt(socket.IPPROTO_TCP, each) for each, _ in api_module._PROBES)
        assert quiet + between * count <= 30


async def test_a_list_is_read_page_by_page() -> None:
    pages = {"": (["a", "b"], "next"), "next": (["c"], "")}
    asked = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        names, following = pages[request.query.get("continue", "")]
        items = [{"metadata": {"name": name}} for name in names]
        return web.Response(body=orjson.dumps({"metadata": {"continue": following, "resourceVersion": "9"}, "items": items}))

    async with answering(handler) as api:
        items, version = await api.list(CONFIG_MAPS, label_selector="a=b")
    assert [(each["metadata"]["name"], each["kind"], each["apiVersion"]) for each in items] == [
        ("a", "ConfigMap", "v1"), ("b", "ConfigMap", "v1"), ("c", "ConfigMap", "v1"),
    ]  # fmt: skip
    assert version == "9"
    assert all(each["labelSelector"] == "a=b" for each in asked)


async def streamed(*chunks: bytes) -> list[str]:
    """The names of a watch's objects whose stream comes in these chunks."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        return response

    async with answering(handler) as api:
        return [event.object["metadata"]["name"] async for event in api.watch(NODES, resource_version="1")]


async def test_a_watch_may_be_cut_anywhere() -> None:
    lines = b"".join(orjson.dumps({"type": "ADDED", "object": {"metadata": {"name": name}}}) + b"\n" for name in ("a", "b", "c"))
    for size in (1, 7, 64, len(lines)):
        chunks = [lines[start : start + size] for start in range(0, len(lines), size)]
        assert await streamed(*chunks) == ["a", "b", "c"]
    assert await streamed(lines[:-10]) == ["a", "b"], "half an event is none"


@pytest.mark.parametrize("line", [b"no json\n", b"{}\n", b"[1]\n"])
async def test_a_watch_that_sends_something_else(line: bytes) -> None:
    with pytest.raises(LinkError, match="something that is no event"):
        await streamed(line)


async def test_an_error_in_a_watch_is_the_apis() -> None:
    expired = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    with pytest.raises(RemoteError) as caught:
        await streamed(orjson.dumps(expired) + b"\n")
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
