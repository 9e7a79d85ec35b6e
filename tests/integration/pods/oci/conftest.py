"""A machine of its own for the built-in runtime, shared by a module's tests, and a pod on it for each."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from contract.runtime.installations import images
from contract.runtime.pods import TestPod, remove_cgroups
from rig.images import busybox, file, folder, layer, link
from rig.oci import OciHome

from pinnace.core.base.runtime import Runtime
from pinnace.core.pods.oci.runtime import OciRuntime

VOLUMES = "pinnace.test/volumes:1"
LAYERS = "pinnace.test/layers:1"
ESCAPE = "pinnace.test/escape:1"


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop, as in the product; the suite of all runtimes runs on asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def home() -> Iterator[OciHome]:
    if os.geteuid() != 0 or shutil.which("crun") is None:
        pytest.skip("needs root and crun")
    made = {
        **images(),
        VOLUMES: busybox(
            {"Volumes": {"/data": {}, "/new/place": {}, "/out": {}}},
            extra=[folder("data"), file("data/of-image", b"1\n"), link("out", "/etc")],
        ),
        LAYERS: busybox(layers=[layer([file(f"many/{number}", str(number))]) for number in range(100)]),
        ESCAPE: busybox({"User": "app"}, layers=[layer([link("etc/passwd", "../../../../../../etc/hostname")])]),
    }
    with OciHome(made) as home:
        yield home


@pytest.fixture
async def runtime(home: OciHome) -> AsyncIterator[OciRuntime]:
    made = home.adapter()
    await made.start()
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.close()


@pytest.fixture(scope="module")
def cgroup() -> Iterator[str]:
    path = f"/pinnace-test-{secrets.token_hex(4)}"
    yield path
    remove_cgroups(path)


@pytest.fixture
async def pod(runtime: OciRuntime, home: OciHome, tmp_path: Path, cgroup: str) -> AsyncIterator[TestPod]:
    made = TestPod(runtime, tmp_path, cgroup)
    try:
        yield made
    finally:
        async with another(home) as last:  # whatever the test did to its own
            made.runtime = last
            await made.remove()
        remove_cgroups(made.cgroup)


class another:
    """A second adapter, as after a restart of the agent."""

    def __init__(self, home: OciHome, *, boot: str = "") -> None:
        self._made = home.adapter(boot=boot)

    async def __aenter__(self) -> Runtime:
        await self._made.start()
        assert (await self._made.state()).problem == ""
        return self._made

    async def __aexit__(self, *exc: object) -> None:
        await self._made.close()
