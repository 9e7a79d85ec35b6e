"""A node that was switched off comes back with no network: its pods run again from the store alone; what the cloud changed meanwhile is
made good afterwards, and nothing that lives is touched."""

from __future__ import annotations

from typing import Any

import pytest
from rig import nodepods as pods
from rig.kube import KubeClient
from rig.powercut import local_pods, power_cut
from rig.system import System, eventually

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.mosquitto, pytest.mark.timeout(300)]


async def test_ten_pods_come_back_with_no_network_and_are_left_alone_when_it_returns(node: tuple[System, KubeClient]) -> None:
    system, kube = node
    before = await pods.run_every_kind(kube, system)

    await system.cloud.kill()
    await power_cut(system)
    await system.edge.start()
    expected = {name: {each: count + 1 for each, count in pods.restarts(body).items()} for name, body in before.items()}

    def are_back(found: dict[str, Any]) -> bool:
        return all(name in found and pods.is_running(found[name]) and pods.restarts(found[name]) == expected[name] for name in before)

    here = await eventually(lambda: local_pods(system), are_back, system)
    assert {name: here[name]["metadata"]["uid"] for name in before} == {name: body["metadata"]["uid"] for name, body in before.items()}

    # Meanwhile one is deleted in the cloud and another is made there.
    assert (await kube.ask("DELETE", f"{pods.PODS}/plain"))[0] in (200, 202)
    await pods.create(kube, pods.pod("newcomer"))
    await system.cloud.start()
    kept = [name for name in before if name != "plain"]
    await pods.until_running(kube, system, *kept, "newcomer")
    await eventually(lambda: kube.ask("GET", f"{pods.PODS}/plain"), lambda answer: answer[0] == 404, system)
    wanted = {name: pods.container_ids(here[name]) for name in kept}

    def are_told(answer: Any) -> bool:
        found = {each["metadata"]["name"]: each for each in answer["items"]}
        return {name: pods.container_ids(found[name]) for name in kept} == wanted

    answer = await eventually(lambda: kube.get(pods.PODS), are_told, system)
    assert not [each["metadata"]["name"] for each in answer["items"] if "deletionTimestamp" in each["metadata"]]
    there = await eventually(lambda: local_pods(system), lambda found: set(found) == {*kept, "newcomer"}, system)
    assert {name: pods.container_ids(there[name]) for name in kept} == wanted, "a pod was restarted by the reconnect"
