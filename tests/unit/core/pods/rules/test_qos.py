"""Quality of service: the class of a pod and its containers' OOM scores."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.core.base.pod import Pod
from pinnace.core.pods.rules.qos import QosClass, oom_score_adj, qos_class

GIB = 1 << 30


def container(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value is not None}
    return {"name": more.pop("name", "main"), "resources": resources, **more}


def pod(*containers: dict[str, Any], **spec: Any) -> Pod:
    return Pod({"spec": {"containers": list(containers), **spec}})


BOTH = {"cpu": "500m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod(container()), QosClass.BEST_EFFORT),
        (pod({"name": "main"}), QosClass.BEST_EFFORT),
        (pod(container({"cpu": "0"})), QosClass.BEST_EFFORT),
        (pod(container({"ephemeral-storage": "1Gi"})), QosClass.BEST_EFFORT),
        (pod(container(BOTH, BOTH)), QosClass.GUARANTEED),
        (pod(container(limits=BOTH)), QosClass.GUARANTEED),
        (pod(container({"cpu": "0.5", "memory": "65536Ki"}, BOTH)), QosClass.GUARANTEED),
        (pod(container({"cpu": "250m", "memory": "64Mi"}, BOTH)), QosClass.BURSTABLE),
        (pod(container(limits={"memory": "64Mi"})), QosClass.BURSTABLE),
        (pod(container(BOTH, BOTH), container(name="second")), QosClass.BURSTABLE),
        (pod(container(BOTH, BOTH), initContainers=[container(name="first")]), QosClass.BURSTABLE),
        (pod(container(BOTH, BOTH), initContainers=[container(BOTH, BOTH, name="first")]), QosClass.GUARANTEED),
        (pod(container(), initContainers=[container({"cpu": "1"}, name="first")]), QosClass.BURSTABLE),
        (pod(container(), resources={"requests": BOTH, "limits": BOTH}), QosClass.GUARANTEED),
    ],
)
def test_class(given: Pod, expected: QosClass) -> None:
    assert qos_class(given) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod(container(BOTH, BOTH)), -997),
        (pod(container()), 1000),
        (pod(container({"memory": "512Mi"})), 500),
        (pod(container(limits={"memory": "256Mi"})), 750),
        (pod(container({"memory": "2Gi"})), 3),
        (pod(container({"cpu": "1"})), 999),
        (pod(container({"memory": "1Ki"})), 999),
        (pod(container(), priority=2_000_001_000), -997),
        (pod(container(), priority=2_000_000_000), 1000),
    ],
)
def test_oom_score(given: Pod, expected: int) -> None:
    assert oom_score_adj(given, given.containers[0], GIB) == expected


def test_a_sidecar_is_spared_as_long_as_the_least_of_the_others() -> None:
    given = pod(container({"memory": "512Mi"}), initContainers=[container({"memory": "1Mi"}, name="helper", restartPolicy="Always")])
    assert oom_score_adj(given, given.init_containers[0], GIB) == 500


def test_a_wrong_quantity_is_named() -> None:
    with pytest.raises(ValueError, match="lots"):
        qos_class(pod(container({"memory": "lots"})))
