"""Requests and limits in the kernel's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.pod import Pod
from pinnace.core.pods.rules.qos import QosClass
from pinnace.core.pods.rules.resources import PodLimits, container_resources, pod_limits, quota_of, shares_of, tier_shares, weight_of


def container(name: str = "main", *, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **more: Any) -> Any:
    return {"name": name, "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def pod(*containers: Any, **spec: Any) -> Pod:
    return Pod({"spec": {"containers": list(containers), **spec}})


@pytest.mark.parametrize(("millis", "shares", "quota"), [(0, 2, 0), (1, 2, 1000), (5, 5, 1000), (100, 102, 10_000), (1000, 1024, 100_000)])
def test_cpu(millis: int, shares: int, quota: int) -> None:
    assert (shares_of(millis), quota_of(millis)) == (shares, quota)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (0, 1), (1024, 39), (262_144, 10_000), (1 << 30, 10_000)])
def test_weight(shares: int, weight: int) -> None:
    assert weight_of(shares) == weight


@given(st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_more_cpu_never_weighs_less(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert 2 <= shares_of(low) <= shares_of(high) <= 262_144
    assert 1 <= weight_of(shares_of(low)) <= weight_of(shares_of(high)) <= 10_000
    assert quota_of(low) <= quota_of(high)


def test_a_container() -> None:
    limits = {"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"}
    given_pod = pod(container(requests={"cpu": "250m"}, limits=limits))
    found = container_resources(given_pod, given_pod.containers[0], memory_capacity=1 << 30, unified=False)
    assert (found.cpu_period, found.cpu_quota, found.cpu_shares, found.memory_limit) == (100_000, 150_000, 256, 64 << 20)
    assert dict(found.hugepages) == {"2MB": 4 << 20}
    assert found.oom_score_adj == 938
    assert not found.unified


def test_a_limit_stands_for_a_missing_request() -> None:
    given_pod = pod(container(limits={"cpu": "2"}))
    assert container_resources(given_pod, given_pod.containers[0], memory_capacity=1 << 30, unified=True).cpu_shares == 2048


def test_on_cgroup_v2_a_container_is_killed_whole() -> None:
    given_pod = pod(container())
    found = container_resources(given_pod, given_pod.containers[0], memory_capacity=1 << 30, unified=True)
    assert dict(found.unified) == {"memory.oom.group": "1"}


HALF = {"cpu": "500m", "memory": "32Mi"}
ONE = {"cpu": "1", "memory": "64Mi"}
TWO = {"cpu": "2", "memory": "128Mi"}


@pytest.mark.parametrize(
    ("given_pod", "expected"),
    [
        (pod(container()), PodLimits(2, 0, 0, {})),
        (pod(container(limits=ONE)), PodLimits(1024, 100_000, 64 << 20, {})),
        (pod(container(limits=ONE), container("second", limits=HALF)), PodLimits(1536, 150_000, 96 << 20, {})),
        (pod(container(limits=ONE), container("second")), PodLimits(1024, 0, 0, {})),
        (pod(container(limits=ONE), initContainers=[container("first", limits=TWO)]), PodLimits(2048, 200_000, 128 << 20, {})),
        (
            pod(container(limits=ONE), initContainers=[container("helper", limits=HALF, restartPolicy="Always")]),
            PodLimits(1536, 150_000, 96 << 20, {}),
        ),
        (pod(container(limits=ONE), resources={"limits": TWO, "requests": HALF}), PodLimits(512, 200_000, 128 << 20, {})),
        (pod(container(limits=ONE), overhead={"cpu": "500m", "memory": "32Mi"}), PodLimits(1536, 150_000, 96 << 20, {})),
        (pod(container(limits={"hugepages-1Gi": "2Gi"})), PodLimits(2, 0, 0, {"1GB": 2 << 30})),
    ],
)
def test_a_pod(given_pod: Pod, expected: PodLimits) -> None:
    assert pod_limits(given_pod) == expected


def test_tiers() -> None:
    pods = [pod(container(requests={"cpu": "500m"})), pod(container(requests={"cpu": "1"})), pod(container()), pod(container(limits=TWO))]
    assert tier_shares(pods, QosClass.BURSTABLE) == 1536
    assert tier_shares(pods, QosClass.BEST_EFFORT) == 2
