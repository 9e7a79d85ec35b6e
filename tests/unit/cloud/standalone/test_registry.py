"""What is served, and the order of versions."""

from __future__ import annotations

from dataclasses import replace

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.registry import Registry

BOAT = Kind("golden.io", "v1", "boats", "Boat", is_custom=True, storage="boats.golden.io", storage_version="v1")


def test_versions_are_ranked() -> None:
    registry = Registry()
    versions = ["v1alpha1", "v1", "v2", "v1beta1", "v10", "v1beta2", "foo", "v2alpha1"]
    registry.set_custom("boats.golden.io", [replace(BOAT, version=version) for version in versions])
    assert registry.groups()["golden.io"] == ["v10", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "v1alpha1", "foo"]


def test_serving_and_taking_away() -> None:
    registry = Registry()
    before = registry.revision
    registry.set_custom("boats.golden.io", [BOAT, replace(BOAT, version="v1alpha1")])
    assert registry.revision != before
    assert registry.by_table("boats.golden.io") == BOAT
    assert registry.by_kind("golden.io/v1", "Boat") == BOAT
    registry.set_custom("boats.golden.io", [])
    assert registry.revision == before
    assert registry.get("golden.io", "v1", "boats") is None


def test_events_share_a_table() -> None:
    registry = Registry()
    core, new = registry.get("", "v1", "events"), registry.get("events.k8s.io", "v1", "events")
    assert core is not None
    assert new is not None
    assert core.table == new.table == "events"
    stored = registry.by_table("events")
    assert stored is not None
    assert stored.group == ""
