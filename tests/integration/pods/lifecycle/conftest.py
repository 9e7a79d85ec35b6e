"""A node that runs pods with crun, shared images for a module."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from rig.images import busybox
from rig.oci import OciHome
from rig.podnode import PodNode

IMAGE = "pinnace.test/busybox:1"


@pytest.fixture(scope="module")
def home() -> Iterator[OciHome]:
    if os.geteuid() != 0 or shutil.which("crun") is None:
        pytest.skip("needs root and crun")
    with OciHome({IMAGE: busybox()}) as made:
        yield made


@pytest.fixture
async def node(home: OciHome) -> AsyncIterator[PodNode]:
    made = PodNode(home, Path(tempfile.mkdtemp(prefix="pin-pods-")))
    await made.start()
    try:
        yield made
    finally:
        await made.close()
