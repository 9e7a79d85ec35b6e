"""A node that runs pods with crun or containerd, shared images for a module."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from rig.containerd import Containerd, ContainerdHome
from rig.images import busybox
from rig.oci import OciHome
from rig.podnode import Home, PodNode, pod_node

IMAGE = "pinnace.test/busybox:1"


@pytest.fixture(scope="module", params=["crun", "containerd"])
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    if os.geteuid() != 0 or shutil.which(request.param) is None:
        pytest.skip(f"needs root and {request.param}")
    if request.param == "crun":
        with OciHome({IMAGE: busybox()}) as made:
            yield made
    else:
        with Containerd() as daemon:
            daemon.add({IMAGE: busybox()})
            yield ContainerdHome(daemon)


@pytest.fixture
async def node(home: Home) -> AsyncIterator[PodNode]:
    async with pod_node(home) as made:
        yield made
