"""A pod's resolv.conf."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import Dns
from pinnace.core.pods.rules.dns import Notice, dns_of, read_resolv_conf

HOST = Dns(("192.168.4.1",), ("lan",), ("rotate", "ndots:2"))


def made(cluster_dns: tuple[str, ...] = ("10.96.0.10",), **spec: Any) -> tuple[Dns, list[Notice]]:
    return dns_of(Pod({"metadata": {"namespace": "shop"}, "spec": spec}), HOST, cluster_dns=cluster_dns, cluster_domain="cluster.local")


CLUSTER = Dns(("10.96.0.10",), ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"), ("ndots:5",))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, CLUSTER),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, HOST),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER),
        ({"dnsPolicy": "Default"}, HOST),
        ({"dnsPolicy": "None"}, Dns()),
    ],
)
def test_policies(spec: dict[str, Any], expected: Dns) -> None:
    assert made(**spec) == (expected, [])


def test_without_a_cluster_dns_the_nodes_own_is_used_and_told() -> None:
    dns, notices = made(())
    assert dns == HOST
    assert [each.reason for each in notices] == ["MissingClusterDNS"]
    assert made((), dnsPolicy="Default")[1] == []


def test_own_settings() -> None:
    config = {
        "nameservers": ["1.1.1.1", "192.168.4.1"],
        "searches": ["example.org", "lan"],
        "options": [{"name": "ndots", "value": "1"}, {"name": "use-vc"}],
    }
    dns, _ = made(dnsPolicy="Default", dnsConfig=config)
    assert dns == Dns(("192.168.4.1", "1.1.1.1"), ("lan", "example.org"), ("rotate", "ndots:1", "use-vc"))


def test_bounds() -> None:
    config = {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"], "searches": [f"s{number}" for number in range(40)]}
    dns, notices = made(dnsPolicy="None", dnsConfig=config)
    assert (len(dns.servers), len(dns.searches)) == (3, 32)
    assert [each.reason for each in notices] == ["DNSConfigForming"] * 2
    long, _ = made(dnsPolicy="None", dnsConfig={"searches": [str(number) * 200 for number in range(9)] * 2 + ["a" * 500, "b" * 500]})
    assert len(" ".join(long.searches)) <= 2048


def test_an_unknown_policy() -> None:
    with pytest.raises(ValueError, match="Sometimes"):
        made(dnsPolicy="Sometimes")


def test_reading() -> None:
    text = """\
# made by hand
domain old
nameserver 1.2.3.4 # first
nameserver fe80::1%eth0
search a.example. b
options ndots:3 rotate
options rotate
nonsense
"""
    assert read_resolv_conf(text) == Dns(("1.2.3.4", "fe80::1%eth0"), ("a.example", "b"), ("ndots:3", "rotate"))
    assert read_resolv_conf("") == Dns()
