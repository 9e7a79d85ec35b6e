"""Which volume a claim gets, and the words for why one is not for it."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cloud.standalone.controllers import matching
from pinnace.cloud.standalone.status import ApiError

Obj = dict[str, Any]
MINE, BY_NAME = {"namespace": "default", "name": "c", "uid": "u"}, {"namespace": "default", "name": "c"}
OTHERS = {"namespace": "default", "name": "other", "uid": "x"}


def volume(name: str = "v", size: str = "1Gi", modes: str = "ReadWriteOnce", *, metadata: Obj | None = None, **spec: Any) -> Obj:
    body = {"capacity": {"storage": size}, "accessModes": modes.split(","), **spec}
    return {"metadata": {"name": name, "uid": name, **(metadata or {})}, "spec": body}


def claim(size: str = "1Gi", modes: str = "ReadWriteOnce", **spec: Any) -> Obj:
    body = {"resources": {"requests": {"storage": size}}, "accessModes": modes.split(","), **spec}
    metadata = {"name": "c", "namespace": "default", "uid": "u", "resourceVersion": "7"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": body}


IN_A = {"matchExpressions": [{"key": "room", "operator": "In", "values": ["a"]}]}


@pytest.mark.parametrize(
    ("asked", "there", "wanted"),
    [
        (claim(), [], None),
        (claim(), [volume()], "v"),
        (claim("2Gi"), [volume(size="1Gi")], None),
        (claim("1500M"), [volume("a", "1499M"), volume("b", "1.5G")], "b"),
        (claim(), [volume("a", "5Gi"), volume("b", "2Gi"), volume("d", "3Gi")], "b"),
        (claim(), [volume("b"), volume("a")], "a"),
        (claim(), [volume("a", "1Gi", "ReadWriteOnce,ReadOnlyMany"), volume("b", "9Gi")], "b"),
        (claim(modes="ReadWriteMany"), [volume()], None),
        (claim(modes="ReadOnlyMany"), [volume("a"), volume("b", modes="ReadWriteOnce,ReadOnlyMany")], "b"),
        (claim(storageClassName="fast"), [volume("a"), volume("b", storageClassName="fast")], "b"),
        (claim(), [volume(storageClassName="fast")], None),
        (claim(storageClassName=""), [volume()], "v"),
        (claim(), [volume(storageClassName="")], "v"),
        (claim(volumeMode="Block"), [volume("a"), volume("b", volumeMode="Block")], "b"),
        (claim(), [volume(volumeMode="Filesystem")], "v"),
        (claim(selector=IN_A), [volume("a"), volume("b", "9Gi", metadata={"labels": {"room": "a"}})], "b"),
        (claim(selector={}), [volume()], "v"),
        (claim(volumeAttributesClassName="gold"), [volume()], None),
        (claim(), [volume("a", claimRef=OTHERS), volume("b", "9Gi")], "b"),
        (claim(), [volume("a"), volume("b", "9Gi", claimRef=BY_NAME)], "b"),
        (claim(), [volume("a"), volume("b", "9Gi", claimRef=MINE)], "b"),
        (claim(), [volume("a", claimRef={**MINE, "uid": "that of one before"})], None),
        (claim(selector=IN_A, storageClassName="fast"), [volume(claimRef=BY_NAME)], "v"),
        (claim("2Gi"), [volume(claimRef=BY_NAME)], None),
        (claim(volumeMode="Block"), [volume(claimRef=BY_NAME)], None),
        (claim(), [volume(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})], None),
    ],
)  # fmt: skip
def test_the_choice(asked: Obj, there: list[Obj], wanted: str | None) -> None:
    for volumes in (there, there[::-1]):
        found = matching.choose(asked, volumes)
        assert (found["metadata"]["name"] if found is not None else None) == wanted


def test_what_is_kept_or_within_reach_only() -> None:
    free, kept = volume("a"), volume("b", claimRef=BY_NAME)
    assert matching.choose(claim(), [free], is_kept=True) is None
    assert matching.choose(claim(), [free, kept], is_kept=True) is kept
    assert matching.choose(claim(), [free, volume("c", "2Gi")], reaches=lambda each: each is not free) == volume("c", "2Gi")
    assert matching.choose(claim(), [free, kept], reaches=lambda each: each is free) is None, "not another than the one that is kept for it"


@pytest.mark.parametrize(
    ("asked", "there", "wanted"),
    [
        (claim(), volume(), ""),
        (claim("2Gi"), volume(), "requested PV is too small"),
        (claim(storageClassName="a"), volume(), "storageClassName does not match"),
        (claim(volumeAttributesClassName="a"), volume(), "volumeAttributesClassName does not match"),
        (claim(volumeMode="Block"), volume(), "incompatible volumeMode"),
        (claim(modes="ReadWriteOnce,ReadWriteMany"), volume(), "incompatible accessMode"),
        (claim(selector=IN_A), volume(), ""),
    ],
)
def test_what_is_wrong_with_a_volume_that_is_asked_for(asked: Obj, there: Obj, wanted: str) -> None:
    assert matching.mismatch(asked, there) == wanted


def test_giving_and_taking_back() -> None:
    given = matching.given_to(volume(), claim())
    assert given["spec"]["claimRef"] == MINE | {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "resourceVersion": "7"}
    assert given["metadata"]["annotations"] == {matching.BOUND_BY_CONTROLLER: "yes"}
    assert matching.given_to(given, claim()) is given
    assert "claimRef" not in matching.taken_back(given)["spec"]

    kept = matching.given_to(volume(claimRef=dict(BY_NAME)), claim())
    assert kept["spec"]["claimRef"]["uid"] == "u"
    assert matching.BOUND_BY_CONTROLLER not in kept["metadata"].get("annotations", {}), "a person chose"
    back = matching.taken_back(kept)
    assert (matching.claim_key(back), matching.claim_uid(back)) == (("default", "c"), "")

    with pytest.raises(ApiError, match="bound to another claim"):
        matching.given_to(volume(claimRef=OTHERS), claim())
    with pytest.raises(ApiError, match="asks for another volume"):
        matching.bound_to(claim(volumeName="w"), volume())
    assert matching.bound_to(claim(volumeName="v"), volume())["metadata"]["annotations"] == {matching.BIND_COMPLETED: "yes"}
