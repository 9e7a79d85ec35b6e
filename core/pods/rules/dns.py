"""What a pod's resolv.conf says (Kubernetes API, core/v1 PodSpec.dnsPolicy and dnsConfig)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import Dns

MOST_SERVERS: Final = 3
MOST_SEARCHES: Final = 32
MOST_SEARCH_CHARACTERS: Final = 2048


class Notice(NamedTuple):
    """Something a person should know, as an event of the pod: reason and message."""

    reason: str
    message: str


def read_resolv_conf(text: str) -> Dns:
    """A resolv.conf(5). The last `search` or `domain` counts, and the last word on each option."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: dict[str, None] = {}
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        match words:
            case ["nameserver", address, *_]:
                servers.append(address)
            case ["search" | "domain", *names]:
                searches = tuple(name.rstrip(".") or "." for name in names)
            case ["options", *given]:
                options.update(dict.fromkeys(given))
            case _:
                pass
    return Dns(tuple(servers), searches, tuple(options))


def dns_of(pod: Pod, host: Dns, *, cluster_dns: Sequence[str], cluster_domain: str) -> tuple[Dns, list[Notice]]:
    """`host` is the node's own resolv.conf. Raises ValueError for an unknown policy."""
    notices: list[Notice] = []
    policy = pod.spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and pod.host_network:
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        if cluster_dns:
            base = Dns(tuple(cluster_dns), (*_cluster_searches(pod.namespace, cluster_domain), *host.searches), ("ndots:5",))
        else:
            notices.append(
                Notice(
                    "MissingClusterDNS",
                    f"{policy} is not possible: clusterDNS is not set in edgecore.yaml. The node's own name servers are used (Default).",
                )
            )
            base = host
    elif policy == "Default":
        base = host
    elif policy == "None":
        base = Dns()
    else:
        raise ValueError(f"dnsPolicy: expected ClusterFirst, ClusterFirstWithHostNet, Default or None, not {policy!r}")
    return _bounded(_with_config(base, pod.spec.get("dnsConfig") or {}), notices), notices


def _cluster_searches(namespace: str, domain: str) -> tuple[str, ...]:
    return (f"{namespace}.svc.{domain}", f"svc.{domain}", domain) if domain else ()


def _with_config(base: Dns, config: dict[str, object]) -> Dns:
    """The pod's own servers and searches come after, its options in place of those of the same name."""
    servers, searches, options = (config.get(each) for each in ("nameservers", "searches", "options"))
    merged = {option.partition(":")[0]: option for option in base.options}
    for each in options if isinstance(options, list) else ():
        name, value = str(each.get("name", "")), each.get("value")
        merged[name] = f"{name}:{value}" if value not in (None, "") else name
    return Dns(
        _once((*base.servers, *map(str, servers if isinstance(servers, list) else ()))),
        _once((*base.searches, *map(str, searches if isinstance(searches, list) else ()))),
        tuple(merged.values()),
    )


def _bounded(dns: Dns, notices: list[Notice]) -> Dns:
    """What a C library reads of it at most."""
    servers, searches = dns.servers[:MOST_SERVERS], list(dns.searches[:MOST_SEARCHES])
    while len(" ".join(searches)) > MOST_SEARCH_CHARACTERS:
        searches.pop()
    if len(servers) < len(dns.servers):
        notices.append(Notice("DNSConfigForming", f"only {MOST_SERVERS} name servers are used: {' '.join(servers)}"))
    if len(searches) < len(dns.searches):
        notices.append(Notice("DNSConfigForming", f"some search paths have been left out, these are used: {' '.join(searches)}"))
    return Dns(servers, tuple(searches), dns.options)


def _once(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
