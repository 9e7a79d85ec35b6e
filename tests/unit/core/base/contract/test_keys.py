"""Wire resources and keys are one to one."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.contract.classes import Priority
from pinnace.core.base.contract.keys import NODE_NAME, ResourceKey, format_resource, parse_resource
from pinnace.core.base.wire.priority import priority_of
from pinnace.ext.records import Envelope

CASES = {
    "default/configmap/c": ResourceKey("configmap", "default", "c"),
    "null/node/edge-1": ResourceKey("node", "", "edge-1"),
    "node": ResourceKey("node"),
    "membership": ResourceKey("membership"),
    "membership/detail": ResourceKey("membership/detail"),
    "twin": ResourceKey("twin"),
    "k8s/ca.crt": ResourceKey("k8s/ca.crt"),
    "device/default/lamp/twin/edge_updated": ResourceKey("twin/edge_updated", "default", "lamp"),
    "device/lamp/twin/cloud_updated": ResourceKey("twin/cloud_updated", "", "lamp"),
    "device/default/lamp/state/update": ResourceKey("state/update", "default", "lamp"),
    "kube-node-lease/lease/n": ResourceKey("lease", "kube-node-lease", "n"),
    "device/configmap/c": ResourceKey("configmap", "device", "c"),
    "SYS/dis/upload_records": ResourceKey("dis", "SYS", "upload_records"),
    "": ResourceKey(""),
}


@pytest.mark.parametrize(("resource", "key"), CASES.items())
def test_parses_and_formats(resource: str, key: ResourceKey) -> None:
    assert parse_resource(resource) == key
    assert format_resource(key) == resource


@given(st.text(alphabet="ab/.-", max_size=40))
def test_any_resource_survives_the_round_trip(resource: str) -> None:
    assert format_resource(parse_resource(resource)) == resource


def test_long_resources_do_not_fill_the_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            resource = f"default/configmap/{number}" + "x" * 100_000
            assert priority_of(Envelope(msg_id="m", operation="insert", resource=resource)) is Priority.POD
            assert parse_resource(resource).name == resource.rpartition("/")[2]
        assert parse_resource("/" * 1_000_000) == ResourceKey("/" * 1_000_000)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
    assert most < 6_000_000


@pytest.mark.parametrize("name", ["192.168.4.22-pi2", "a", "edge-1"])
def test_node_names(name: str) -> None:
    assert NODE_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "a\n", "x" * 254])
def test_no_node_names(name: str) -> None:
    assert not NODE_NAME.fullmatch(name)
