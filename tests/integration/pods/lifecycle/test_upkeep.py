"""What keeps a node in order, with containers of crun and over CRI: logs that lost their names, files that grew, containers that ended."""

from __future__ import annotations

import pytest
from rig.podnode import PodNode
from rig.pods import Object
from rig.pods import pod as any_pod

from pinnace.core.pods.upkeep.logs import LogRotation

pytestmark = [pytest.mark.containers, pytest.mark.root]

IMAGE = "pinnace.test/busybox:1"


def pod(name: str, script: str, **own: Object) -> Object:
    main = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", script], **own}
    return any_pod(name, containers=[main], hostNetwork=True, terminationGracePeriodSeconds=3)


async def test_a_log_that_somebody_removed_goes_on(node: PodNode) -> None:
    await node.apply(pod("speaks", "while :; do echo line; sleep 0.05; done"))
    await node.until_phase("speaks", "Running")
    (container,) = await node.running()
    log = container.log_path
    await node.until(lambda: log.exists() and b"line" in log.read_bytes(), "the first lines")
    log.unlink()
    await LogRotation(node.runtime, max_size="10Mi", max_files=2).look()
    await node.until(lambda: log.exists() and b"line" in log.read_bytes(), "lines in a file of that name")
