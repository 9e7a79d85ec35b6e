"""A pod's hostname and its /etc/hosts (Kubernetes API, core/v1 PodSpec.hostname, subdomain, setHostnameAsFQDN, hostAliases)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pinnace.core.base.pod import Pod

LABEL_CHARACTERS: Final = 63
KERNEL_CHARACTERS: Final = 64
_LOCAL: Final = """\
# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
_COPIED: Final = "# Kubernetes-managed hosts file (host network).\n"


def short_name(pod: Pod) -> str:
    """spec.hostname, else the pod's name cut to what a label may have."""
    return str(pod.spec.get("hostname") or pod.name[:LABEL_CHARACTERS].rstrip("-."))


def domain_of(pod: Pod, cluster_domain: str) -> str:
    """What follows the short name in the pod's full one; "" without a subdomain."""
    subdomain = pod.spec.get("subdomain")
    return f"{subdomain}.{pod.namespace}.svc.{cluster_domain}" if subdomain else ""


def hostname_of(pod: Pod, cluster_domain: str) -> str:
    """What `hostname` says in the pod; "" on the host's network. Raises ValueError when the full name is wanted and too long for Linux."""
    if pod.host_network:
        return ""
    short, domain = short_name(pod), domain_of(pod, cluster_domain)
    if not pod.spec.get("setHostnameAsFQDN") or not domain:
        return short
    full = f"{short}.{domain}"
    if len(full) > KERNEL_CHARACTERS:
        raise ValueError(f"setHostnameAsFQDN: {full} has {len(full)} characters, Linux allows {KERNEL_CHARACTERS}")
    return full


def hosts_file(pod: Pod, pod_ips: Sequence[str], *, cluster_domain: str, node_hosts: str) -> str:
    """The text of /etc/hosts. `node_hosts` is the node's own, which a pod on the host's network gets a copy of."""
    if pod.host_network:
        text = _COPIED + node_hosts + ("" if node_hosts.endswith("\n") or not node_hosts else "\n")
    else:
        short, domain = short_name(pod), domain_of(pod, cluster_domain)
        names = f"{short}.{domain}\t{short}" if domain else short
        text = _LOCAL + "".join(f"{address}\t{names}\n" for address in pod_ips)
    aliases = pod.spec.get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join("\t".join([str(each.get("ip", "")), *map(str, each.get("hostnames") or ())]) + "\n" for each in aliases)
    return text
