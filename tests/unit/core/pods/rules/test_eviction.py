"""Thresholds, conditions, the order of going, the words."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import EVICTION_HARD
from pinnace.core.pods.rules import eviction
from pinnace.core.pods.rules.eviction import ContainerUse, Level, PodUse, Shortfall

MIB = 1 << 20


def pod(name: str, memory: str = "", priority: int = 0, **more: Any) -> Pod:
    resources = {"requests": {"memory": memory}} if memory else {}
    spec = {"containers": [{"name": "c", "resources": resources}], "priority": priority, **more}
    return Pod({"metadata": {"name": name, "uid": name}, "spec": spec})


def names(uses: list[PodUse]) -> list[str]:
    return [each.pod.name for each in uses]


def test_thresholds_in_quantities_and_percent() -> None:
    levels = {"memory.available": Level(100 * MIB, 1 << 30), "nodefs.available": Level(9, 100), "nodefs.inodesFree": Level(5, 100)}
    assert eviction.shortfalls(EVICTION_HARD, levels) == [("nodefs.available", 10, 9)]
    levels["memory.available"] = Level(100 * MIB - 1, 1 << 30)
    found = eviction.shortfalls(EVICTION_HARD, levels)
    assert found == [("memory.available", 100 * MIB, 100 * MIB - 1), ("nodefs.available", 10, 9)]
    assert eviction.shortfalls({}, levels) == []
    assert [eviction.resource(each) for each in found] == ["memory", "ephemeral-storage"]


def test_conditions_hold_for_a_time_after_relief() -> None:
    low = [Shortfall("memory.available", 2, 1)]
    before = eviction.held({}, low, 1000.0, 300.0)
    assert before == {"MemoryPressure": 1000.0}
    assert eviction.held(before, (), 1299.0, 300.0) == {"MemoryPressure": 1000.0}
    assert eviction.held(before, (), 1300.0, 300.0) == {}
    assert eviction.held({}, low, 1000.0, 0.0) == {"MemoryPressure": 1000.0}
    assert eviction.held(before, [Shortfall("nodefs.inodesFree", 2, 1)], 1100.0, 300.0) == {
        "MemoryPressure": 1000.0,
        "DiskPressure": 1100.0,
    }


def test_order_for_memory() -> None:
    uses = [
        PodUse(pod("within", "100Mi"), memory=50 * MIB),
        PodUse(pod("over-important", "10Mi", priority=5), memory=500 * MIB),
        PodUse(pod("over-little", "10Mi"), memory=20 * MIB),
        PodUse(pod("over-much", "10Mi"), memory=90 * MIB),
        PodUse(pod("critical", priority=2_000_000_001), memory=900 * MIB),
    ]
    assert names(eviction.ranked(uses, "memory.available")) == ["over-much", "over-little", "over-important", "within"]


def test_who_is_spared() -> None:
    static, leaving, ended = pod("static"), pod("leaving"), pod("ended")
    static.metadata["annotations"] = {"kubernetes.io/config.source": "file"}
    leaving.metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ended.body["status"] = ended.status = {"phase": "Failed"}
    assert not eviction.ranked([PodUse(each, memory=1) for each in (static, leaving, ended)], "memory.available")


def test_order_for_processes_and_inodes() -> None:
    uses = [PodUse(pod("few"), tasks=2, inodes=9), PodUse(pod("many"), tasks=9, inodes=2), PodUse(pod("main", priority=1), tasks=99)]
    assert names(eviction.ranked(uses, "pid.available")) == ["many", "few", "main"]
    assert names(eviction.ranked(uses, "nodefs.inodesFree")) == ["few", "many", "main"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.integers(0, 200)), max_size=8))
def test_nobody_within_the_request_goes_before_one_above_it(figures: list[tuple[int, int, int]]) -> None:
    uses = [PodUse(pod(str(n), f"{asked}", priority), memory=used) for n, (priority, asked, used) in enumerate(figures)]
    order = eviction.ranked(uses, "memory.available")
    above = [use.memory > eviction.requested(use.pod, "memory") for use in order]
    assert above == sorted(above, reverse=True)
    assert len(order) == len(uses)


def test_words() -> None:
    use = PodUse(pod("web", "10Mi"), memory=30 * MIB, containers=(ContainerUse("c", 30 * MIB, 0),))
    assert eviction.message(Shortfall("memory.available", 100 * MIB, 52 * MIB), use) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. "
        "Container c was using 30Mi, request is 10Mi, has larger consumption of memory. "
    )
    assert eviction.message(Shortfall("nodefs.inodesFree", 1024, 5), use) == (
        "The node was low on resource: inodes. Threshold quantity: 1024, available: 5. "
    )


@given(st.integers(0, 1 << 62))
def test_binary_quantities_are_exact(number: int) -> None:
    from pinnace.core.base.contract.quantities import whole

    assert whole(eviction.binary(number)) == number


def test_own_limits() -> None:
    volumes = [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "free", "emptyDir": {}}]
    limited = pod("web", volumes=volumes, containers=[{"name": "c", "resources": {"limits": {"ephemeral-storage": "4Mi"}}}])
    assert eviction.has_disk_limits(limited)
    assert not eviction.has_disk_limits(pod("web"))
    assert eviction.over_limit(PodUse(limited, volumes={"cache": MIB, "free": 9 * MIB})) == ""
    assert eviction.over_limit(PodUse(limited, volumes={"cache": MIB + 1})) == 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". '
    told = eviction.over_limit(PodUse(limited, disk=4 * MIB + 1))
    assert told == "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. "
    told = eviction.over_limit(PodUse(limited, containers=(ContainerUse("c", 0, 5 * MIB),)))
    assert told == 'Container c exceeded its local ephemeral storage limit "4Mi". '
    assert eviction.over_limit(PodUse(pod("web"), disk=1 << 40)) == ""
