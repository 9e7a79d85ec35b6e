"""Built-in kinds: bodies decoded by their types, defaults, and what is refused in which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pinnace.cloud.standalone import decoding, defaults, quantities, validation
from pinnace.cloud.standalone.kinds import BUILT_IN, Kind
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.status import ApiError
from pinnace.cloud.standalone.typetable import table, type_name

CUSTOM = Kind("x.io", "v1", "boats", "Boat", is_custom=True)


def kind(plural: str, group: str = "") -> Kind:
    found = Registry().get(group, "v1", plural)
    assert found is not None
    return found


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}], **spec}}


def workload(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    return {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}}


def refusals(plural: str, obj: dict[str, Any], old: dict[str, Any] | None = None, group: str = "") -> dict[str, str]:
    """Field → message, after defaults."""
    obj = copy.deepcopy(obj)
    defaults.apply(kind(plural, group), obj, old)
    return {each.field: each.message for each in validation.validate(kind(plural, group), obj, old)}


def test_each_kind_has_its_types() -> None:
    known = set(table())
    for each in BUILT_IN:
        assert type_name(each), each.kind
    plain = {"string", "bytes", "bool", "int32", "int64", "double", "time", "microtime", "quantity", "int-or-string", "any"}
    for found in table().values():
        for field in found.fields.values():
            assert field.replace("[]", "").replace("{}", "") in known | plain


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("1e3", "1e3"), ("100e2", "10e3"), ("0.1Ki", "102400m"),
        ("1000Ki", "1000Ki"), ("0", "0"), ("-5m", "-5m"), ("0.1n", "1n"), ("12E", "12E"), ("1", "1"), (".5", "500m"), ("512", "512"),
    ],
)  # fmt: skip
def test_quantities(text: str, wanted: str) -> None:
    assert quantities.canonical(text) == wanted


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1KB", "1e999", "--1", "9" * 100, "1٣"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        quantities.canonical(text)


def test_decoding_normalises() -> None:
    lease = {"metadata": {"name": "l", "labels": None}, "spec": {"renewTime": "2026-01-01T01:00:00+01:00", "holderIdentity": None}}
    assert decoding.unknown_fields(kind("leases", "coordination.k8s.io"), lease) == []
    assert lease == {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    body = pod(containers=[{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "2048Ki"}}}], activeDeadlineSeconds=5.0)
    decoding.unknown_fields(kind("pods"), body)
    assert body["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1", "memory": "2Mi"}}
    assert body["spec"]["activeDeadlineSeconds"] == 5


def test_unknown_fields_are_told_and_go() -> None:
    body = pod(containers=[{"name": "c", "imagee": "x"}], odd=1)
    body["more"] = {}
    assert decoding.unknown_fields(kind("pods"), body) == ["spec.containers[0].imagee", "spec.odd", "more"]
    assert body == {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    boat = {"metadata": {"name": "b", "foo": 1}, "spec": {"anything": None}}
    assert decoding.unknown_fields(CUSTOM, boat) == ["metadata.foo"]
    assert boat == {"metadata": {"name": "b"}, "spec": {"anything": None}}


@pytest.mark.parametrize(
    ("which", "obj", "why"),
    [
        (kind("configmaps"), {"data": {"a": 1}}, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        (kind("configmaps"), {"data": {"a": {}}}, "json: cannot unmarshal object into Go struct field ConfigMap.data of type string"),
        (kind("secrets"), {"data": {"a": "***"}}, "illegal base64 data at input byte 0"),
        (kind("leases", "coordination.k8s.io"), {"spec": {"renewTime": "yesterday"}},
         'parsing time "yesterday" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "yesterday" as "2006"'),
        (kind("pods"), {"spec": {"containers": {}}},
         "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        (kind("pods"), {"spec": {"containers": [5]}},
         "json: cannot unmarshal number into Go struct field PodSpec.spec.containers of type v1.Container"),
        (kind("pods"), {"spec": {"priority": 1.5}},
         "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32"),
        (kind("pods"), {"spec": {"priority": 1 << 31}},
         "json: cannot unmarshal number 2147483648 into Go struct field PodSpec.spec.priority of type int32"),
        (kind("nodes"), {"status": {"capacity": {"cpu": "x"}}}, quantities.PATTERN_TEXT),
        (kind("services"), {"spec": {"ports": [{"targetPort": True}]}},
         "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type intstr.IntOrString"),
        (CUSTOM, {"metadata": {"labels": "x"}},
         "json: cannot unmarshal string into Go struct field ObjectMeta.labels of type map[string]string"),
        (CUSTOM, {"metadata": []}, "json: cannot unmarshal array into Go struct field Boat.metadata of type v1.ObjectMeta"),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded(which: Kind, obj: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiError) as caught:
        decoding.unknown_fields(which, obj)
    wanted = f'{which.kind} in version "v1" cannot be handled as a {which.kind}: {why}'
    assert (caught.value.code, caught.value.message) == (400, wanted)


def test_defaults_of_pods() -> None:
    made = pod()
    defaults.apply(kind("pods"), made)
    gone = [{"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for why in ("not-ready", "unreachable")]  # fmt: skip
    container = {
        "name": "c", "image": "x", "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always",
    }  # fmt: skip
    assert made["spec"] == {
        "containers": [container], "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "securityContext": {}, "schedulerName": "default-scheduler", "tolerations": gone, "priority": 0, "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }  # fmt: skip
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    again = copy.deepcopy(made)
    defaults.apply(kind("pods"), again, made)
    assert again == made


def test_defaults_of_what_is_in_pods() -> None:
    probe = {"httpGet": {"port": 80}, "periodSeconds": 5}
    container = {
        "name": "c", "image": "r.io:5000/x:1", "ports": [{"containerPort": 80}], "livenessProbe": probe,
        "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }  # fmt: skip
    sources = [{"serviceAccountToken": {"path": "t"}}, {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "f"}}]}}]
    volumes = [{"name": "e"}, {"name": "s", "secret": {"secretName": "s"}}, {"name": "h", "hostPath": {"path": "/"}},
               {"name": "p", "projected": {"sources": sources}}]  # fmt: skip
    made = pod(containers=[container], hostNetwork=True, volumes=volumes, tolerations=[{"operator": "Exists"}], serviceAccountName="r")
    defaults.apply(kind("pods"), made)
    spec = made["spec"]
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert spec["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]
    assert spec["containers"][0]["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 5,
        "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
    }  # fmt: skip
    assert spec["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert (spec["volumes"][0], spec["volumes"][1]["secret"]["defaultMode"], spec["volumes"][2]["hostPath"]["type"]) == (
        {"name": "e", "emptyDir": {}}, 420, "",
    )  # fmt: skip
    assert sources[0] == {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}
    assert sources[1]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] == "v1"  # type: ignore[index]
    assert (spec["tolerations"], spec["serviceAccount"], made["status"]["qosClass"]) == ([{"operator": "Exists"}], "r", "Guaranteed")


@pytest.mark.parametrize(
    ("image", "policy"),
    [("x", "Always"), ("x:latest", "Always"), ("r:5000/x", "Always"), ("x:1", "IfNotPresent"), ("x@sha256:0", "IfNotPresent")],
)
def test_pull_policies(image: str, policy: str) -> None:
    made = pod(containers=[{"name": "c", "image": image}])
    defaults.apply(kind("pods"), made)
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_defaults_of_other_kinds() -> None:
    deployment = workload()
    defaults.apply(kind("deployments", "apps"), deployment)
    assert deployment["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
    assert (deployment["spec"]["replicas"], "enableServiceLinks" in deployment["spec"]["template"]["spec"]) == (1, False)
    service: dict[str, Any] = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1"}}
    defaults.apply(kind("services"), service)
    assert service["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert (service["spec"]["clusterIPs"], service["spec"]["type"]) == (["10.0.0.1"], "ClusterIP")
    changed: dict[str, Any] = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 81}]}}
    defaults.apply(kind("services"), changed, service)
    assert changed["spec"]["clusterIP"] == "10.0.0.1", "what was given stays when a manifest leaves it out"
    secret = {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}
    defaults.apply(kind("secrets"), secret)
    assert secret == {"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}
    node: dict[str, Any] = {"metadata": {"name": "n"}}
    defaults.apply(kind("nodes"), node)
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}
    assert len(node["status"]["nodeInfo"]) == 10, "the Python client insists on all of them"
    claim: dict[str, Any] = {"metadata": {"name": "c", "finalizers": ["a/b"]}, "spec": {}}
    defaults.apply(kind("persistentvolumeclaims"), claim)
    assert (claim["metadata"]["finalizers"], claim["status"]) == (["a/b", "kubernetes.io/pvc-protection"], {"phase": "Pending"})


def test_names_labels_and_owners() -> None:
    def of(which: Kind = CUSTOM, **metadata: Any) -> dict[str, str]:
        return {each.field: each.message for each in validation.validate(which, {"metadata": {"name": "a", **metadata}})}

    assert of(labels={"a.io/b": "c", "d": ""}, annotations={"A.io/B": "anything goes"}, finalizers=["a.io/b"]) == {}
    assert "a lowercase RFC 1123 subdomain must consist of" in of(name="Bad_N")["metadata.name"]
    assert of(name="a" * 254)["metadata.name"].endswith('": must be no more than 253 characters')
    assert "a lowercase RFC 1123 label must consist of" in of(kind("namespaces"), name="a.b")["metadata.name"]
    assert "name part must consist of" in of(labels={"-bad": "x"})["metadata.labels"]
    assert "a valid label must be an empty string or consist of" in of(labels={"a": "x y"})["metadata.labels"]
    assert "name part must consist of" in of(annotations={"bad key": "v"})["metadata.annotations"]
    assert of(annotations={"a": "x" * (256 << 10)})["metadata.annotations"] == "Too long: may not be more than 262144 bytes"
    assert of(finalizers=["nodomain"]) == {}
    why = "name is neither a standard finalizer name nor is it fully qualified"
    assert of(kind("configmaps"), finalizers=["orphan", "nodomain"]) == {"metadata.finalizers[1]": f'Invalid value: "nodomain": {why}'}
    assert of(ownerReferences=[{"kind": "ConfigMap", "name": "owner"}]) == {
        "metadata.ownerReferences.apiVersion": 'Invalid value: "": version must not be empty',
        "metadata.ownerReferences.uid": 'Invalid value: "": must not be empty',
    }
    owner = {"apiVersion": "v1", "kind": "K", "uid": "u", "controller": True}
    assert set(of(ownerReferences=[{**owner, "name": "a"}, {**owner, "name": "b"}])) == {"metadata.ownerReferences"}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"containers": []}, "spec.containers", "Required value"),
        ({"containers": [{"name": "c"}]}, "spec.containers[0].image", "Required value"),
        ({"containers": [{"image": "x"}]}, "spec.containers[0].name", "Required value"),
        ({"initContainers": [{"name": "c", "image": "y"}]}, "spec.initContainers[0].name", 'Duplicate value: "c"'),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy",
         'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'),
        ({"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 0}]}]}, "spec.containers[0].ports[0].containerPort",
         "Invalid value: 0: must be between 1 and 65535, inclusive"),
        ({"containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/"}]}]},
         "spec.containers[0].volumeMounts[0].name", 'Not found: "v"'),
        ({"volumes": [{"name": "v", "secret": {}}]}, "spec.volumes[0].secret.secretName", "Required value"),
        ({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}, "spec.volumes[0].hostPath",
         "Forbidden: may not specify more than 1 volume type"),
        ({"terminationGracePeriodSeconds": -1}, "spec.terminationGracePeriodSeconds",
         "Invalid value: -1: must be greater than or equal to 0"),
        ({"tolerations": [{"effect": "Odd", "operator": "Exists"}]}, "spec.tolerations[0].effect",
         'Unsupported value: "Odd": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'),
        ({"nodeSelector": {"a": "b c"}}, "spec.nodeSelector", None),
    ],
)  # fmt: skip
def test_pods_that_are_refused(spec: dict[str, Any], field: str, message: str | None) -> None:
    found = refusals("pods", pod(**spec))
    assert field in found
    assert message is None or found[field] == message


def test_what_may_change_in_a_pod() -> None:
    old = pod()
    defaults.apply(kind("pods"), old)
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "y"
    new["spec"]["tolerations"].append({"key": "q", "operator": "Exists"})
    new["spec"]["activeDeadlineSeconds"] = 5
    assert refusals("pods", new, old) == {}
    for change in ({"nodeName": "n"}, {"terminationGracePeriodSeconds": 1}, {"hostname": "h"}):
        wrong = copy.deepcopy(old)
        wrong["spec"] |= change
        message = refusals("pods", wrong, old)["spec"]
        assert message.startswith("Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")
    assert validation.validate(kind("pods"), {**old, "spec": {**old["spec"], "nodeName": "n"}}, old, "binding") == []


@pytest.mark.parametrize(
    ("plural", "group", "obj", "field", "message"),
    [
        ("deployments", "apps", workload(replicas=-1), "spec.replicas", "Invalid value: -1: must be greater than or equal to 0"),
        ("deployments", "apps", workload(selector={"matchLabels": {"a": "c"}}), "spec.template.metadata.labels",
         'Invalid value: {"a":"b"}: `selector` does not match template `labels`'),
        ("daemonsets", "apps", workload(selector=None), "spec.selector", "Required value"),
        ("services", "", {"metadata": {"name": "s"}, "spec": {}}, "spec.ports", "Required value"),
        ("services", "", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}, {"port": 2}]}}, "spec.ports[0].name",
         "Required value"),
        ("services", "", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 70000}]}}, "spec.ports[0].port",
         "Invalid value: 70000: must be between 1 and 65535, inclusive"),
        ("secrets", "", {"metadata": {"name": "s"}, "type": "kubernetes.io/tls"}, "data[tls.crt]", "Required value"),
        ("configmaps", "", {"metadata": {"name": "c"}, "data": {"a": "x" * (1 << 20), "b": "y"}}, "[]",
         "Too long: may not be more than 1048576 bytes"),
        ("nodes", "", {"metadata": {"name": "n"}, "spec": {"podCIDR": "zz"}}, "spec.podCIDRs[0]",
         'Invalid value: "zz": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'),
        ("nodes", "", {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "Odd"}]}}, "spec.taints[0].effect",
         'Unsupported value: "Odd": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'),
        ("events", "", {"metadata": {"name": "e", "namespace": "a"}, "involvedObject": {"namespace": "b"}}, "involvedObject.namespace",
         'Invalid value: "b": does not match event.namespace'),
        ("leases", "coordination.k8s.io", {"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}}, "spec.leaseDurationSeconds",
         "Invalid value: 0: must be greater than 0"),
        ("persistentvolumes", "", {"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}},
         "spec", "Required value: must specify a volume type"),
        ("persistentvolumeclaims", "", {"metadata": {"name": "v"}, "spec": {}}, "spec.accessModes",
         "Required value: at least 1 access mode is required"),
        ("storageclasses", "storage.k8s.io", {"metadata": {"name": "s"}}, "provisioner", "Required value"),
        ("storageclasses", "storage.k8s.io", {"metadata": {"name": "s"}, "provisioner": "p", "reclaimPolicy": "Recycle"}, "reclaimPolicy",
         'Unsupported value: "Recycle": supported values: "Delete", "Retain"'),
    ],
)  # fmt: skip
def test_other_kinds_that_are_refused(plural: str, group: str, obj: dict[str, Any], field: str, message: str) -> None:
    assert refusals(plural, obj, None, group).get(field) == message


def test_what_may_not_change() -> None:
    config = {"metadata": {"name": "c"}, "data": {"a": "1"}, "immutable": True}
    why = "Forbidden: field is immutable when `immutable` is set"
    assert refusals("configmaps", {"metadata": {"name": "c"}, "data": {"a": "2"}}, config) == {"immutable": why, "data": why}
    old = {"metadata": {"name": "s"}, "type": "Opaque"}
    assert refusals("secrets", {**old, "type": "x"}, old) == {"type": 'Invalid value: "x": field is immutable'}
    storage_class = {"metadata": {"name": "s"}, "provisioner": "p"}
    defaults.apply(kind("storageclasses", "storage.k8s.io"), storage_class)
    changed = {**storage_class, "provisioner": "q", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": True}
    assert refusals("storageclasses", changed, storage_class, "storage.k8s.io") == {
        "provisioner": "Forbidden: updates to provisioner are forbidden.",
        "volumeBindingMode": 'Invalid value: "WaitForFirstConsumer": field is immutable',
    }
    before = workload()
    defaults.apply(kind("deployments", "apps"), before)
    after = workload(selector={"matchLabels": {"a": "other"}})
    assert refusals("deployments", after, before, "apps")["spec.selector"] == (
        'Invalid value: {"matchLabels":{"a":"other"}}: field is immutable'
    )  # fmt: skip
