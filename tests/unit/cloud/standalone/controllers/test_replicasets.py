"""How many pods are made, and which go first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from rig.waiting import eventually

from pinnace.cloud.standalone.controllers import podfacts
from pinnace.cloud.standalone.controllers.evictions import eviction_time
from pinnace.cloud.standalone.controllers.replicasets import ReplicaSets, plan

Obj = dict[str, Any]


def pod(name: str, *, node: str = "n", phase: str = "Running", ready: bool = True, since: int = 1, **metadata: Any) -> Obj:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": f"2026-01-01T00:00:{since:02}Z"}]
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}, **metadata},
        "spec": {"nodeName": node} if node else {}, "status": {"phase": phase, "conditions": conditions},
    }  # fmt: skip


def replica_set(replicas: int, **spec: Any) -> Obj:
    selector = {"matchLabels": {"a": "b"}}
    return {
        "metadata": {"name": "r", "uid": "r"},
        "spec": {"replicas": replicas, "selector": selector, "template": {"metadata": {"labels": {"a": "b"}}}, **spec},
    }


def deleted(replicas: int, *pods: Obj) -> list[str]:
    return [each["metadata"]["name"] for each in plan(replica_set(replicas), pods, 0.0).delete]


def test_as_many_as_wanted() -> None:
    ended, ending = pod("e", phase="Failed"), pod("d", deletionTimestamp="2026-01-01T00:00:00Z")
    made = plan(replica_set(3), [pod("a"), ended, ending], 1e12)
    assert (made.create, made.delete) == (2, [])
    assert made.counts == {"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}


def test_the_least_useful_go_first() -> None:
    loose, pending, unready = (
        pod("loose", node="", phase="Pending", ready=False),
        pod("p", phase="Pending", ready=False),
        pod("u", ready=False),
    )
    assert deleted(1, pod("a"), unready, pending, loose) == ["loose", "p", "u"]
    assert deleted(2, pod("a", node="x"), pod("b", node="y"), pod("c", node="y")) in (["b"], ["c"])
    assert deleted(1, pod("old", since=1), pod("young", since=9)) == ["young"]
    cheap = pod("cheap", since=1, annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"})
    assert deleted(1, cheap, pod("b", since=9)) == ["cheap"]


def test_available_a_while_after_ready() -> None:
    now = podfacts.moment("2026-01-01T00:00:05Z")
    made = plan(replica_set(1, minReadySeconds=10), [pod("a", since=1)], now)
    assert (made.counts["availableReplicas"], made.again) == (0, 6.0)


def test_claims() -> None:
    own = pod("own", ownerReferences=[{"uid": "r", "controller": True}])
    foreign = pod("foreign", ownerReferences=[{"uid": "x", "controller": True}])
    astray = pod("astray", labels={"a": "c"}, ownerReferences=[{"uid": "r", "controller": True}])
    found = podfacts.claim(replica_set(1), [own, foreign, astray, pod("orphan")])
    assert [[each["metadata"]["name"] for each in part] for part in found] == [["own"], ["orphan"], ["astray"]]
    ending = replica_set(1)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert podfacts.claim(ending, [pod("orphan")]).adopt == []


def test_when_a_pod_must_leave_a_node() -> None:
    taint = {"key": "k", "effect": "NoExecute", "timeAdded": "1970-01-01T00:01:40Z"}
    for_ever, a_while = {"key": "k", "operator": "Exists"}, {"key": "k", "operator": "Exists", "tolerationSeconds": 300}
    assert eviction_time([taint], []) == 0.0
    assert eviction_time([taint], [for_ever]) is None
    assert eviction_time([taint], [for_ever, a_while]) == 400.0
    assert eviction_time([{**taint, "effect": "NoSchedule"}], []) is None
    assert eviction_time([taint, {**taint, "key": "other"}], [a_while]) == 0.0


def test_shares() -> None:
    assert (podfacts.share("25%", 10, up=True), podfacts.share("25%", 10, up=False), podfacts.share(3, 10, up=True)) == (3, 2, 3)


async def test_a_refused_pod_is_tried_again_later_each_time_and_told_of_once(parts: Any) -> None:
    written: Counter[str] = Counter()
    sets = parts.kind("replicasets", "apps").table
    parts.state.subscribe_all(lambda table, change: written.update([table.resource]))
    running = asyncio.create_task(ReplicaSets(parts.objects, parts.deletion).run())
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"serviceAccountName": "later", "containers": [{"name": "c", "image": "i"}]}}
    await parts.make("replicasets", "r", "default", group="apps", spec=replica_set(2, template=template)["spec"])

    async def shown(plural: str) -> list[Obj]:
        return [item.decode() for item in parts.state.table(plural).items("default")]

    (event,) = await eventually(lambda: shown("events"), lambda found: found and found[0]["count"] >= 4)
    why = 'pods "r-" is forbidden: error looking up service account default/later: serviceaccount "later" not found'
    assert event["message"] == f"Error creating: {why}"
    (found,) = await shown(sets)
    assert [(each["type"], each["message"]) for each in found["status"]["conditions"]] == [("ReplicaFailure", why)]
    assert written[sets] == 2, "its creation and one status"

    parts.objects.admission.account_of = lambda namespace, name: {}
    (found,) = await eventually(lambda: shown(sets), lambda found: found[0]["status"]["replicas"] == 2)
    assert "conditions" not in found["status"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
