"""Hostnames and /etc/hosts."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.core.base.pod import Pod
from pinnace.core.pods.rules.hosts import hostname_of, hosts_file


def pod(name: str = "web", **spec: Any) -> Pod:
    return Pod({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod(), "web"),
        (pod(hostname="desk"), "desk"),
        (pod("a" * 62 + "-bcd"), "a" * 62),
        (pod("a" * 70), "a" * 63),
        (pod(subdomain="till"), "web"),
        (pod(subdomain="till", setHostnameAsFQDN=True), "web.till.shop.svc.cluster.local"),
        (pod(setHostnameAsFQDN=True), "web"),
        (pod(hostNetwork=True, hostname="desk"), ""),
    ],
)
def test_hostname(given: Pod, expected: str) -> None:
    assert hostname_of(given, "cluster.local") == expected


def test_a_full_name_too_long_for_linux() -> None:
    with pytest.raises(ValueError, match="64"):
        hostname_of(pod("a" * 60, subdomain="till", setHostnameAsFQDN=True), "cluster.local")


def lines(given: Pod, ips: tuple[str, ...] = ("10.1.0.7",), node_hosts: str = "") -> list[str]:
    return hosts_file(given, ips, cluster_domain="cluster.local", node_hosts=node_hosts).splitlines()


def test_hosts() -> None:
    found = lines(pod(), ("10.1.0.7", "fd00::7"))
    assert found[0] == "# Kubernetes-managed hosts file."
    assert found[1] == "127.0.0.1\tlocalhost"
    assert found[-2:] == ["10.1.0.7\tweb", "fd00::7\tweb"]
    assert lines(pod(subdomain="till"))[-1] == "10.1.0.7\tweb.till.shop.svc.cluster.local\tweb"


def test_aliases() -> None:
    found = lines(pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}, {"ip": "5.6.7.8", "hostnames": ["c"]}]))
    assert found[-3:] == ["# Entries added by HostAliases.", "1.2.3.4\ta\tb", "5.6.7.8\tc"]


def test_the_hosts_network_has_a_copy_of_the_nodes() -> None:
    found = lines(pod(hostNetwork=True, hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a"]}]), node_hosts="127.0.0.1 localhost pi")
    assert found == [
        "# Kubernetes-managed hosts file (host network).",
        "127.0.0.1 localhost pi",
        "",
        "# Entries added by HostAliases.",
        "1.2.3.4\ta",
    ]
