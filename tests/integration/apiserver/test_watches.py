"""Watches over HTTPS: replay, live events, selectors, bookmarks, time-outs, 410."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


def named(events: list[Any]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


async def take(events: AsyncIterator[Any], count: int) -> list[Any]:
    async with asyncio.timeout(15):
        return [await anext(events) for _ in range(count)]


async def test_from_a_version_on(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    made = await client.create(path, {"metadata": {"name": "a"}})
    version = made["metadata"]["resourceVersion"]
    await client.merge(f"{path}/a", {"metadata": {"labels": {"n": "1"}}})
    await client.ask("DELETE", f"{path}/a")
    async with client.watch(f"{path}?watch=1&resourceVersion={version}") as events:
        replayed = await take(events, 2)
        assert named(replayed) == [("MODIFIED", "a"), ("DELETED", "a")]
        assert int(replayed[1]["object"]["metadata"]["resourceVersion"]) > int(replayed[0]["object"]["metadata"]["resourceVersion"])
        await client.create(path, {"metadata": {"name": "b"}})
        assert named(await take(events, 1)) == [("ADDED", "b")]


async def test_without_a_version_what_exists_comes_first(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    await client.create(path, {"metadata": {"name": "a"}})
    for query in ("watch=true", "watch=true&resourceVersion=0"):
        async with client.watch(f"{path}?{query}") as events:
            assert named(await take(events, 1)) == [("ADDED", "a")]
    async with client.watch(f"/api/v1/watch/namespaces/{ns}/secrets/a?timeoutSeconds=5") as events:
        assert named(await take(events, 1)) == [("ADDED", "a")]


async def test_headers_come_before_the_first_event(client: Any, ns: str) -> None:
    async with asyncio.timeout(10), client.watch(f"/api/v1/namespaces/{ns}/endpoints?watch=1"):
        pass


async def test_selectors_turn_changes_into_comings_and_goings(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    async with client.watch(f"{path}?watch=1&labelSelector=w%3D1") as events:
        await client.create(path, {"metadata": {"name": "a"}})
        await client.merge(f"{path}/a", {"metadata": {"labels": {"w": "1"}}})
        await client.merge(f"{path}/a", {"metadata": {"annotations": {"x": "y"}}})
        left = await client.merge(f"{path}/a", {"metadata": {"labels": {"w": "2"}}})
        seen = await take(events, 3)
        assert named(seen) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        assert seen[2]["object"]["metadata"]["labels"] == {"w": "1"}
        assert seen[2]["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]


async def test_one_name_only(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    async with client.watch(f"{path}?watch=1&fieldSelector=metadata.name%3Db") as events:
        await client.create(path, {"metadata": {"name": "a"}})
        await client.create(path, {"metadata": {"name": "b"}})
        assert named(await take(events, 1)) == [("ADDED", "b")]


async def test_too_old_is_an_error_event(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/leases"
    path = f"/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"
    await client.create(path, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}})
    # 4096 changes are kept; another namespace's count too, since the window is the resource's.
    for index in range(4200):
        await client.merge(f"{path}/l", {"spec": {"leaseTransitions": index}})
    async with client.watch(f"{path}?watch=1&resourceVersion=1") as events:
        (error,) = [event async for event in events]
        assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")
    status, answer = await client.ask("GET", f"{path}?resourceVersion=1&resourceVersionMatch=Exact")
    assert (status, answer["reason"]) == (410, "Expired")


async def test_time_out_and_bookmarks(client: Any, ns: str) -> None:
    made = await client.create(f"/api/v1/namespaces/{ns}/secrets", {"metadata": {"name": "a"}})
    async with client.watch(f"/api/v1/namespaces/{ns}/endpoints?watch=1&timeoutSeconds=1&allowWatchBookmarks=true") as events:
        seen = [event async for event in events]
    assert [event["type"] for event in seen] == ["BOOKMARK"]
    assert seen[0]["object"]["kind"] == "Endpoints"
    assert int(seen[0]["object"]["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])


async def test_initial_events(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    await client.create(path, {"metadata": {"name": "a"}})
    query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=20"
    async with client.watch(f"{path}?{query}") as events:
        first, end = await take(events, 2)
        assert (first["type"], end["type"]) == ("ADDED", "BOOKMARK")
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await client.create(path, {"metadata": {"name": "b"}})
        assert named(await take(events, 1)) == [("ADDED", "b")]
    assert (await client.ask("GET", f"{path}?watch=1&sendInitialEvents=true"))[0] == 422
    assert (await client.ask("GET", f"{path}?watch=1&resourceVersion=abc"))[0] == 500


async def test_tables_describe_their_columns_once(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    session_headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    async with client.session.get(f"{client.url}{path}?watch=1", headers=session_headers) as response:
        await client.create(path, {"metadata": {"name": "a"}})
        await client.create(path, {"metadata": {"name": "b"}})
        import json

        async with asyncio.timeout(15):
            first, second = [json.loads(await response.content.readline())["object"] for _ in range(2)]
    assert (first["kind"], second["kind"]) == ("Table", "Table")
    assert first["columnDefinitions"]
    assert second["columnDefinitions"] is None


async def test_every_watcher_sees_every_change_in_order(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    made = await client.create(path, {"metadata": {"name": "a"}})
    query = f"watch=1&resourceVersion={made['metadata']['resourceVersion']}"

    async def follow() -> list[str]:
        async with client.watch(f"{path}?{query}") as events:
            return [event["object"]["metadata"]["labels"]["n"] for event in await take(events, 100)]

    followers = [asyncio.create_task(follow()) for _ in range(4)]
    await asyncio.gather(*(client.merge(f"{path}/a", {"metadata": {"labels": {"n": str(index)}}}) for index in range(100)))
    orders = await asyncio.gather(*followers)
    assert sorted(orders[0], key=int) == [str(index) for index in range(100)]
    assert all(order == orders[0] for order in orders)


async def test_a_client_that_does_not_read_is_dropped(server: Any, client: Any, ns: str, eventually: Any) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    await client.create(path, {"metadata": {"name": "big"}})
    address = "127.0.0.1"
    reader, writer = await asyncio.open_connection(address, server.port, ssl=server.context(), limit=1024)
    writer.write(f"GET {path}?watch=1 HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    text = "x" * 500_000
    count = iter(range(10_000))

    async def write() -> bool:
        await client.merge(f"{path}/big", {"stringData": {"text": f"{next(count)}{text}"}})
        return "api.watch.dropped" in server.log()

    await eventually(write, lambda is_dropped: is_dropped, seconds=60)
    writer.transport.abort()
    assert (await client.ask("GET", "/healthz"))[0] == 200
