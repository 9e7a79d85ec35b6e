"""The pods' cgroups on pure cgroup v2."""

from __future__ import annotations

from integration.pods.test_pod_cgroups import (
    root,
    test_a_limit_the_kernel_refuses_is_the_pod_s_trouble,
    test_a_tree_that_somebody_removed_is_made_again,
    test_another_agent_finds_and_removes_what_the_former_left,
    test_limits_of_pods_and_tiers,
    test_memory_in_use_is_seen,
    test_strays_are_ended_and_counted,
)

__all__ = [
    "root",
    "test_a_limit_the_kernel_refuses_is_the_pod_s_trouble",
    "test_a_tree_that_somebody_removed_is_made_again",
    "test_another_agent_finds_and_removes_what_the_former_left",
    "test_limits_of_pods_and_tiers",
    "test_memory_in_use_is_seen",
    "test_strays_are_ended_and_counted",
]
