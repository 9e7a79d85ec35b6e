"""Tables: ages, JSON paths, the cells of built-in and custom kinds."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cloud.standalone import jsonpath, printing
from pinnace.cloud.standalone.ages import age, duration
from pinnace.cloud.standalone.kinds import BUILT_IN, Kind
from pinnace.cloud.standalone.registry import Registry

NOW = 1_800_000_000.0
THEN = "2027-01-15T07:59:00Z"
"""A minute before NOW."""


def cells(plural: str, obj: dict[str, Any], group: str = "") -> dict[str, Any]:
    """The row by column name."""
    kind = Registry().get(group, "v1", plural)
    assert kind is not None
    obj = {"metadata": {"name": "x", "creationTimestamp": THEN, **obj.pop("metadata", {})}, **obj}
    return dict(zip((each["name"] for each in printing.columns(kind)), printing.cells(kind, obj, NOW), strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (75, "75s"), (120, "2m"), (301, "5m1s"), (3660, "61m"), (18000, "5h"), (18180, "5h3m"),
        (108000, "30h"), (190800, "2d5h"), (3456000, "40d"), (94608000 + 432000, "3y5d"), (283824000, "9y"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ages() -> None:
    assert [age(each, NOW) for each in (THEN, None, "", "yesterday", "2027-01-15T07:59:30.500000Z")] == [
        "60s",
        "<unknown>",
        "<unknown>",
        "<invalid>",
        "29s",
    ]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".spec.n", [2]), (".spec.tags[*]", ["x", "y"]), (".spec.tags[-1]", ["y"]), (".spec.tags[0:1]", ["x"]), (".spec.none", []),
        (r".metadata.annotations.a\.b/c", ["1"]), (".metadata.annotations['a.b/c']", ["1"]), (".spec.tags[7]", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]), (".status.conditions[?(@.type=='None')].status", []),
        (".status.conditions[?(@.n>1)].n", [2]), (".status.conditions[?(@.n)].n", [1, 2]), (".spec.n.x", []), (".spec.*", [2, ["x", "y"]]),
    ],
)  # fmt: skip
def test_json_paths(path: str, values: list[Any]) -> None:
    obj = {
        "metadata": {"annotations": {"a.b/c": "1"}},
        "spec": {"n": 2, "tags": ["x", "y"]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "n": 1}, {"type": "Other", "n": 2}, {}]},
    }
    assert jsonpath.compiled(path)(obj) == values


@pytest.mark.parametrize("path", ["spec", ".spec[", ".a..b", "{.x}", ".x[?(@.y=="])
def test_json_paths_that_are_none(path: str) -> None:
    with pytest.raises(jsonpath.BadPath):
        jsonpath.compiled(path)


@pytest.mark.parametrize("kind", [kind for kind in BUILT_IN if "get" in kind.verbs], ids=lambda kind: f"{kind.plural}.{kind.group}")
def test_the_barest_object_has_a_cell_for_each_column(kind: Kind) -> None:
    assert len(printing.cells(kind, {"metadata": {"name": "x"}}, NOW)) == len(printing.columns(kind))


def test_nodes() -> None:
    info = {"kubeletVersion": "v1.32", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "crun://1"}
    addresses = [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "2001:db8::1"}]
    node = {
        "metadata": {"labels": {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}},
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "nodeInfo": info, "addresses": addresses},
    }
    assert list(cells("nodes", node).values()) == [
        "x", "NotReady,SchedulingDisabled", "agent,edge", "60s", "v1.32", "192.0.2.1", "<none>", "Debian", "6.1", "crun://1",
    ]  # fmt: skip
    bare = cells("nodes", {})
    assert (bare["Status"], bare["Roles"], bare["Version"], bare["OS-Image"]) == ("Unknown", "<none>", "", "<unknown>")


def container(name: str = "c", *, ready: bool = False, restarts: int = 0, last: str = "", **state: Any) -> dict[str, Any]:
    made = {"name": name, "ready": ready, "restartCount": restarts, "state": state}
    return made | ({"lastState": {"terminated": {"finishedAt": last}}} if last else {})


def pod(*statuses: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **rest: Any) -> dict[str, Any]:
    spec = {
        "containers": [{"name": each["name"]} for each in statuses] or [{"name": "c"}],
        "initContainers": [{"name": each["name"]} for each in init],
    }
    status = {"phase": "Running", "containerStatuses": list(statuses), "initContainerStatuses": list(init), **rest.pop("status", {})}
    return {"spec": spec, "status": status, **rest}


@pytest.mark.parametrize(
    ("obj", "ready", "status", "restarts"),
    [
        (pod(status={"phase": "Pending"}), "0/1", "Pending", "0"),
        (pod(container(ready=True, running={})), "1/1", "Running", "0"),
        (pod(container("a", ready=True, running={}, restarts=3, last="2027-01-15T07:54:59Z"), container("b", running={})),
         "1/2", "Running", "3 (5m1s ago)"),
        (pod(container(waiting={"reason": "CrashLoopBackOff"}, restarts=4)), "0/1", "CrashLoopBackOff", "4"),
        (pod(container(terminated={"exitCode": 3})), "0/1", "ExitCode:3", "0"),
        (pod(container(terminated={"exitCode": 137, "signal": 9})), "0/1", "Signal:9", "0"),
        (pod(container(terminated={"reason": "Completed"}), status={"phase": "Succeeded"}), "0/1", "Completed", "0"),
        (pod(container("a", terminated={"reason": "Completed"}), container("b", ready=True, running={})), "1/2", "NotReady", "0"),
        (pod(init=(container("i", running={}),), status={"phase": "Pending"}), "0/1", "Init:0/1", "0"),
        (pod(init=(container("i", terminated={"exitCode": 1, "reason": "Error"}, restarts=2),)), "0/1", "Init:Error", "2"),
        (pod(container(ready=True, running={}), init=(container("i", terminated={"exitCode": 0}),)), "1/1", "Running", "0"),
        (pod(container(ready=True, running={}), metadata={"deletionTimestamp": THEN}), "1/1", "Terminating", "0"),
        (pod(metadata={"deletionTimestamp": THEN}, status={"reason": "NodeLost"}), "0/1", "Unknown", "0"),
        (pod(status={"reason": "Evicted", "phase": "Failed"}), "0/1", "Evicted", "0"),
    ],
)  # fmt: skip
def test_pods(obj: dict[str, Any], ready: str, status: str, restarts: str) -> None:
    row = cells("pods", obj)
    assert (row["Ready"], row["Status"], row["Restarts"]) == (ready, status, restarts)
    assert (row["IP"], row["Node"], row["Nominated Node"], row["Readiness Gates"]) == ("<none>",) * 4


def test_services() -> None:
    ports = [{"port": 80, "protocol": "TCP"}, {"port": 443, "nodePort": 30443, "protocol": "UDP"}]
    row = cells("services", {"spec": {"ports": ports, "selector": {"b": "2", "a": "1"}, "clusterIP": "None"}})
    assert list(row.values()) == ["x", "ClusterIP", "None", "<none>", "80/TCP,443:30443/UDP", "60s", "a=1,b=2"]
    assert cells("services", {"spec": {"type": "LoadBalancer"}})["External-IP"] == "<pending>"
    assert cells("services", {"spec": {"type": "ExternalName", "externalName": "a.b"}})["External-IP"] == "a.b"


def test_workloads() -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}], "nodeSelector": {"n": "1"}}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": template}
    row = cells("deployments", {"spec": spec, "status": {"readyReplicas": 2, "updatedReplicas": 1}}, "apps")
    assert list(row.values()) == ["x", "2/3", 1, 0, "60s", "c,d", "i:1,j", "app=x"]
    row = cells("daemonsets", {"spec": spec, "status": {"desiredNumberScheduled": 2}}, "apps")
    assert (row["Desired"], row["Ready"], row["Node Selector"]) == (2, 0, "n=1")


def test_events_of_both_apis_look_alike() -> None:
    old = {
        "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "R", "message": " M ", "type": "Normal", "count": 4,
        "firstTimestamp": "2027-01-15T07:50:00Z", "lastTimestamp": THEN, "source": {"component": "c", "host": "h"},
    }  # fmt: skip
    new = {
        "regarding": {"kind": "Pod", "name": "p"}, "reason": "R", "note": "M", "type": "Normal", "deprecatedCount": 4,
        "deprecatedFirstTimestamp": "2027-01-15T07:50:00Z", "deprecatedLastTimestamp": THEN,
        "deprecatedSource": {"component": "c", "host": "h"},
    }  # fmt: skip
    assert list(cells("events", old).values()) == ["60s", "Normal", "R", "pod/p", "", "c, h", "M", "10m", 4, "x"]
    assert cells("events", new, "events.k8s.io") == cells("events", old)


def test_storage() -> None:
    volume = {
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            "claimRef": {"namespace": "n", "name": "c"},
        }
    }
    row = cells("persistentvolumes", volume)
    assert (row["Capacity"], row["Access Modes"], row["Claim"], row["VolumeAttributesClass"]) == ("1Gi", "RWO,ROX", "n/c", "<unset>")
    marked = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    assert cells("storageclasses", {"metadata": marked, "provisioner": "p", "allowVolumeExpansion": True}, "storage.k8s.io") == {
        "Name": "x (default)", "Provisioner": "p", "ReclaimPolicy": "Delete", "VolumeBindingMode": "Immediate",
        "AllowVolumeExpansion": True, "Age": "60s",
    }  # fmt: skip


def test_custom_columns() -> None:
    columns = [
        {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
        {"name": "Oars", "type": "integer", "jsonPath": ".spec.oars", "description": "How many."},
        {"name": "Tags", "type": "string", "jsonPath": ".spec.tags[*]", "priority": 1},
        {"name": "All", "type": "string", "jsonPath": ".spec.tags"},
        {"name": "Seen", "type": "date", "jsonPath": ".status.seen"},
        {"name": "Calm", "type": "boolean", "jsonPath": ".spec.calm"},
    ]
    boat = Kind("x.io", "v1", "boats", "Boat", is_custom=True, definition={"additionalPrinterColumns": columns})
    shown = [(each["name"], each["priority"], each["description"]) for each in printing.columns(boat)]
    assert shown[1:4] == [
        ("Color", 0, "Custom resource definition column (in JSONPath format): .spec.color"),
        ("Oars", 0, "How many."),
        ("Tags", 1, "Custom resource definition column (in JSONPath format): .spec.tags[*]"),
    ]
    obj = {"metadata": {"name": "b"}, "spec": {"color": "red", "oars": 2, "tags": ["x", "y"], "calm": True}, "status": {"seen": THEN}}
    assert printing.cells(boat, obj, NOW) == ["b", "red", 2, "x", '["x","y"]', "60s", True]
    wrong = {"metadata": {"name": "b"}, "spec": {"color": 5, "oars": "two", "calm": "yes"}, "status": {"seen": 5}}
    assert printing.cells(boat, wrong, NOW) == ["b", "5", None, None, None, None, None]
    plain = Kind("x.io", "v1", "boats", "Boat", is_custom=True)
    assert [each["name"] for each in printing.columns(plain)] == ["Name", "Age"]
    assert printing.cells(plain, {"metadata": {"name": "b", "creationTimestamp": THEN}}, NOW) == ["b", "60s"]
