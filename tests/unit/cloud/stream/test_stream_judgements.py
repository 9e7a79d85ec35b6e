"""What the stream server asks of the API server for each request, and whom an address stands for."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.cloud.ports import Object
from pinnace.cloud.stream.reviews import Caller, Reviews
from pinnace.cloud.stream.settings import CloudStreamSettings
from pinnace.cloud.stream.tunnels import Tunnels
from pinnace.core.base.contract.keys import NodeName


class Asked:
    def __init__(self) -> None:
        self.attributes: list[Object] = []

    async def create(self, resource: Any, body: Object) -> Object:
        self.attributes.append(body["spec"]["resourceAttributes"])
        return {"status": {"allowed": False}}


@pytest.mark.parametrize(
    ("method", "path", "verb", "subresource"),
    [
        ("GET", "/containerLogs/default/web/main", "get", "proxy"),
        ("GET", "/stats/summary", "get", "stats"),
        ("GET", "/metrics/resource", "get", "metrics"),
        ("POST", "/exec/default/web/main", "create", "proxy"),
        ("GET", "/exec/default/web/main", "create", "proxy"),
        ("GET", "/attach/default/web/main", "create", "proxy"),
        ("GET", "/portForward/default/web", "create", "proxy"),
    ],
)
async def test_who_may_read_may_not_therefore_act(method: str, path: str, verb: str, subresource: str) -> None:
    asked: Any = Asked()
    assert not await Reviews(asked).allows(Caller("somebody", ()), NodeName("edge-1"), method, path)
    assert [(each["verb"], each["subresource"]) for each in asked.attributes] == [(verb, subresource)]


def test_an_address_that_two_nodes_name_stands_for_neither() -> None:
    async def connected(node: NodeName) -> None:
        pass

    vault: Any = None
    tunnels = Tunnels(vault, CloudStreamSettings(), connected=connected)
    tunnels.addresses.update({NodeName("a"): "10.0.0.1", NodeName("b"): "10.0.0.2"})
    assert (tunnels.at("10.0.0.1"), tunnels.at("10.0.0.2"), tunnels.at("10.0.0.3")) == ("a", "b", None)
    tunnels.addresses[NodeName("b")] = "10.0.0.1"
    assert tunnels.at("10.0.0.1") is None
