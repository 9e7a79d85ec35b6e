"""The steps of a rollout: never more pods than allowed, never fewer available than promised, and always to the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.cloud.standalone.controllers import rollouts

Obj = dict[str, Any]


def deployment(replicas: int = 10, surge: Any = "25%", unavailable: Any = "25%", **spec: Any) -> Obj:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {
        "metadata": {"name": "d", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}, "template": {"metadata": {}, "spec": {}},
            "progressDeadlineSeconds": 600, **spec,
        },
    }  # fmt: skip


def replica_set(uid: str, replicas: int, available: int | None = None, *, most: int = 0, revision: int = 1) -> Obj:
    ready = replicas if available is None else available
    annotations = {rollouts.REVISION: str(revision), rollouts.MOST: str(most or replicas), rollouts.DESIRED: str(replicas)}
    return {
        "metadata": {
            "uid": uid, "name": uid, "creationTimestamp": f"2026-01-01T00:00:0{revision}Z", "generation": 1, "annotations": annotations,
        },
        "spec": {"replicas": replicas, "template": {"metadata": {}, "spec": {}}},
        "status": {"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready, "observedGeneration": 1},
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    wanted=st.integers(0, 12),
    surge=st.sampled_from(["0%", "25%", "100%", 0, 1, 3]),
    unavailable=st.sampled_from(["0%", "25%", "100%", 0, 1, 3]),
    sizes=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    choices=st.randoms(use_true_random=False),
)
def test_a_rollout_keeps_its_promises_and_ends(wanted: int, surge: Any, unavailable: Any, sizes: list[int], choices: Any) -> None:
    """Pods become available at any moment; a plan may meet any state on the way."""
    goal = deployment(wanted, surge, unavailable)
    more, fewer = rollouts.limits(goal)
    old = [replica_set(f"old{index}", size, revision=index + 1) for index, size in enumerate(sizes)]
    new = replica_set("new", 0, revision=9)
    everyone = [*old, new]
    ceiling = max(wanted + more, sum(sizes))
    for _ in range(400):
        available = rollouts.counted(everyone, "availableReplicas")
        targets = rollouts.rolled(goal, new, old)
        for each in everyone:
            size = targets.get(each["metadata"]["uid"], rollouts.replicas(each))
            assert size >= 0
            lost = max(0, rollouts.counted([each], "availableReplicas") - size)
            each["spec"]["replicas"] = each["status"]["replicas"] = size
            each["status"]["availableReplicas"] -= lost
        total = sum(map(rollouts.replicas, everyone))
        assert total <= ceiling
        assert rollouts.counted(everyone, "availableReplicas") >= min(available, wanted - fewer)
        waiting = [each for each in everyone if each["status"]["availableReplicas"] < rollouts.replicas(each)]
        if waiting:
            choices.choice(waiting)["status"]["availableReplicas"] += 1
        elif not targets:
            break
    assert rollouts.replicas(new) == wanted
    assert sum(map(rollouts.replicas, old)) == 0


def test_pods_that_never_come_up_stop_it() -> None:
    goal, new, old = deployment(4), replica_set("new", 2, 0, revision=2), [replica_set("old", 3)]
    assert rollouts.rolled(goal, new, old) == {}
    broken = [replica_set("old", 3, 1)]
    assert rollouts.rolled(deployment(4, unavailable="100%"), new, broken)["old"] < 3


def test_counts_from_before_the_last_change_move_nothing_down() -> None:
    goal, new, old = deployment(4), replica_set("new", 2, 2, revision=2), [replica_set("old", 3)]
    assert rollouts.rolled(goal, new, old) == {"old": 1}
    old[0]["metadata"]["generation"] = 2
    assert rollouts.rolled(goal, new, old) == {}


def test_a_change_of_size_in_the_midst_is_shared() -> None:
    goal = deployment(15)
    old, new = [replica_set("old", 8, most=13)], replica_set("new", 5, 2, most=13, revision=2)
    assert rollouts.scaled(goal, new, old) == {"old": 12, "new": 7}, "19 pods at most, in the proportion of 8 to 5"
    assert rollouts.scaled(deployment(3), replica_set("new", 10, revision=2), []) == {"new": 3}
    assert sum(rollouts.scaled(deployment(0), new, old).values()) == 0


def test_revisions_and_history() -> None:
    goal = deployment()
    goal["metadata"]["annotations"] = {"kubernetes.io/change-cause": "why", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    first, second = replica_set("a", 0, revision=1), replica_set("b", 0, revision=2)
    made = rollouts.new_annotations(goal, None, [first, second])
    assert (made[rollouts.REVISION], made["kubernetes.io/change-cause"]) == ("3", "why")
    assert "kubectl.kubernetes.io/last-applied-configuration" not in made
    back = rollouts.new_annotations(goal, first, [second])
    assert (back[rollouts.REVISION], back[rollouts.HISTORY]) == ("3", "1")
    assert rollouts.new_annotations(goal, second, [first])[rollouts.REVISION] == "2"
    assert rollouts.surplus(deployment(revisionHistoryLimit=1), [second, first]) == [first]


def test_when_a_rollout_is_complete() -> None:
    goal, new = deployment(2), replica_set("new", 2, revision=2)
    assert rollouts.is_complete(goal, new, [replica_set("old", 0)])
    assert not rollouts.is_complete(goal, None, [replica_set("old", 2)])
    assert not rollouts.is_complete(goal, new, [replica_set("old", 1)]), "old pods are there"
    assert not rollouts.is_complete(goal, replica_set("new", 2, available=1), [])
    assert not rollouts.is_complete(goal, replica_set("new", 1), [])


@pytest.mark.parametrize(
    ("before", "counts", "wall", "expected"),
    [
        ({}, (1, 1, 0), 0.0, ("True", "NewReplicaSetCreated")),
        ({"status": "True", "reason": "NewReplicaSetCreated", "lastUpdateTime": "1970-01-01T00:00:00Z"}, (1, 1, 0), 599.0,
         ("True", "NewReplicaSetCreated")),
        ({"status": "True", "reason": "NewReplicaSetCreated", "lastUpdateTime": "1970-01-01T00:00:00Z"}, (1, 1, 0), 601.0,
         ("False", "ProgressDeadlineExceeded")),
        ({"status": "False", "reason": "ProgressDeadlineExceeded"}, (1, 1, 1), 700.0, ("True", "NewReplicaSetAvailable")),
    ],
)  # fmt: skip
def test_progress(before: Obj, counts: tuple[int, int, int], wall: float, expected: tuple[str, str]) -> None:
    goal = deployment(1)
    goal["status"] = {"replicas": 1, "updatedReplicas": 1, "conditions": [{"type": "Progressing", **before}] if before else []}
    new = replica_set("new", counts[0], counts[2])
    status = rollouts.status_of(goal, new, [], 0, wall=wall, now="now")
    found = next(each for each in status["conditions"] if each["type"] == "Progressing")
    assert (found["status"], found["reason"]) == expected


@pytest.mark.parametrize(("strategy", "expected"), [("Recreate", "False"), ("RollingUpdate", "True")])
def test_nothing_may_be_missing_but_in_a_rolling_update(strategy: str, expected: str) -> None:
    goal = deployment(2, strategy={"type": strategy, "rollingUpdate": {"maxUnavailable": 1}})
    status = rollouts.status_of(goal, replica_set("new", 2, available=1), [], 0, wall=0.0, now="now")
    assert [each["status"] for each in status["conditions"] if each["type"] == "Available"] == [expected]


def test_a_template_is_the_same_with_and_without_its_hash() -> None:
    one = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}
    other = {"metadata": {"labels": {"a": "b", rollouts.HASH_LABEL: "x"}}, "spec": {"containers": []}}
    assert rollouts.same_template(one, other)
    assert rollouts.template_hash(one) == rollouts.template_hash(other) != rollouts.template_hash(one, 1)
