"""Reply rules and the string-or-object rule."""

from __future__ import annotations

from pinnace.core.base.contract import envelopes
from pinnace.core.base.contract.envelopes import Group, Operation, Source


def test_an_answer_echoes_the_route_and_names_its_parent() -> None:
    push = envelopes.new(Source.EDGECONTROLLER, Group.RESOURCE, Operation.UPDATE, "default/configmap/c", {"a": 1})
    answer = envelopes.ack(push)
    assert (answer.parent_id, answer.source, answer.group, answer.resource) == (push.msg_id, push.source, push.group, push.resource)
    assert (answer.operation, answer.body) == ("response", b'"OK"')
    assert answer.msg_id != push.msg_id


def test_an_answer_to_a_query_can_change_the_group() -> None:
    query = envelopes.new(Source.EDGED, Group.META, Operation.QUERY, "default/configmap/c")
    answer = envelopes.reply(query, {"kind": "ConfigMap"}, source=Source.EDGECONTROLLER, group=Group.RESOURCE, resource_version="7")
    assert (answer.source, answer.group, answer.resource_version) == ("edgecontroller", "resource", "7")


def test_string_or_object() -> None:
    as_object = envelopes.new("s", "g", "update", "r", {"a": 1})
    as_text = envelopes.new("s", "g", "update", "r", '{"a":1}')
    assert envelopes.load_body(as_object) == envelopes.load_body(as_text) == {"a": 1}
    assert envelopes.body_text(as_object) == envelopes.body_text(as_text) == b'{"a":1}'


def test_a_plain_text_stays_a_text() -> None:
    assert envelopes.load_body(envelopes.new("s", "g", "update", "r", "ping")) == "ping"


def test_bytes_are_taken_as_json_text() -> None:
    assert envelopes.new("s", "g", "update", "r", b'{"a":1}').body == b'{"a":1}'
