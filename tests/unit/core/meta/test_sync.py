"""What a push does to the store, who hears of it, and what is answered."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import StoreFull
from pinnace.core.base.ports import ObjectChange, StoredObject
from pinnace.core.meta.sync import Sync
from pinnace.ext.records import Envelope


class FakeObjects:
    """Implements base.ports.ObjectStore on a dict; `transactions` counts, `is_full` refuses."""

    def __init__(self) -> None:
        self.objects: dict[ResourceKey, StoredObject] = {}
        self.transactions: list[list[ObjectChange]] = []
        self.is_full = False

    def get(self, key: ResourceKey) -> StoredObject | None:
        return self.objects.get(key)

    def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[StoredObject]:
        raise NotImplementedError

    async def apply(self, changes: Sequence[ObjectChange]) -> None:
        if not changes:
            return
        if self.is_full:
            raise StoreFull("no space left on the disk")
        self.transactions.append([*changes])
        for change in changes:
            if change.operation == "delete":
                self.objects.pop(change.key, None)
            else:
                self.objects[change.key] = StoredObject(change.key, change.version, change.body)


KEY = ResourceKey("configmap", "default", "c")


def push(
    operation: str, version: str = "", data: str = "", *, uid: str = "u-1", resource: str = "default/configmap/c", header: bool = True
) -> Envelope:
    content: dict[str, Any] = {"metadata": {"name": "c", "uid": uid}, "data": data}
    if version:
        content["metadata"]["resourceVersion"] = version
    return envelopes.new("edgecontroller", "resource", operation, resource, content, resource_version=version if header else "")


class Rig:
    def __init__(self) -> None:
        self.store = FakeObjects()
        self.sync = Sync(self.store, node=NodeName("n"))
        self.heard: list[ObjectChange] = []
        self.sync.on_change("configmap", self.hear)

    async def hear(self, change: ObjectChange) -> None:
        applied = [each for transaction in self.store.transactions for each in transaction]
        if change.operation == "delete":
            assert any(each[:2] == change[:2] for each in applied) or change.key not in self.store.objects
        else:
            assert any(each[1:] == change[1:] for each in applied), "told before it was durable"
        self.heard.append(change)

    @property
    def operations(self) -> list[tuple[str, str]]:
        return [(each.operation, each.version) for each in self.heard]

    def data(self) -> str:
        found: str = orjson.loads(self.store.objects[KEY].body)["data"]
        return found


@pytest.fixture
def rig() -> Rig:
    return Rig()


def is_ack(answers: list[Envelope], message: Envelope) -> bool:
    (answer,) = answers
    return (answer.parent_id, answer.operation, answer.body, answer.resource, answer.group, answer.source) == (
        message.msg_id, "response", b'"OK"', message.resource, message.group, message.source,
    )  # fmt: skip


def is_error(answers: list[Envelope], message: Envelope) -> bool:
    (answer,) = answers
    return (answer.parent_id, answer.operation) == (message.msg_id, "error") and isinstance(orjson.loads(answer.body), str)


async def test_insert_update_delete(rig: Rig) -> None:
    for message in (push("insert", "5", "one"), push("update", "7", "two")):
        assert is_ack(await rig.sync.handle(message), message)
    assert rig.store.objects[KEY].version == "7"
    assert rig.data() == "two"
    message = push("delete", "8")
    assert is_ack(await rig.sync.handle(message), message)
    assert rig.store.objects == {}
    assert rig.operations == [("insert", "5"), ("update", "7"), ("delete", "8")]


async def test_an_update_of_something_unknown_inserts_and_an_insert_of_something_known_updates(rig: Rig) -> None:
    await rig.sync.handle(push("update", "5"))
    await rig.sync.handle(push("insert", "6"))
    assert rig.operations == [("insert", "5"), ("update", "6")]


async def test_an_older_version_changes_nothing_and_is_acknowledged(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "100", "new"))
    late = push("update", "99", "old")
    assert is_ack(await rig.sync.handle(late), late)
    assert rig.data() == "new"
    assert rig.operations == [("insert", "100")]


async def test_versions_compare_as_numbers(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "9", "old"))
    await rig.sync.handle(push("update", "10", "new"))
    assert rig.data() == "new"


@pytest.mark.parametrize("version", ["abc", "", "9" * 5000])
async def test_versions_that_are_no_numbers_are_never_older(rig: Rig, version: str) -> None:
    await rig.sync.handle(push("insert", "9", "old"))
    message = push("update", version, "new")
    assert is_ack(await rig.sync.handle(message), message)
    assert rig.data() == "new"


async def test_an_object_created_anew_replaces_the_earlier_one_whatever_its_version(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "100", "old", uid="u-1"))
    await rig.sync.handle(push("insert", "3", "new", uid="u-2"))
    assert rig.data() == "new"


async def test_a_delete_of_the_earlier_object_leaves_the_new_one(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "100", "new", uid="u-2"))
    message = push("delete", "99", uid="u-1")
    assert is_ack(await rig.sync.handle(message), message)
    assert rig.data() == "new"
    assert rig.operations == [("insert", "100")]


async def test_an_older_version_that_comes_after_the_deletion_stays_away(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "5"))
    await rig.sync.handle(push("delete", "9"))
    late = push("update", "7")
    assert is_ack(await rig.sync.handle(late), late)
    assert rig.store.objects == {}
    await rig.sync.handle(push("update", "9"))
    assert KEY in rig.store.objects, "an object that was only taken from this node may come back unchanged"


async def test_a_repetition_is_not_written_again_but_told_and_acknowledged_again(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "5", "x"))
    message = push("update", "5", "x")
    assert is_ack(await rig.sync.handle(message), message)
    assert len(rig.store.transactions) == 1
    assert rig.operations == [("insert", "5"), ("update", "5")]


async def test_a_deletion_of_something_unknown_is_acknowledged(rig: Rig) -> None:
    stub = envelopes.new("edgecontroller", "resource", "delete", "default/configmap/c", {"metadata": {"name": "c", "uid": "u"}})
    assert is_ack(await rig.sync.handle(stub), stub)
    assert rig.store.transactions == []
    assert rig.operations == [("delete", "")]


async def test_a_deletion_needs_no_content(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "5"))
    message = envelopes.new("edgecontroller", "resource", "delete", "default/configmap/c")
    assert is_ack(await rig.sync.handle(message), message)
    assert rig.store.objects == {}


async def test_the_version_may_stand_in_the_object_only(rig: Rig) -> None:
    await rig.sync.handle(push("insert", "5", header=False))
    assert rig.store.objects[KEY].version == "5"


async def test_content_may_be_a_text_that_holds_the_object(rig: Rig) -> None:
    content = {"metadata": {"name": "c", "resourceVersion": "5"}, "data": "x"}
    message = envelopes.new("edgecontroller", "resource", "insert", "default/configmap/c", orjson.dumps(content).decode())
    assert is_ack(await rig.sync.handle(message), message)
    assert orjson.loads(rig.store.objects[KEY].body) == content


async def test_cluster_scoped_objects_have_no_namespace(rig: Rig) -> None:
    await rig.sync.handle(push("update", "5", resource="null/node/edge-1"))
    assert list(rig.store.objects) == [ResourceKey("node", "", "edge-1")]


async def test_a_patch_is_merged_into_what_is_stored(rig: Rig) -> None:
    content = {"metadata": {"uid": "u", "resourceVersion": "5"}, "data": {"a": "1", "b": "2"}}
    await rig.sync.handle(envelopes.new("edgecontroller", "resource", "insert", "default/configmap/c", content, resource_version="5"))
    patch = {"metadata": {"resourceVersion": "6"}, "data": {"a": None, "c": "3"}}
    message = envelopes.new("edgecontroller", "resource", "patch", "default/configmap/c", patch, resource_version="6")
    assert is_ack(await rig.sync.handle(message), message)
    assert orjson.loads(rig.store.objects[KEY].body) == {
        "metadata": {"uid": "u", "resourceVersion": "6"}, "data": {"b": "2", "c": "3"},
    }  # fmt: skip


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("operation", "resource", "body"),
    [
        ("insert", "default/configmap/c", b"{"),
        ("insert", "default/configmap/c", b"null"),
        ("insert", "default/configmap/c", b"[1]"),
        ("insert", "default/configmap/c", b'"text"'),
        ("insert", "default/configmap/c", b'{"metadata":[]}'),
        ("insert", "node/edge-1/default/configmap/c", b'{"metadata":{}}'),
        ("insert", "configmap", b'{"metadata":{}}'),
        ("upsert", "default/configmap/c", b'{"metadata":{}}'),
        ("patch", "default/configmap/unknown", b"{}"),
        ("patch", "default/configmap/known", b"[]"),
        ("patch", "default/configmap/known", b"{"),
        ("patch", "default/configmap/known", nested(900)),
    ],
)
async def test_what_cannot_be_stored_is_answered_with_an_error_and_logged_once(
    rig: Rig, caplog: pytest.LogCaptureFixture, operation: str, resource: str, body: bytes
) -> None:
    await rig.sync.handle(push("insert", "5", resource="default/configmap/known"))
    before = dict(rig.store.objects)
    message = envelopes.new("edgecontroller", "resource", operation, resource, body, resource_version="8")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert is_error(await rig.sync.handle(message), message)
    assert rig.store.objects == before
    assert [record.getMessage().split()[0] for record in caplog.records] == ["sync.refused"]


async def test_a_full_disk_is_no_acknowledgement_and_the_repetition_is(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.store.is_full = True
    message = push("insert", "5")
    assert is_error(await rig.sync.handle(message), message)
    assert is_error(await rig.sync.handle(message), message)
    assert len(caplog.records) == 1
    assert rig.heard == []
    rig.store.is_full = False
    assert is_ack(await rig.sync.handle(message), message)
    assert KEY in rig.store.objects


@pytest.mark.parametrize("error", [StoreFull("full"), RuntimeError("broken")])
async def test_a_listener_that_fails_keeps_the_acknowledgement_back(rig: Rig, error: Exception) -> None:
    failures = [error]

    async def fail_once(change: ObjectChange) -> None:
        if failures:
            raise failures.pop()

    rig.sync.on_change("configmap", fail_once)
    message = push("insert", "5")
    assert is_error(await rig.sync.handle(message), message)
    assert is_ack(await rig.sync.handle(message), message)


async def test_answers_are_left_alone_except_late_ones_that_hold_an_object(rig: Rig) -> None:
    answer = push("response", "5", resource="default/lease/c")
    answer.parent_id = "q"
    assert await rig.sync.handle(answer) == []
    answer = push("response", "5")
    answer.parent_id = "q"
    assert is_ack(await rig.sync.handle(answer), answer)
    assert KEY in rig.store.objects
