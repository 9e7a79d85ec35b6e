"""ConfigMaps and Secrets reach the nodes whose pods use them, and nobody else."""

from __future__ import annotations

import json
from typing import Any

from pinnace.cloud.kube.resources import CONFIG_MAPS, DEVICES, PODS, SECRETS

EDGE = "edge-1"
NODE = "192.168.4.22-pi2"
LIGHT = "traffic-light-instance-01"


def config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "stringData": data}


def pod(name: str, node: str) -> dict[str, Any]:
    volumes = [{"name": "c", "configMap": {"name": "settings"}}]
    container = {"name": "one", "image": "i", "envFrom": [{"secretRef": {"name": "password"}}]}
    spec = {"nodeName": node, "containers": [container], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def test_they_come_with_the_pod_follow_changes_and_go_with_it(world: Any) -> None:
    await world.api.create(CONFIG_MAPS, config("settings", x="1"), "default")
    await world.api.create(SECRETS, secret("password", p="geheim"), "default")
    await world.api.create(CONFIG_MAPS, config("unrelated", x="1"), "default")
    async with world.connected("other") as other, world.connected(EDGE) as node:
        await world.api.create(PODS, pod("p", EDGE), "default")
        push = await node.pushed("insert", "default/configmap/settings")
        assert push["route"]["source"] == "edgecontroller"
        assert (push["content"]["kind"], push["content"]["data"]) == ("ConfigMap", {"x": "1"})
        push = await node.pushed("update", "default/secret/password")
        assert push["content"]["data"] == {"p": "Z2VoZWlt"}

        start = len(node.received)
        changed = await world.api.patch(CONFIG_MAPS, "settings", {"data": {"x": "2"}}, "default")
        push = await node.pushed("update", "default/configmap/settings", after=start)
        assert push["content"]["data"] == {"x": "2"}
        assert push["header"]["resourceversion"] == changed["metadata"]["resourceVersion"]

        answer = await node.ask("query", "default/configmap/settings")
        assert answer["route"]["operation"] == "response"
        assert answer["content"]["kind"] == "ConfigMap"
        assert answer["header"]["resourceversion"] == changed["metadata"]["resourceVersion"]
        for stranger, resource in (
            (other, "default/configmap/settings"),
            (other, "default/secret/password"),
            (node, "default/configmap/unrelated"),
        ):
            answer = await stranger.ask("query", resource)
            assert answer["route"]["operation"] == "error"

        await world.api.delete(PODS, "p", "default", body={"gracePeriodSeconds": 0})
        await node.pushed("delete", "default/configmap/settings")
        await node.pushed("delete", "default/secret/password")
        answer = await node.ask("query", "default/secret/password")
        assert answer["route"]["operation"] == "error"
        pushed = {each["route"]["resource"] for each in [*node.received, *other.received] if "parent_msg_id" not in each["header"]}
        own = {"default/configmap/settings", "default/secret/password", "default/configmap/kube-root-ca.crt", "default/pod/p"}
        assert pushed == {"null/node/other", f"null/node/{EDGE}"} | own
        assert not any(each["route"]["resource"] in own and "parent_msg_id" not in each["header"] for each in other.received)


async def test_a_missing_one_is_an_error_and_comes_when_it_is_made(world: Any) -> None:
    async with world.connected(EDGE) as node:
        await world.api.create(PODS, pod("p", EDGE), "default")
        answer = await world.until(
            lambda: node.ask("query", "default/configmap/settings"), lambda each: "not found" in str(each["content"])
        )
        assert answer["route"]["operation"] == "error"
        await world.api.create(CONFIG_MAPS, config("settings", x="1"), "default")
        await node.pushed("insert", "default/configmap/settings")


async def test_the_profile_of_a_nodes_devices_is_its_own(world: Any) -> None:
    async with world.connected("other") as other, world.connected(EDGE) as node:
        await world.api.create(CONFIG_MAPS, config(f"device-profile-config-{EDGE}", profile="{}"), "default")
        await node.pushed("insert", f"default/configmap/device-profile-config-{EDGE}")
        answer = await other.ask("query", f"default/configmap/device-profile-config-{EDGE}")
        assert answer["route"]["operation"] == "error"
        assert (await node.ask("query", f"default/configmap/device-profile-config-{EDGE}"))["content"]["data"] == {"profile": "{}"}


async def test_a_profile_is_made_kept_and_taken_away(world: Any) -> None:
    name = f"device-profile-config-{NODE}"
    async with world.connected() as node:
        await world.apply_sample()
        push = await node.pushed("insert", f"default/configmap/{name}")
        made = json.loads(push["content"]["data"]["deviceProfile.json"])
        assert made["deviceInstances"] == [{"id": LIGHT, "name": LIGHT, "model": "traffic-light"}]
        await world.api.delete(CONFIG_MAPS, name, "default")
        await world.until(
            lambda: world.api.list(CONFIG_MAPS, "default"), lambda answer: name in {each["metadata"]["name"] for each in answer[0]}
        )
        await world.api.delete(DEVICES, LIGHT, "default")
        await world.until(
            lambda: world.api.list(CONFIG_MAPS, "default"), lambda answer: name not in {each["metadata"]["name"] for each in answer[0]}
        )


async def test_somebody_elses_profile_is_left_alone(world: Any) -> None:
    own = await world.api.create(CONFIG_MAPS, config(f"device-profile-config-{NODE}", mine="1"), "default")
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/device/{LIGHT}")
        assert await world.api.get(CONFIG_MAPS, f"device-profile-config-{NODE}", "default") == own
