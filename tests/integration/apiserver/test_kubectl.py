"""Each kubectl verb against the real server, in the machine's version and in Debian's 1.20."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kubectl

DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
    "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "s", "image": "j:1"}]},
        },
    },
}  # fmt: skip


def config_map(name: str = "a", **content: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": content}


def put(kubectl: Any, *objects: dict[str, Any], verb: str = "create") -> str:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return str(kubectl(verb, "-f", "-", stdin=json.dumps(listed)))


def test_get_in_all_its_forms(kubectl: Any) -> None:
    put(kubectl, config_map("a", k="v"), config_map("b"))
    assert kubectl("get", "cm", "a", "-o", "name") == "configmap/a\n"
    assert kubectl("get", "cm", "a", "-o", "jsonpath={.data.k}") == "v"
    assert json.loads(kubectl("get", "cm", "-o", "json"))["items"][0]["metadata"]["name"] == "a"
    assert "  k: v\n" in kubectl("get", "cm", "a", "-o", "yaml")
    assert kubectl("get", "cm", "a", "-o", "custom-columns=N:.metadata.name", "--no-headers") == "a\n"
    assert "NAME" in kubectl("get", "cm", "-o", "wide")
    assert kubectl("get", "cm", "--chunk-size=1", "-o", "name").split()[:2] == ["configmap/a", "configmap/b"]
    assert kubectl("get", "cm", "--field-selector", "metadata.name=b", "-o", "name") == "configmap/b\n"
    assert "kube-system" in kubectl("get", "cm", "-A")
    missing = kubectl.result("get", "cm", "none")
    assert missing.returncode == 1
    assert 'configmaps "none" not found' in missing.stderr


def test_get_nodes(kubectl: Any) -> None:
    name = f"node-{kubectl.namespace}"
    put(kubectl, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    header, *lines = kubectl("get", "nodes").splitlines()
    assert header.split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert any(line.split()[0] == name for line in lines)
    kubectl("cordon", name)
    assert json.loads(kubectl("get", "node", name, "-o", "json"))["spec"]["unschedulable"] is True
    kubectl("uncordon", name)
    kubectl("taint", "node", name, "k=v:NoSchedule")
    assert json.loads(kubectl("get", "node", name, "-o", "json"))["spec"]["taints"][0]["key"] == "k"
    assert name in kubectl("describe", "node", name)
    kubectl("delete", "node", name)


def columns(text: str) -> list[str]:
    return text.splitlines()[0].split()


def test_tables(kubectl: Any) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"app": "d"}, "ports": ports}}
    put(kubectl, POD, DEPLOYMENT, service)
    header, row = kubectl("get", "pod", "p").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:4] == ["p", "0/1", "Pending", "0"]
    assert columns(kubectl("get", "pod", "p", "-o", "wide"))[-5:] == ["NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert columns(kubectl("get", "deployments")) == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert "c,s" in kubectl("get", "deployment", "d", "-o", "wide")
    assert kubectl("get", "service", "s").splitlines()[1].split()[:5] == ["s", "ClusterIP", "<none>", "<none>", "80/TCP"]
    assert columns(kubectl("get", "pod", "p", "--show-labels"))[-1] == "LABELS"
    assert {"pod/p", "deployment.apps/d", "service/s"} <= {line.split()[0] for line in kubectl("get", "all").splitlines() if "/" in line}
    names = {line.split()[0] for line in kubectl("get", "pods,deployments", "--no-headers").splitlines()}
    assert {"pod/p", "deployment.apps/d"} <= names
    assert columns(kubectl("get", "pods", "-A"))[0] == "NAMESPACE"
    assert kubectl("get", "pods", "--sort-by=.metadata.name", "-o", "name").splitlines()[-1] == "pod/p"


def test_describe(kubectl: Any) -> None:
    put(kubectl, config_map("a", k="v"), POD, DEPLOYMENT)
    assert "k:\n----\nv" in kubectl("describe", "cm", "a")
    assert f"Name:         {kubectl.namespace}" in kubectl("describe", "ns", kubectl.namespace)
    assert ["Status:", "Pending"] in [line.split() for line in kubectl("describe", "pod", "p").splitlines()]
    assert "StrategyType:" in kubectl("describe", "deployment", "d")


def test_validation_of_manifests(kubectl: Any) -> None:
    wrong = {**config_map("a"), "dataa": {"x": "y"}}
    refused = kubectl.result("apply", "-f", "-", stdin=json.dumps(wrong))
    assert refused.returncode == 1
    assert 'unknown field "dataa"' in refused.stderr
    kubectl("apply", "-f", "-", "--validate=false", stdin=json.dumps(wrong))
    container = {
        "name": "c", "image": "i", "resources": {"limits": {"cpu": 1, "memory": "64Mi"}}, "ports": [{"containerPort": 80, "name": "web"}],
        "livenessProbe": {"httpGet": {"port": "web"}}, "env": [{"name": "A", "value": "1"}],
    }  # fmt: skip
    pod = {**POD, "spec": {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 5}}
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    assert kubectl("get", "pod", "p", "-o", "jsonpath={.spec.containers[0].resources.limits.cpu}") == "1"
    refused = kubectl.result("create", "-f", "-", "--validate=false", stdin=json.dumps({**POD, "metadata": {"name": "Bad_Name"}}))
    assert "a lowercase RFC 1123 subdomain must consist of" in refused.stderr


def test_dry_runs_and_diff(kubectl: Any) -> None:
    assert "created (server dry run)" in kubectl("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(DEPLOYMENT))
    put(kubectl, DEPLOYMENT, verb="apply")
    same = kubectl.result("diff", "-f", "-", stdin=json.dumps(DEPLOYMENT))
    assert (same.returncode, same.stdout) == (0, "")
    changed = json.loads(json.dumps(DEPLOYMENT))
    changed["spec"]["replicas"] = 7
    differs = kubectl.result("diff", "-f", "-", stdin=json.dumps(changed))
    assert differs.returncode == 1
    assert "+  replicas: 7" in differs.stdout


def test_explain(kubectl: Any) -> None:
    assert "containers" in kubectl("explain", "pod.spec")
    assert "imagePullPolicy" in kubectl("explain", "pod.spec.containers")


def test_create_from_file_and_by_generator(kubectl: Any) -> None:
    assert put(kubectl, config_map("a")) == "configmap/a created\n"
    again = kubectl.result("create", "-f", "-", stdin=json.dumps(config_map("a")))
    assert "AlreadyExists" in again.stderr
    kubectl("create", "configmap", "b", "--from-literal=k=v")
    assert kubectl("get", "cm", "b", "-o", "jsonpath={.data.k}") == "v"
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.k}") == "dg=="
    kubectl("create", "sa", "robot")
    kubectl("create", "deployment", "d", "--image=i:1")
    assert kubectl("get", "deployment", "d", "-o", "jsonpath={.spec.template.spec.containers[0].image}") == "i:1"
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    assert kubectl("get", "svc", "svc", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    if kubectl.minor >= 24:
        assert kubectl("create", "token", "robot").count(".") == 2
    assert "created (server dry run)" in kubectl("create", "configmap", "dry", "--dry-run=server")


def test_apply(kubectl: Any) -> None:
    assert kubectl("apply", "-f", "-", stdin=json.dumps(config_map("a", k="1", gone="x"))) == "configmap/a created\n"
    assert kubectl("apply", "-f", "-", stdin=json.dumps(config_map("a", k="1", gone="x"))) == "configmap/a unchanged\n"
    assert kubectl("apply", "-f", "-", stdin=json.dumps(config_map("a", k="2"))) == "configmap/a configured\n"
    assert json.loads(kubectl("get", "cm", "a", "-o", "json"))["data"] == {"k": "2"}
    assert kubectl("apply", "-f", "-", stdin=json.dumps(DEPLOYMENT)) == "deployment.apps/d created\n"
    changed = json.loads(json.dumps(DEPLOYMENT))
    changed["spec"]["template"]["spec"]["containers"] = [{"name": "s", "image": "j:2"}]
    assert kubectl("apply", "-f", "-", stdin=json.dumps(changed)) == "deployment.apps/d configured\n"
    containers = json.loads(kubectl("get", "deployment", "d", "-o", "json"))["spec"]["template"]["spec"]["containers"]
    assert [(each["name"], each["image"]) for each in containers] == [("s", "j:2")]
    refused = kubectl.result("apply", "--server-side", "-f", "-", stdin=json.dumps(config_map("a", k="3")))
    assert refused.returncode == 1
    assert "erver-side apply" in refused.stderr


def test_edit(kubectl: Any, tmp_path: Path) -> None:
    put(kubectl, config_map("a", k="before"))
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/before/after/" "$1"\n')
    editor.chmod(0o755)
    assert "edited" in kubectl("edit", "cm", "a", KUBE_EDITOR=str(editor))
    assert kubectl("get", "cm", "a", "-o", "jsonpath={.data.k}") == "after"


def test_patch_of_each_kind(kubectl: Any) -> None:
    put(kubectl, config_map("a", k="1"), DEPLOYMENT)
    kubectl("patch", "cm", "a", "--type=merge", "-p", '{"data":{"m":"2"}}')
    kubectl("patch", "cm", "a", "--type=json", "-p", '[{"op":"replace","path":"/data/k","value":"3"}]')
    assert json.loads(kubectl("get", "cm", "a", "-o", "json"))["data"] == {"k": "3", "m": "2"}
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "s", "image": "j:9"}]}}}}
    kubectl("patch", "deployment", "d", "-p", json.dumps(patch))
    assert kubectl("get", "deployment", "d", "-o", "jsonpath={.spec.template.spec.containers[*].image}") == "i:1 j:9"
    assert "no change" in kubectl("patch", "cm", "a", "--type=merge", "-p", '{"data":{"m":"2"}}')


def test_replace(kubectl: Any) -> None:
    put(kubectl, config_map("a", k="1"))
    stale = kubectl("get", "cm", "a", "-o", "json")
    assert "replaced" in kubectl("replace", "-f", "-", stdin=json.dumps(config_map("a", k="2")))
    conflict = kubectl.result("replace", "-f", "-", stdin=stale)
    assert "the object has been modified" in conflict.stderr
    assert "replaced" in kubectl("replace", "--force", "-f", "-", stdin=json.dumps(config_map("a", k="4")))


def test_delete(kubectl: Any) -> None:
    put(kubectl, config_map("a"), config_map("b"), config_map("c"))
    assert 'configmap "a" deleted' in kubectl("delete", "cm", "a")
    kubectl("label", "cm", "b", "x=1")
    kubectl("delete", "cm", "-l", "x=1")
    kubectl("delete", "pod", "none", "--ignore-not-found")
    names = kubectl("get", "cm", "-o", "name").split()
    assert "configmap/c" in names
    assert not {"configmap/a", "configmap/b"} & set(names)
    kubectl("delete", "ns", kubectl.namespace)
    assert kubectl.result("get", "ns", kubectl.namespace).returncode == 1


def test_label_and_annotate(kubectl: Any) -> None:
    put(kubectl, config_map("a"))
    kubectl("label", "cm", "a", "x=1")
    assert kubectl("get", "cm", "-l", "x=1", "-o", "name") == "configmap/a\n"
    kubectl("label", "cm", "a", "x=2", "--overwrite")
    kubectl("label", "cm", "a", "x-")
    kubectl("annotate", "cm", "a", "n=1")
    metadata = json.loads(kubectl("get", "cm", "a", "-o", "json"))["metadata"]
    assert metadata["annotations"] == {"n": "1"}
    assert "labels" not in metadata


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def until_watching(waiting: Any) -> None:
    """Read what kubectl -v=6 says until it watches."""
    for line in waiting.stderr:
        if "watch=true" in line:
            return
    raise AssertionError("kubectl ended before it watched")


def test_wait_for_deletion(kubectl: Any) -> None:
    put(kubectl, POD | {"metadata": {"name": "p", "finalizers": ["x.io/y"]}})
    kubectl("delete", "pod", "p", "--wait=false")
    waiting = kubectl.background("wait", "--for=delete", "pod/p", "--timeout=20s", "-v=6")
    until_watching(waiting)
    kubectl("patch", "pod", "p", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    out, error = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, out + error


def test_wait_for_a_condition(kubectl: Any) -> None:
    put(kubectl, config_map("a"), DEPLOYMENT)
    waiting = kubectl.background("wait", "--for=condition=Available", "deployment/d", "--timeout=20s", "-v=6")
    until_watching(waiting)
    server = kubectl.server
    condition = {"type": "Available", "status": "True", "reason": "R", "message": "M"}
    patch = json.dumps({"status": {"conditions": [condition]}})
    path = f"/apis/apps/v1/namespaces/{kubectl.namespace}/deployments/d/status"
    request = urllib.request.Request(server.url + path, patch.encode(), {"Content-Type": "application/merge-patch+json"}, method="PATCH")
    with urllib.request.urlopen(request, context=server.context(), timeout=20) as answer:
        assert answer.status == 200
    out, error = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, out + error
    assert "condition met" in out


def test_watch(kubectl: Any) -> None:
    put(kubectl, config_map("a"))
    watching = kubectl.background("get", "cm", "--watch", "-o", "name")
    try:
        assert watching.stdout.readline() == "configmap/a\n"
        put(kubectl, config_map("later"))
        for line in watching.stdout:
            if line == "configmap/later\n":
                break
    finally:
        watching.kill()
        watching.communicate()


def test_scale_set_and_rollout(kubectl: Any) -> None:
    put(kubectl, DEPLOYMENT)
    kubectl("scale", "deployment", "d", "--replicas=3")
    kubectl("set", "image", "deployment/d", "c=i:2")
    kubectl("rollout", "restart", "deployment/d")
    found = json.loads(kubectl("get", "deployment", "d", "-o", "json"))
    assert found["spec"]["replicas"] == 3
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "i:2"
    assert found["metadata"]["generation"] == 4


def test_api_resources_and_version(kubectl: Any) -> None:
    names = {line.split()[0] for line in kubectl("api-resources", "--no-headers").splitlines()}
    assert {"pods", "nodes", "configmaps", "deployments", "leases", "customresourcedefinitions", "endpointslices"} <= names
    assert "apps/v1" in kubectl("api-versions").split()
    assert "1.36" in kubectl("version").replace('Major:"1", Minor:"36"', "1.36")
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"


def test_custom_kinds(kubectl: Any) -> None:
    group = f"{kubectl.namespace}.io"
    column = {"name": "Oars", "type": "integer", "jsonPath": ".spec.oars"}
    oars = {"type": "integer", "maximum": 8, "description": "How many oars it has."}
    spec = {"type": "object", "properties": {"oars": oars}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "additionalPrinterColumns": [column]}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"boats.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"}, "versions": [version]},
    }  # fmt: skip
    put(kubectl, crd, verb="apply")
    kubectl("wait", "--for=condition=Established", f"crd/boats.{group}", "--timeout=20s")
    boat = {"apiVersion": f"{group}/v1", "kind": "Boat", "metadata": {"name": "b"}, "spec": {"oars": 2}}
    kubectl("apply", "-f", "-", stdin=json.dumps(boat))
    assert kubectl("get", f"boats.{group}").splitlines()[0].split() == ["NAME", "OARS"]
    kubectl("patch", f"boats.{group}", "b", "--type=merge", "-p", '{"spec":{"oars":4}}')
    refused = kubectl.result("patch", f"boats.{group}", "b", "--type=merge", "-p", '{"spec":{"oars":99}}')
    assert "spec.oars in body should be less than or equal to 8" in refused.stderr
    assert "How many oars it has." in kubectl("explain", "boats.spec.oars", f"--api-version={group}/v1")
    assert "oars" in kubectl("explain", "boats", f"--api-version={group}/v1", "--recursive")
    kubectl("delete", f"boats.{group}", "b")
    kubectl("delete", "crd", f"boats.{group}")


def test_the_definitions_of_kubeedge(kubectl: Any) -> None:
    folder = Path(__file__).parents[3] / "build" / "crds"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    assert "devices" in names
    listed = kubectl("apply", "-f", str(folder), "-o", "name").split()
    try:
        kubectl("wait", "--for=condition=Established", *listed, "--timeout=20s")
        properties = [{"name": "speed", "desired": {"value": "1"}, "visitors": {"protocolName": "gpio"}}]
        device = {
            "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": {"name": "fan"},
            "spec": {"deviceModelRef": {"name": "m"}, "nodeName": "n", "properties": properties, "protocol": {"protocolName": "gpio"}},
        }  # fmt: skip
        kubectl("apply", "-f", "-", stdin=json.dumps(device))
        kubectl("patch", "device", "fan", "--type=json", "-p", '[{"op":"replace","path":"/spec/properties/0/desired/value","value":"2"}]')
        assert kubectl("get", "device", "fan", "-o", "jsonpath={.spec.properties[0].desired.value}") == "2"
        assert "properties" in kubectl("explain", "device.spec", "--api-version=devices.kubeedge.io/v1beta1")
    finally:
        kubectl("delete", *listed)
