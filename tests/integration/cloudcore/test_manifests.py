"""build/manifests/cloudcore.yaml: the API takes it, cloudcore reads its configuration, and its rights are those cloudcore uses.

The embedded API has no roles, so its rule for cloudcore is replaced by the manifest's for one test: whatever they do not allow is refused.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from rig.cloudcore import settings_for

from pinnace.cloud import server as cloudcore
from pinnace.cloud.kube.definitions import load_definitions
from pinnace.cloud.kube.resources import (
    CLUSTER_OBJECT_SYNCS,
    CONFIG_MAPS,
    DEVICE_STATUSES,
    DEVICES,
    EVENTS,
    NAMESPACES,
    NODES,
    OBJECT_SYNCS,
    PODS,
)
from pinnace.cloud.ports import Object, Resource
from pinnace.cloud.settings import CloudCoreSettings
from pinnace.cloud.standalone import access
from pinnace.core.base.settings.loader import load

from .conftest import LIGHT, NODE, World, api_server

BUILD = Path(__file__).resolve().parents[3] / "build"
MANIFEST = BUILD / "manifests" / "cloudcore.yaml"
PROFILE = f"device-profile-config-{NODE}"
RARE = {
    ("devices.kubeedge.io", "devices", "get", ""),
    ("", "persistentvolumes", "get", ""), ("", "persistentvolumeclaims", "get", ""),
    ("storage.k8s.io", "volumeattachments", "get", ""),
}  # fmt: skip
"""Rights that are used only when somebody else writes at the same moment (unit/cloud/controllers/test_reports.py), by pods with
persistent volumes (test_pods.py), or for a kind that the embedded API does not have."""
SERVED = {
    "ServiceAccount": Resource("", "v1", "serviceaccounts", "ServiceAccount", True),
    "ConfigMap": CONFIG_MAPS,
    "Service": Resource("", "v1", "services", "Service", True),
    "Deployment": Resource("apps", "v1", "deployments", "Deployment", True),
}


def documents() -> list[Object]:
    return [each for each in yaml.safe_load_all(MANIFEST.read_text()) if each]


def only(kind: str, name: str = "cloudcore") -> Object:
    (found,) = [each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


class Right(NamedTuple):
    """One verb on one resource: in one namespace or, with "", in all; of one name or, with "", of all."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""


def rights() -> set[Right]:
    found = set()
    for role in documents():
        if role["kind"] in {"ClusterRole", "Role"}:
            namespace = role["metadata"].get("namespace", "")
            for rule in role["rules"]:
                for group in rule["apiGroups"]:
                    found |= {
                        Right(group, resource, verb, namespace, name)
                        for resource in rule["resources"] for verb in rule["verbs"] for name in rule.get("resourceNames", [""])
                    }  # fmt: skip
    return found


class Judge:
    """Decides by the manifest's rights, and remembers which were used and what was refused."""

    def __init__(self) -> None:
        self.rights = rights()
        self.used: set[Right] = set()
        self.refused: set[Right] = set()

    def allows(self, attempt: access.Attempt) -> bool:
        asked = Right(attempt.group, attempt.resource, attempt.verb, attempt.namespace, attempt.name)
        matching = {
            each for each in self.rights
            if each[:3] == asked[:3] and each.namespace in {"", asked.namespace} and each.name in {"", asked.name}
        }  # fmt: skip
        self.used |= matching
        if not matching:
            self.refused.add(asked)
        return bool(matching)


async def test_the_api_takes_every_object(tmp_path: Path) -> None:
    async with api_server(tmp_path) as api:
        namespace = only("Namespace", "kubeedge")
        assert (await api.patch(NAMESPACES, "kubeedge", namespace))["metadata"]["name"] == "kubeedge"  # the embedded API makes it itself
        for each in documents():
            if each["kind"] in SERVED:
                made = await api.create(SERVED[each["kind"]], each, "kubeedge")
                assert made["metadata"]["namespace"] == each["metadata"]["namespace"]
    kinds = {each["kind"] for each in documents()}
    assert kinds - SERVED.keys() == {"Namespace", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def test_names_agree() -> None:
    roles = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in documents()}
    for binding in documents():
        if binding["kind"].endswith("Binding"):
            reference = binding["roleRef"]
            assert (reference["kind"], binding["metadata"].get("namespace"), reference["name"]) in roles
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "cloudcore", "namespace": "kubeedge"}]
    pod = only("Deployment")["spec"]["template"]
    ports = {each["name"]: each["containerPort"] for each in pod["spec"]["containers"][0]["ports"]}
    for service in (only("Service"), only("Service", "cloudcore-nodes")):
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports.keys()
    doors = {each["targetPort"]: each["port"] for each in only("Service", "cloudcore-nodes")["spec"]["ports"]}
    assert doors == {name: ports[name] for name in ("hub", "bootstrap", "streams", "tunnel")}, "as nodes and the record name them"
    assert pod["spec"]["serviceAccountName"] == "cloudcore"
    assert pod["spec"]["volumes"][0]["configMap"]["name"] == "cloudcore"
    named = {right.name for right in rights() if right.resource == "customresourcedefinitions" and right.name}
    assert named == {each["metadata"]["name"] for each in load_definitions(BUILD / "crds")}


def test_cloudcore_reads_its_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "cloudcore.yaml"
    file.write_text(only("ConfigMap")["data"]["cloudcore.yaml"])
    with caplog.at_level(logging.WARNING):
        settings = load(file, CloudCoreSettings)
    assert not caplog.records
    modules = settings.modules
    ports = {each["name"]: each["containerPort"] for each in only("Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert ports == {
        "hub": modules.cloud_hub.websocket.port, "bootstrap": modules.cloud_hub.https.port, "conversion": modules.conversion.port,
        "streams": modules.cloud_stream.stream_port, "tunnel": modules.cloud_stream.tunnel_port,
    }  # fmt: skip
    service = only("Service")
    assert modules.conversion.service_parts() == ("kubeedge", "cloudcore", service["spec"]["ports"][0]["port"])
    assert modules.cloud_hub.advertise_address


async def test_its_rights_are_those_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge()
    monkeypatch.setattr(access, "_cloudcore", judge.allows)
    async with api_server(tmp_path) as api:
        await _an_old_definition(api)
        async with cloudcore.serving(settings_for(tmp_path)) as running:
            await _everything(World(tmp_path, api, running))
            assert await _ask_for_streams(tmp_path, running.stream_port) == [401, 404, 502]
        await _expire(api)
        async with cloudcore.serving(settings_for(tmp_path)) as running, World(tmp_path, api, running).connected("again"):
            pass
    assert judge.refused == set()
    assert {right[:4] for right in judge.rights} - {right[:4] for right in judge.used} <= RARE


async def _ask_for_streams(folder: Path, port: int) -> list[int]:
    """With a token that is nobody's; of a pod that is not there; of a node without a tunnel."""
    user = yaml.safe_load((folder / "admin.kubeconfig").read_text())["users"][0]["user"]
    (folder / "pair").write_bytes(b"".join(base64.b64decode(user[part]) for part in ("client-certificate-data", "client-key-data")))
    statuses = []
    for is_known, path, header in (
        (False, "/metrics", "Authorization: Bearer x"),
        (True, "/containerLogs/default/none/c", "Accept: */*"),
        (True, "/metrics", f"X-Forwarded-Uri: /api/v1/nodes/{NODE}/proxy/metrics"),
    ):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if is_known:
            context.load_cert_chain(folder / "pair")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        statuses.append(int((await reader.read()).split()[1]))
        writer.close()
    return statuses


async def _an_old_definition(api: Any) -> None:
    """What an earlier release has left: the definition of models without a conversion."""
    definitions = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
    old = next(each for each in load_definitions(BUILD / "crds") if each["metadata"]["name"].startswith("devicemodels"))
    await api.create(definitions, {**old, "spec": {key: value for key, value in old["spec"].items() if key != "conversion"}})


async def _expire(api: Any) -> None:
    """Spoil what the first cloudcore stored, so that the second one replaces it."""
    secrets = Resource("", "v1", "secrets", "Secret", True)
    for name, key in (("tokensecret", "tokendata"), ("cloudcoresecret", "cloudcoredata")):
        await api.patch(secrets, name, {"data": {key: "eA=="}}, "kubeedge")


async def _everything(world: World) -> None:
    """Each thing that cloudcore does for nodes and devices, once."""
    api = world.api
    async with world.connected() as node:
        await world.apply_sample()
        await node.pushed("insert", f"default/configmap/{PROFILE}")
        await node.pushed("insert", f"default/device/{LIGHT}")
        await node.ask("patch", f"null/nodepatch/{NODE}", '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}')
        await node.ask("query", f"null/node/{NODE}")
        await node.ask("update", f"null/node/{NODE}", {"metadata": {"name": NODE, "labels": {"room": "7"}}})
        lease = {"metadata": {"name": NODE, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": NODE}}
        await node.ask("query", f"kube-node-lease/lease/{NODE}")
        made = await node.ask("insert", f"kube-node-lease/lease/{NODE}", lease)
        await node.ask("update", f"kube-node-lease/lease/{NODE}", made["content"]["Object"])
        event = {
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Node", "name": NODE, "namespace": "default"},
        }
        await node.send("insert", "default/event/e", event | {"message": "first"})
        await node.send("update", "default/event/e", event | {"message": "second"})
        await node.send("patch", "default/event/e", {"event": event, "patchData": '{"message":"third"}'})
        await world.until(lambda: api.list(EVENTS, "default"), lambda answer: "third" in str(answer[0]))
        number = await node.report(f"default/{LIGHT}", {"red": "ON"})
        await node.saw(lambda message: message["header"].get("parent_msg_id") == number)
        await world.until(lambda: api.list(DEVICE_STATUSES, "default"), lambda answer: "'ON'" in str(answer[0]))
        await node.report(f"default/{LIGHT}", {"red": "DIM"}, version=2)
        await world.until(lambda: api.list(DEVICE_STATUSES, "default"), lambda answer: "'DIM'" in str(answer[0]))
        await api.patch(CONFIG_MAPS, PROFILE, {"data": {"deviceProfile.json": "spoiled"}}, "default")
        await world.until(lambda: api.get(CONFIG_MAPS, PROFILE, "default"), lambda answer: "spoiled" not in str(answer))
        pod = {
            "metadata": {"name": "p"},
            "spec": {
                "nodeName": NODE, "containers": [{"name": "c", "image": "i"}],
                "volumes": [{"name": "a", "configMap": {"name": "a"}}, {"name": "b", "secret": {"secretName": "b"}}],
            },
        }  # fmt: skip
        secrets = Resource("", "v1", "secrets", "Secret", True)
        await api.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"x": "1"}}, "default")
        await api.create(secrets, {"metadata": {"name": "b"}, "stringData": {"x": "1"}}, "default")
        await api.create(PODS, pod, "default")
        await node.pushed("update", "default/secret/b")
        uid = (await node.pushed("insert", "default/pod/p"))["content"]["metadata"]["uid"]
        await node.ask("patch", "default/podpatch/p", {"metadata": {"uid": uid}, "status": {"phase": "Running"}})
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}
        token = await node.ask("query", "default/serviceaccounttoken/default", {"spec": {"boundObjectRef": bound}})
        assert token["route"]["operation"] == "response"
        await node.ask("query", "default/volumeattachment/none")
        mirror = {
            "metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "1"}},
            "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]},
        }
        assert (await node.ask("insert", "default/pod/m", mirror))["content"]["Err"] is None
        assert (await node.ask("query", "default/pod/m"))["content"]["metadata"]["name"] == "m"
        assert (await node.ask("delete", "default/pod/m", {}))["content"] == "OK"
        for kind, name in (("configmap", "a"), ("secret", "b")):
            assert (await node.ask("query", f"default/{kind}/{name}"))["route"]["operation"] == "response"
    await api.delete(DEVICES, LIGHT, "default")
    await world.until(lambda: api.list(CONFIG_MAPS, "default"), lambda answer: PROFILE not in str(answer[0]))
    await api.delete(NODES, NODE)
    await world.until(lambda: api.list(OBJECT_SYNCS), lambda answer: not answer[0])
    await world.until(lambda: api.list(CLUSTER_OBJECT_SYNCS), lambda answer: not answer[0])
