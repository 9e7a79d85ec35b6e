"""Topics of both dialects, whatever a device is called."""

from __future__ import annotations

import itertools

import pytest

from pinnace.core.base.contract import topics
from pinnace.core.base.contract.keys import DeviceId
from pinnace.core.base.contract.topics import DeviceTopic, NodeVerb, Verb, device_topic, node_topic, parse_device, parse_node

WORDS = ("lamp", "twin", "update", "state", "get", "result", "device", "delta")


@pytest.mark.parametrize("verb", Verb)
def test_a_topic_is_read_as_it_was_built(verb: Verb) -> None:
    for name in WORDS:
        assert parse_device(device_topic(DeviceId("", name), verb)) == DeviceTopic(DeviceId("", name), verb, 1)
    for namespace, name in itertools.product(WORDS, WORDS):
        identity = DeviceId(namespace, name)
        assert parse_device(device_topic(identity, verb)) == DeviceTopic(identity, verb, 2)


@pytest.mark.parametrize(
    "topic", ["", "$hw/events/device/a/b", "$hw/events/device//twin/update", "$hw/events/node/a/twin/update", "a/b/c/d/e/f/g"]
)
def test_others_are_none(topic: str) -> None:
    assert parse_device(topic) is None


def test_a_node_topic_is_read_as_it_was_built() -> None:
    for verb in NodeVerb:
        found = parse_node(node_topic("edge-1", verb))
        assert found is not None
        assert (found.node, found.verb) == ("edge-1", verb)
    assert parse_node("$hw/events/node//membership/get") is None


def test_long_topics_are_read_but_not_remembered() -> None:
    before = topics._remembered.cache_info().currsize
    for letter in "abcdefgh":
        identity = DeviceId("", letter * 60_000)
        assert parse_device(device_topic(identity, Verb.TWIN_GET)) == DeviceTopic(identity, Verb.TWIN_GET, 1)
    assert topics._remembered.cache_info().currsize == before
