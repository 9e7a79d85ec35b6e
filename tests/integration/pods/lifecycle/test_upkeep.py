"""What keeps a node in order, with containers of crun and over CRI: logs that lost their names, files that grew, containers that ended."""

from __future__ import annotations

from typing import Any

import pytest
from rig.podnode import PodNode
from rig.pods import Object
from rig.pods import pod as any_pod

from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.upkeep.collecting import ContainerCollector
from pinnace.core.pods.upkeep.eviction import Evictor
from pinnace.core.pods.upkeep.logs import LogRotation
from pinnace.core.pods.upkeep.measuring import Measures

pytestmark = [pytest.mark.containers, pytest.mark.root]

IMAGE = "pinnace.test/busybox:1"


def pod(name: str, script: str, **own: Any) -> Object:
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


FILL = """
if test -e /kept/once; then
  echo filling; echo too much > /dev/termination-log
  head -c 3000000 /dev/zero > /etc/hosts; touch /kept/full
  exec sleep 1000
fi
touch /kept/once; exit 3
"""


async def test_who_fills_etc_hosts_is_evicted_and_leaves_its_status_and_its_log(node: PodNode) -> None:
    kept = node.folder / "kept"
    body = pod("fills", FILL, resources={"limits": {"ephemeral-storage": "1Mi"}}, volumeMounts=[{"name": "kept", "mountPath": "/kept"}])
    body["spec"]["volumes"] = [{"name": "kept", "hostPath": {"path": str(kept), "type": "DirectoryOrCreate"}}]
    await node.apply(body)
    await node.until((kept / "full").exists, "a full /etc/hosts")
    log = next(each.log_path for each in await node.running())
    measures = Measures(node.runtime, node.cgroups, pods_dir=node.settings.root_directory / "pods", logs_dir=node.settings.pod_logs_dir)
    await Evictor(measures, node.service, node.events, KubeletSettings(eviction_hard={})).look()
    await node.until(lambda: node.api("fills").get("phase") == "Failed", "the eviction in the API")
    told = node.api("fills")
    assert (told["reason"], told["message"]) == ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ")

    await ContainerCollector(node.runtime, node.service, node.settings.pod_logs_dir).collect()
    assert not await node.runtime.containers()
    assert not await node.runtime.sandboxes()
    assert b"filling" in log.read_bytes()

    await node.stop()
    await node.start()
    await node.apply(pod("next", "exec sleep 1000"))
    await node.until(lambda: node.api("next").get("phase") == "Running", "another pod")
    assert node.status("fills")["reason"] == "Evicted"
    assert node.api("fills") == told
    (status,) = told["containerStatuses"]
    assert status["restartCount"] == 1
    assert status["state"]["terminated"]["message"] == "too much\n"
    await node.delete("fills")
    await node.until(lambda: "fills" not in node.cloud.pods, "the deletion")
