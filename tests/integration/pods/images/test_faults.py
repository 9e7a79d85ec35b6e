"""Pulls over bad lines, through mirrors and proxies, from registries that lie, by children that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.cutproxy import CutProxy, Plan
from integration.mosquitto import make_tls
from rig.images import busybox, file, layer
from rig.registry import Registry

from pinnace.core.base.imagefiles import BuiltImage, Compression, build, digest_of
from pinnace.core.base.runtime import Credential, PullFailed
from pinnace.core.base.settings.edged import RegistrySettings
from pinnace.core.pods.images.store import BuiltinImages

from .conftest import StoreMaker

pytestmark = pytest.mark.root
SIZE = 3 << 20


def large(name: str) -> BuiltImage:
    """One layer of about 3 MiB that no packing makes smaller."""
    return build([layer([file(name, os.urandom(SIZE))])])


def plain(port: int) -> RegistrySettings:
    return RegistrySettings(f"127.0.0.1:{port}", plain_http=True)


async def started(store: BuiltinImages) -> BuiltinImages:
    await store.start()
    return store


async def test_a_cut_line_goes_on_where_it_was(make_store: StoreMaker, registry: Registry) -> None:
    image = large("cut")
    registry.push("cut/b:1", image)
    async with CutProxy("127.0.0.1", registry.port) as proxy:
        cuts = iter([1 << 20, 1 << 20])
        proxy.plan_always(lambda: Plan(cut_down=next(cuts, None), reset=False))
        store = await started(make_store(plain(proxy.port)))
        found = await store.pull(f"127.0.0.1:{proxy.port}/cut/b:1")
        assert found.size == SIZE
        assert proxy.cuts == 2
        assert SIZE < proxy.down < SIZE + 400_000  # what was lost on the way, not the layer anew


async def test_a_download_goes_on_in_another_child(make_store: StoreMaker, registry: Registry) -> None:
    image = large("resumed")
    registry.push("resumed/b:1", image)
    async with CutProxy("127.0.0.1", registry.port) as proxy:
        store = await started(make_store(plain(proxy.port)))
        proxy.plan_always(lambda: Plan(stall_down=2 << 20))
        task = asyncio.create_task(store.pull(f"127.0.0.1:{proxy.port}/resumed/b:1"))
        partial = store.layout.partial(image.layers[0].blob.digest)
        await until(lambda: partial.exists() and partial.stat().st_size > SIZE // 2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await store.close()
        had = partial.stat().st_size
        proxy.plan_always(Plan)
        before = proxy.down
        again = await started(make_store(plain(proxy.port)))
        assert (await again.pull(f"127.0.0.1:{proxy.port}/resumed/b:1")).size == SIZE
        assert proxy.down - before < SIZE - had + 100_000
        assert not partial.exists()


async def test_a_rotten_partial_download_is_thrown_away(make_store: StoreMaker, registry: Registry) -> None:
    image = large("rotten")
    registry.push("rotten/b:1", image)
    store = await started(make_store())
    blob = image.layers[0].blob
    store.layout.partial(blob.digest).write_bytes(bytes(100_000))
    assert (await store.pull(f"{registry.host}/rotten/b:1")).size == SIZE
    store.layout.partial(blob.digest).write_bytes(bytes(blob.size + 5))
    await store.remove(image.config.digest)
    assert (await store.pull(f"{registry.host}/rotten/b:1")).size == SIZE


async def test_a_line_that_stays_dead_is_no_answer(make_store: StoreMaker, registry: Registry) -> None:
    registry.push("dead/b:1", large("dead"))
    async with CutProxy("127.0.0.1", registry.port) as proxy:
        proxy.is_refusing = True
        store = await started(make_store(plain(proxy.port)))
        with pytest.raises(PullFailed, match="no answer") as caught:
            await store.pull(f"127.0.0.1:{proxy.port}/dead/b:1")
        assert caught.value.is_unreachable


async def test_a_line_cut_in_the_tls_handshake_is_no_answer(tmp_path: Path, make_store: StoreMaker) -> None:
    tls = make_tls(tmp_path / "tls")
    with Registry(tmp_path / "r", tls=tls) as registry:
        async with CutProxy("127.0.0.1", registry.port) as proxy:
            host = f"127.0.0.1:{proxy.port}"
            store = await started(make_store(RegistrySettings(host, ca_file=tls.ca)))
            for plan in (Plan(cut_down=100), Plan(cut_down=100, reset=False), Plan(cut_up=10)):
                proxy.plan(plan)
                with pytest.raises(PullFailed) as caught:
                    await store.pull(f"{host}/a:1")
                assert caught.value.is_unreachable, str(caught.value)


async def test_a_changed_byte_is_found(make_store: StoreMaker, registry: Registry) -> None:
    """One wrong byte in a layer, each time: the pull fails and nothing of it is there; then the line is good again."""
    registry.push("tampered/b:1", large("tampered"))
    async with CutProxy("127.0.0.1", registry.port) as proxy:
        store = await started(make_store(plain(proxy.port)))
        name = f"127.0.0.1:{proxy.port}/tampered/b:1"
        proxy.plan_always(lambda: Plan(corrupt_down=SIZE // 2))
        with pytest.raises(PullFailed, match="digest") as caught:
            await store.pull(name)
        assert not caught.value.is_unreachable
        assert await store.images() == []
        assert list(store.layout.layers.iterdir()) == []
        proxy.plan_always(Plan)
        assert (await store.pull(name)).size == SIZE


async def test_a_registry_that_stores_other_content(make_store: StoreMaker, registry: Registry) -> None:
    image = build([layer([file("a", os.urandom(5000))])])
    registry.push("lying/b:1", image)
    store = await started(make_store())
    blob, config = registry.stored(image.layers[0].blob), registry.stored(image.config)
    whole, described = blob.read_bytes(), config.read_bytes()
    for path, content, words in (
        (config, described[:-1] + b"]", "digest"),
        (blob, whole[:-1] + bytes([whole[-1] ^ 1]), "has not the digest"),
        (blob, whole[:1000], "has 1000 bytes"),
        (blob, whole + b"more", f"has {len(whole) + 4} bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(PullFailed, match=words) as caught:
            await store.pull(f"{registry.host}/lying/b:1")
        assert not caught.value.is_unreachable
        assert await store.images() == []
        blob.write_bytes(whole)
        config.write_bytes(described)
    assert (await store.pull(f"{registry.host}/lying/b:1")).id == image.config.digest


async def test_a_layer_that_is_not_what_the_configuration_says(make_store: StoreMaker, registry: Registry) -> None:
    packed = layer([file("a")])
    lying = build([type(packed)(packed.blob, digest_of(b"other"))])
    registry.push("lying/diff:1", lying)
    store = await started(make_store())
    with pytest.raises(PullFailed, match="names"):
        await store.pull(f"{registry.host}/lying/diff:1")
    assert list(store.layout.work.iterdir()) == []


async def test_an_attack_in_a_layer_says_which(make_store: StoreMaker, registry: Registry) -> None:
    registry.push("attack/b:1", busybox(extra=[file("../../escaped", "x")]))
    store = await started(make_store())
    with pytest.raises(PullFailed, match=r"climbs out of its root with '\.\./\.\./escaped'") as caught:
        await store.pull(f"{registry.host}/attack/b:1")
    assert caught.value.reason == "ErrImagePull"
    assert list(store.layout.work.iterdir()) == []


async def test_mirrors_are_tried_in_order(tmp_path: Path, make_store: StoreMaker, registry: Registry) -> None:
    registry.push("mirrored/b:1", busybox())
    with Registry(tmp_path / "empty") as empty, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        mirrors = tuple(f"http://{each}" for each in (f"127.0.0.1:{dead.getsockname()[1]}", empty.host, registry.host))
        store = await started(make_store(RegistrySettings("upstream.invalid", mirrors=mirrors)))
        found = await store.pull("upstream.invalid/mirrored/b:1", [Credential("", "pi", "secret")])
        assert found.tags == ("upstream.invalid/mirrored/b:1",)
        assert "/mirrored/b/manifests/1" in empty.log.read_text()
        with pytest.raises(PullFailed) as caught:
            await store.pull("upstream.invalid/unknown/b:1")
        assert caught.value.is_unreachable  # mirrors do not speak for the registry


async def test_a_mirror_is_shown_its_own_credential_only(tmp_path: Path, make_store: StoreMaker) -> None:
    with Registry(tmp_path / "guarded", users={"pi": "secret"}) as mirror:
        mirror.push("mirrored/c:1", busybox())
        store = await started(make_store(RegistrySettings("upstream.invalid", mirrors=(f"http://{mirror.host}",))))
        for server in ("", "upstream.invalid"):
            with pytest.raises(PullFailed):
                await store.pull("upstream.invalid/mirrored/c:1", [Credential(server, "pi", "secret")])
        others = [Credential("upstream.invalid", "someone", "else"), Credential(mirror.host, "pi", "secret")]
        found = await store.pull("upstream.invalid/mirrored/c:1", others)
        assert found.tags == ("upstream.invalid/mirrored/c:1",)


async def test_a_mirror_that_lies_does_not_matter(tmp_path: Path, make_store: StoreMaker, registry: Registry) -> None:
    image = build([layer([file("honest", os.urandom(1000))])])
    registry.push("honest/b:1", image)
    with Registry(tmp_path / "liar") as liar:
        liar.push("honest/b:1", image)
        liar.stored(image.layers[0].blob).write_bytes(b"lies")
        store = await started(make_store(RegistrySettings(registry.host, mirrors=(f"http://{liar.host}",), plain_http=True)))
        assert (await store.pull(f"{registry.host}/honest/b:1")).size == 1000
        assert liar.gets(image.layers[0].blob.digest) >= 1


@contextlib.asynccontextmanager
async def tunnel(port: int, seen: list[bytes]) -> AsyncIterator[int]:
    """An HTTP proxy that only knows CONNECT and leads everything to `port`."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        away_reader, away = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, away), pump(away_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()


async def test_a_proxy_of_the_environment_is_used(tmp_path: Path, make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's name leads nowhere: only the proxy finds it."""
    tls = make_tls(tmp_path / "tls", host="registry.invalid")
    with Registry(tmp_path / "r") as storing:
        storing.push("proxied/b:1", busybox())
        storage = storing.folder
    seen: list[bytes] = []
    with Registry(storage, tls=tls) as registry:
        async with tunnel(registry.port, seen) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass-word@127.0.0.1:{port}")
            store = await started(make_store(RegistrySettings("registry.invalid", ca_file=tls.ca)))
            assert (await store.pull("registry.invalid/proxied/b:1")).size > 0
            assert seen[0].startswith(b"CONNECT registry.invalid:443 ")
            assert b"authorization: Basic dXNlcjpwYXNzLXdvcmQ=" in seen[0]
            monkeypatch.setenv("NO_PROXY", ".invalid")
            with pytest.raises(PullFailed) as caught:
                await store.pull("registry.invalid/other/b:1")
            assert caught.value.is_unreachable
        monkeypatch.delenv("NO_PROXY")
        with pytest.raises(PullFailed) as caught:
            await store.pull("registry.invalid/proxied/c:1")
        assert caught.value.is_unreachable
        assert "pass-word" not in str(caught.value)


async def test_the_registrys_password_does_not_go_where_it_redirects(make_store: StoreMaker, registry: Registry) -> None:
    image = busybox()
    registry.push("redirected/b:1", image)
    elsewhere: list[bytes] = []
    here: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        here.append(head)
        if b"authorization:" not in head.lower():
            text = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=r\r\n"
        else:
            path = head.split()[1].decode()
            text = f"HTTP/1.1 307 Temporary\r\nLocation: http://127.0.0.1:{other_port}{path}\r\n".encode()
        writer.write(text + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def store_of_blobs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        elsewhere.append(head)
        there_reader, there = await asyncio.open_connection("127.0.0.1", registry.port)
        there.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        while data := await there_reader.read(65536):
            writer.write(data)
            await writer.drain()
        there.close()
        writer.close()

    other = await asyncio.start_server(store_of_blobs, "127.0.0.1", 0)
    other_port = other.sockets[0].getsockname()[1]
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, other:
        store = await started(make_store())
        found = await store.pull(f"{host}/redirected/b:1", [Credential(host, "pi", "secret")])
    assert found.id == image.config.digest
    assert any(b"authorization: basic" in each.lower() for each in here)
    assert len(elsewhere) >= 3
    assert not [each for each in elsewhere if b"authorization" in each.lower()]


async def test_a_child_that_is_killed_leaves_a_store_that_works(make_store: StoreMaker, registry: Registry) -> None:
    """Killed at many moments of a pull: what is recorded is whole each time, and the pull succeeds at last."""
    image = build([layer([file(f"{number}/{each}", os.urandom(2000)) for each in range(60)], Compression.ZSTD) for number in range(4)])
    registry.push("killed/b:1", image)
    name = f"{registry.host}/killed/b:1"
    killed = 0
    for attempt in range(60):
        store = await started(make_store())
        task = asyncio.create_task(store.pull(name))
        await asyncio.wait([task], timeout=0.15 + attempt * 0.015)  # where in the pull the child dies
        for pid in store.children.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            found = await task
        except PullFailed:
            killed += 1
            assert await store.images() == []
            assert list(store.layout.work.iterdir()) == []  # or many a try fills the disk
        else:
            assert [len(list(each.rglob("*"))) for each in store.layers(found.id)] == [61] * 4
            break
        await store.close()
    else:
        pytest.fail("the pull never came to an end")
    assert killed > 0
    await store.close()
    after = await started(make_store())
    assert await after.images() == await store.images()
    assert list(after.layout.work.iterdir()) == []


AGENT = """
import asyncio, sys
from pathlib import Path
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings, RegistrySettings
from pinnace.core.pods.images.store import BuiltinImages

async def main():
    registry = RegistrySettings(sys.argv[2], plain_http=True)
    store = BuiltinImages(BuiltinRuntimeSettings(root_dir=Path(sys.argv[1]), registries=(registry,)))
    await store.start()
    await store.pull(f"{sys.argv[2]}/orphan/b:1")

asyncio.run(main())
"""


async def test_the_child_ends_with_its_agent_and_the_next_one_goes_on(tmp_path: Path, make_store: StoreMaker, registry: Registry) -> None:
    image = large("orphan")
    registry.push("orphan/b:1", image)
    async with CutProxy("127.0.0.1", registry.port) as proxy:
        proxy.plan_always(lambda: Plan(stall_down=2 << 20))
        host = f"127.0.0.1:{proxy.port}"
        agent = await asyncio.create_subprocess_exec(sys.executable, "-c", AGENT, str(tmp_path / "node"), host)
        store = make_store(plain(proxy.port))
        partial = store.layout.partial(image.layers[0].blob.digest)
        await until(lambda: partial.exists() and partial.stat().st_size > 1 << 20)
        (child,) = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        agent.kill()
        await agent.wait()
        await until(lambda: not Path(f"/proc/{child}").exists())
        had, before = partial.stat().st_size, proxy.down
        proxy.plan_always(Plan)
        await store.start()
        assert (await store.pull(f"{host}/orphan/b:1")).size == SIZE
        assert proxy.down - before < SIZE - had + 100_000


async def test_what_is_removed_during_a_pull_goes_when_that_ends(make_store: StoreMaker, registry: Registry) -> None:
    small = build([layer([file("small")])])
    registry.push("during/small:1", small)
    registry.push("during/b:1", large("during"))
    async with CutProxy("127.0.0.1", registry.port) as proxy:
        store = await started(make_store(plain(proxy.port)))
        host = f"127.0.0.1:{proxy.port}"
        found = await store.pull(f"{host}/during/small:1")
        (folder,) = store.layers(found.id)
        proxy.plan_always(lambda: Plan(stall_down=1 << 20))
        task = asyncio.create_task(store.pull(f"{host}/during/b:1"))
        await until(lambda: bool(store.children.pids))
        await store.remove(found.id)
        assert folder.exists()  # the pull may have found it and build upon it
        task.cancel()
        await until(lambda: not folder.exists())


async def test_a_pull_nobody_waits_for_any_more_ends(make_store: StoreMaker, registry: Registry) -> None:
    registry.push("unwanted/b:1", large("unwanted"))
    async with CutProxy("127.0.0.1", registry.port) as proxy:
        proxy.plan_always(lambda: Plan(stall_down=1 << 20))
        store = await started(make_store(plain(proxy.port)))
        tasks = [asyncio.create_task(store.pull(f"127.0.0.1:{proxy.port}/unwanted/b:1")) for _ in range(2)]
        await until(lambda: bool(store.children.pids))
        (pid,) = store.children.pids
        tasks[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[0]
        assert Path(f"/proc/{pid}").exists()
        tasks[1].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[1]
        await until(lambda: not Path(f"/proc/{pid}").exists())


async def until(claim: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)
