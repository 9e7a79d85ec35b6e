"""Which nodes get a daemon's pod, and which pods a rolling update exchanges."""

from __future__ import annotations

from typing import Any

from pinnace.cloud.standalone.controllers import daemons

Obj = dict[str, Any]


def node(name: str, **spec: Any) -> Obj:
    return {"metadata": {"name": name, "labels": spec.pop("labels", {})}, "spec": spec}


def daemon_set(**rolling: Any) -> Obj:
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling or {"maxUnavailable": 1, "maxSurge": 0}}
    return {"metadata": {"name": "d"}, "spec": {"updateStrategy": strategy, "template": {"metadata": {}, "spec": {"containers": []}}}}


def pod(name: str, on: str, revision: str = "new", *, ready: bool = True, **metadata: Any) -> Obj:
    labels = {daemons.HASH_LABEL: revision}
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": "1970-01-01T00:00:00Z"}]
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": f"2026-01-01T00:00:0{len(name)}Z", "labels": labels, **metadata},
        "spec": {"nodeName": on}, "status": {"phase": "Running", "conditions": conditions},
    }  # fmt: skip


def plan(spec: Obj, nodes: list[Obj], pods: list[Obj]) -> tuple[list[str], list[str]]:
    made = daemons.plan(spec, nodes, pods, "new", 1000.0)
    return made.create, [each["metadata"]["name"] for each in made.delete]


def test_every_node_but_those_it_does_not_fit() -> None:
    taint = {"key": "k", "effect": "NoSchedule"}
    nodes = [node("a"), node("b", unschedulable=True), node("c", taints=[taint]), node("d", taints=[{**taint, "effect": "NoExecute"}])]
    assert plan(daemon_set(), nodes, []) == (["a", "b"], [])
    assert plan(daemon_set(), nodes, [pod(each, each) for each in "abcd"]) == ([], ["d"]), "one that is there may stay on c"


def test_a_pod_is_meant_for_its_node_only() -> None:
    selector = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}
    template = {"spec": {"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}}
    made = daemons.template_for(template, "n", {"x": "y"})
    assert daemons.target_of(made) == "n"
    (term,) = made["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == selector["nodeSelectorTerms"][0]["matchExpressions"]
    assert "matchFields" not in selector["nodeSelectorTerms"][0], "the template is not touched"
    assert {each["key"].rpartition("/")[2] for each in made["spec"]["tolerations"]} >= {"not-ready", "unreachable", "unschedulable"}


def test_one_at_a_time_and_broken_ones_at_once() -> None:
    nodes = [node(each) for each in "abc"]
    old = [pod(each, each, "old") for each in "abc"]
    assert plan(daemon_set(), nodes, old) == ([], ["a"])
    assert plan(daemon_set(maxUnavailable="100%"), nodes, old) == ([], ["a", "b", "c"])
    assert plan(daemon_set(), nodes, [pod("a", "a", "new", ready=False), *old[1:]]) == ([], []), "the new one comes first"
    assert plan(daemon_set(), nodes, [old[0], pod("b", "b", "old", ready=False), old[2]]) == ([], ["b"])
    ending = pod("a", "a", "old", deletionTimestamp="2026-01-01T00:00:00Z")
    assert plan(daemon_set(), nodes, [ending, *old[1:]]) == ([], []), "nothing new before it is gone"


def test_surge() -> None:
    nodes, old = [node("a"), node("b")], [pod("a", "a", "old"), pod("b", "b", "old")]
    spec = daemon_set(maxUnavailable=0, maxSurge=1)
    assert plan(spec, nodes, old) == (["a"], [])
    assert plan(spec, nodes, [*old, pod("aa", "a", ready=False)]) == ([], [])
    assert plan(spec, nodes, [*old, pod("aa", "a")]) == ([], ["a"])


def test_doubles_and_failures() -> None:
    failed = pod("a", "a")
    failed["status"]["phase"] = "Failed"
    assert plan(daemon_set(), [node("a")], [failed]) == ([], ["a"])
    assert plan(daemon_set(), [node("a")], [pod("a", "a"), pod("aa", "a")]) == ([], ["aa"])


def test_what_waits_for_a_node_that_is_gone_goes() -> None:
    meant = daemons.template_for({"spec": {"containers": []}}, "gone", {daemons.HASH_LABEL: "new"})
    waiting = {**meant, "metadata": {**meant["metadata"], "name": "w", "uid": "w"}}
    bound, anywhere = pod("b", "gone"), {"metadata": {"name": "any", "uid": "any"}, "spec": {"containers": []}}
    ending = {**waiting, "metadata": {"name": "e", "uid": "e", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert plan(daemon_set(), [], [waiting, bound, anywhere, ending]) == ([], ["w"])
    assert plan(daemon_set(), [node("gone")], [waiting]) == ([], []), "it has come back"


def test_counts() -> None:
    nodes = [node("a"), node("b"), node("c", labels={}, taints=[{"key": "k", "effect": "NoSchedule"}])]
    pods = [pod("a", "a"), pod("b", "b", "old", ready=False), pod("c", "c")]
    assert daemons.plan(daemon_set(), nodes, pods, "new", 1000.0).counts == {
        "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "numberMisscheduled": 1, "numberReady": 1, "updatedNumberScheduled": 1,
        "numberAvailable": 1, "numberUnavailable": 1,
    }  # fmt: skip
