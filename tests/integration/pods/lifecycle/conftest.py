"""A node that runs pods with crun, containerd or (where PINNACE_CRIO names it) CRI-O, shared images for a module."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop
from rig.containerd import Containerd
from rig.cri import CriHome
from rig.crio import Crio, program
from rig.images import busybox
from rig.oci import OciHome
from rig.podnode import Home, PodNode, pod_node

IMAGE = "pinnace.test/busybox:1"


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop, as in the product."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module", params=["crun", "containerd", *(("crio",) if program() else ())])
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    needed = {"crio": "conmon"}.get(request.param, request.param)
    if os.geteuid() != 0 or shutil.which(needed) is None:
        pytest.skip(f"needs root and {needed}")
    if request.param == "crun":
        with OciHome({IMAGE: busybox()}) as made:
            yield made
    else:
        with Crio() if request.param == "crio" else Containerd() as daemon:
            daemon.add({IMAGE: busybox()})
            yield CriHome(daemon)


@pytest.fixture
async def node(home: Home) -> AsyncIterator[PodNode]:
    async with pod_node(home) as made:
        yield made
