"""Where a pod goes, and the words for why it goes nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cloud.standalone.controllers.placing import Cluster

Spec = dict[str, Any]


def node(name: str, *, labels: dict[str, str] | None = None, cpu: str = "2", pods: str = "10", **spec: Any) -> Spec:
    allocatable = {"cpu": cpu, "memory": "2Gi", "pods": pods}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
    return {"metadata": metadata, "spec": spec, "status": {"allocatable": allocatable}}


def pod(name: str = "p", *, on: str = "", labels: dict[str, str] | None = None, owner: str = "", cpu: str = "", **spec: Any) -> Spec:
    container: Spec = {"name": "c", "image": "i"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    metadata: Spec = {"name": name, "namespace": "default", "labels": labels or {}}
    if owner:
        metadata["ownerReferences"] = [{"uid": owner, "controller": True}]
    return {"metadata": metadata, "spec": {"containers": [container], **({"nodeName": on} if on else {}), **spec}}


def cluster(*objects: Spec) -> Cluster:
    made = Cluster()
    for each in objects:
        (made.put_node if "status" in each else made.put_pod)(each)
    return made


def affinity(kind: str, app: str, key: str = "kubernetes.io/hostname") -> Spec:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_nobody_there() -> None:
    assert cluster().choose(pod()) == ("", "no nodes available to schedule pods")


@pytest.mark.parametrize(
    ("there", "wanted", "reason"),
    [
        ([node("n", unschedulable=True)], pod(), "node(s) were unschedulable"),
        ([node("n", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])], pod(), "node(s) had untolerated taint {k: v}"),
        ([node("n")], pod(nodeSelector={"hostname": "n"}), "node(s) didn't match Pod's node affinity/selector"),
        (
            [node("n"), pod("q", on="n", hostNetwork=True, containers=[{"ports": [{"containerPort": 80}]}])],
            pod(containers=[{"ports": [{"containerPort": 8080, "hostPort": 80}]}]),
            "node(s) didn't have free ports for the requested pod ports",
        ),
        ([node("n"), pod("q", on="n", cpu="1500m")], pod(cpu="600m"), "Insufficient cpu"),
        ([node("n", pods="1"), pod("q", on="n")], pod(), "Too many pods"),
        ([node("n")], pod(affinity=affinity("podAffinity", "a")), "node(s) didn't match pod affinity rules"),
        (
            [node("n"), pod("q", on="n", labels={"app": "a"})],
            pod(affinity=affinity("podAntiAffinity", "a")),
            "node(s) didn't match pod anti-affinity rules",
        ),
        (
            [node("n"), pod("q", on="n", affinity=affinity("podAntiAffinity", "a"))],
            pod(labels={"app": "a"}),
            "node(s) didn't satisfy existing pods anti-affinity rules",
        ),
    ],
)  # fmt: skip
def test_why_not(there: list[Spec], wanted: Spec, reason: str) -> None:
    assert cluster(*there).choose(wanted) == ("", f"0/1 nodes are available: 1 {reason}.")


def test_reasons_are_counted() -> None:
    made = cluster(node("a", cpu="1"), node("b", cpu="1"), node("c", unschedulable=True))
    assert made.choose(pod(cpu="3")).message == "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu."


def test_the_least_used_and_siblings_apart() -> None:
    made = cluster(node("a"), node("b"), node("c"), pod("x", on="a", cpu="500m"), pod("y", on="b", owner="o"))
    assert made.choose(pod()).node == "c"
    assert made.choose(pod(owner="o", cpu="100m")).node == "c"
    made.put_pod(pod("z", on="c", owner="o"))
    assert made.choose(pod(owner="o")).node == "a", "rather a fuller node than beside a sibling"


def test_preferences() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]
    wish = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    avoided = {"key": "k", "effect": "PreferNoSchedule"}
    made = cluster(node("a"), node("b", labels={"disk": "ssd"}), pod("x", on="b", cpu="1"))
    assert made.choose(pod(affinity=wish)).node == "b"
    made.put_node(node("b", labels={"disk": "ssd"}, taints=[avoided]))
    assert made.choose(pod(affinity=wish)).node == "a"


def test_the_first_of_a_group_that_wants_to_be_together_and_those_that_follow() -> None:
    together = affinity("podAffinity", "a", "zone")
    made = cluster(node("n1", labels={"zone": "x"}), node("n2", labels={"zone": "y"}), node("n3"))
    first = pod(labels={"app": "a"}, affinity=together)
    assert made.choose(first).node == "n1"
    made.put_pod(pod("first", on="n2", labels={"app": "a"}))
    assert made.choose(first).node == "n2"


def test_ended_and_moved_pods_make_room() -> None:
    made = cluster(node("n"), pod("q", on="n", cpu="2"))
    assert not made.choose(pod(cpu="1")).node
    assert made.put_pod({**pod("q", on="n", cpu="2"), "status": {"phase": "Succeeded"}})
    assert made.choose(pod(cpu="1")).node == "n"


def test_a_pod_that_others_reckon_with_differently_is_news() -> None:
    made = cluster(node("n"), pod("q", on="n", labels={"app": "a"}))
    apart = pod(affinity=affinity("podAntiAffinity", "a"))
    assert not made.choose(apart).node
    assert not made.put_pod({**pod("q", on="n", labels={"app": "a"}), "status": {"phase": "Running"}}), "its status is no news"
    assert made.put_pod(pod("q", on="n", labels={"app": "b"}))
    assert made.choose(apart).node == "n"


def test_a_node_that_comes_back_still_has_its_pods() -> None:
    made = cluster(node("n"), pod("q", on="n", cpu="2"))
    made.drop_node("n")
    assert made.put_node(node("n"))
    assert not made.choose(pod(cpu="1")).node
    assert not made.put_node(node("n")), "a heartbeat changes nothing"


def test_a_node_that_has_not_said_what_it_has_is_not_full() -> None:
    made = Cluster()
    made.put_node({"metadata": {"name": "n"}})
    assert made.choose(pod(cpu="1")).node == "n"


def test_volumes_keep_a_pod_at_home() -> None:
    made = cluster(node("n"))
    assert made.choose(pod(), holds=lambda _: "node(s) had volume node affinity conflict").message.endswith("affinity conflict.")
