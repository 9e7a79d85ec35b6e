"""One suite over the runtimes: `pod` is a test's pod on each of them in turn."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from contract.runtime.installations import EMULATED, EVERY, FAKES, INSTALLATIONS, Installation
from contract.runtime.pods import TestPod, remove_cgroups

from pinnace.core.base.runtime import Runtime


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "installation" in metafunc.fixturenames:
        is_bookkeeping = metafunc.definition.get_closest_marker("bookkeeping") is not None
        names = (*EVERY, *(FAKES if is_bookkeeping else ())) if "PINNACE_MACHINE" not in os.environ else EMULATED
        marks = [pytest.mark.containers, pytest.mark.root]
        parameters = [pytest.param(name, marks=() if name in FAKES else marks) for name in names]
        metafunc.parametrize("installation", parameters, indirect=True, scope="session")


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    name = str(request.param)
    if name not in FAKES:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        for program in {"cri": ("containerd",), "crio": ("runc", "conmon")}.get(name, ("crun",)):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
    with INSTALLATIONS[name](tmp_path_factory.mktemp(name)) as made:
        yield made


@pytest.fixture(scope="session")
def cgroup() -> Iterator[str]:
    """A cgroup of the suite's own."""
    path = f"/pinnace-test-{secrets.token_hex(4)}"
    yield path
    remove_cgroups(path)


@pytest.fixture
async def runtime(installation: Installation) -> AsyncIterator[Runtime]:
    """An adapter that runs."""
    made = installation.adapter()
    await made.start()
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.close()


@pytest.fixture
async def pod(runtime: Runtime, tmp_path: Path, cgroup: str) -> AsyncIterator[TestPod]:
    made = TestPod(runtime, tmp_path, cgroup)
    try:
        yield made
    finally:
        await made.remove()
        remove_cgroups(made.cgroup)
