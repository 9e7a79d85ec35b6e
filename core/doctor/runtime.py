"""What runs containers and connects them: crun and network plugins, or a runtime behind a socket; iptables for ports of the host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject
from pinnace.core.pods.oci.shims import PROGRAM

PLUGINS: Final = ("bridge", "host-local", "loopback", "portmap")
_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """`endpoint` is the socket of another runtime, "" for the built-in one, and `endpoint_problem` why it does not answer; where
    `is_forbidden`, only root may ask. `forward_policy` is the firewall's word on packets that pass through (ACCEPT, DROP, "" unknown)."""

    runs_pods: bool = True
    is_root: bool = True
    endpoint: str = ""
    endpoint_problem: str = ""
    is_forbidden: bool = False
    crun: str = ""
    crun_version: str = ""
    has_shim: bool = True
    missing_plugins: list[str] = field(default_factory=list)
    plugin_folders: list[str] = field(default_factory=list)
    iptables: str = ""
    forward_policy: str = ""
    forwards: bool = True


def read(subject: Subject, *, is_root: bool) -> RuntimeFacts:
    edged = subject.settings.modules.edged
    builtin, endpoint = edged.builtin_runtime, edged.tailored_kubelet_config.container_runtime_endpoint
    if not edged.enable:
        return RuntimeFacts(runs_pods=False)
    if endpoint:
        try:
            return RuntimeFacts(is_root=is_root, endpoint=endpoint, endpoint_problem=_problem(endpoint.removeprefix("unix://")))
        except PermissionError:
            return RuntimeFacts(is_root=is_root, endpoint=endpoint, is_forbidden=True)
    crun = subject.which(builtin.crun) if "/" not in builtin.crun else builtin.crun * subject.path(builtin.crun).exists()
    folders = builtin.cni_bin_dirs
    return RuntimeFacts(
        is_root=is_root,
        crun=crun,
        crun_version=(subject.said(builtin.crun, "--version") or "").partition("\n")[0].removeprefix("crun version ").strip()
        if crun
        else "",
        has_shim=PROGRAM.exists(),
        missing_plugins=[each for each in PLUGINS if not any(subject.path(folder / each).exists() for folder in folders)],
        plugin_folders=list(map(str, folders)),
        iptables=subject.which("iptables"),
        forward_policy=_policy(subject.said("iptables", "-w", "2", "-S", "FORWARD") or ""),
        forwards=subject.text("/proc/sys/net/ipv4/ip_forward") == "1",
    )


def _problem(path: str) -> str:
    """Raises PermissionError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_SECONDS)
            probe.connect(path)
    except PermissionError:
        raise
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _policy(said: str) -> str:
    return next((line.split()[2] for line in said.splitlines() if line.startswith("-P FORWARD ")), "")


def check(facts: RuntimeFacts) -> Iterator[Finding]:
    if not facts.runs_pods:
        yield Finding("runtime", Level.OK, "not needed: this node runs no pods")
        return
    if not facts.is_root:
        yield Finding("runtime", Level.WARNING, "not looked at as root: an edge that is not root runs no pods", "sudo pinnace doctor")
    if facts.endpoint:
        yield from () if facts.is_forbidden else (_behind_socket(facts),)
        return
    yield from _builtin(facts)
    yield from _ports_of_host(facts)


def _behind_socket(facts: RuntimeFacts) -> Finding:
    if not facts.endpoint_problem:
        return Finding("runtime", Level.OK, f"something answers at {facts.endpoint}")
    name = "crio" if "crio" in facts.endpoint else "containerd"
    text = f"{facts.endpoint} does not answer ({facts.endpoint_problem}): no pod can start"
    return Finding("runtime", Level.ERROR, text, f"systemctl enable --now {name}; journalctl -u {name} -n 20")


def _builtin(facts: RuntimeFacts) -> Iterator[Finding]:
    if not facts.crun:
        yield Finding("runtime", Level.ERROR, "crun is not installed: no pod can start", "apt-get install crun")
    elif not facts.has_shim:
        text = f"{PROGRAM} is missing, which supervises containers: this build is not whole"
        yield Finding("runtime", Level.ERROR, text, "pinnace selftest")
    else:
        yield Finding("runtime", Level.OK, f"built in, with crun {facts.crun_version} at {facts.crun}".replace("  ", " "))
    if facts.missing_plugins:
        missing, folders = ", ".join(facts.missing_plugins), " or ".join(facts.plugin_folders)
        text = f"network plugins {missing} are not in {folders}: only pods with hostNetwork can start"
        yield Finding("network", Level.ERROR, text, "apt-get install containernetworking-plugins")
    else:
        yield Finding("network", Level.OK, f"plugins {', '.join(PLUGINS)}")


def _ports_of_host(facts: RuntimeFacts) -> Iterator[Finding]:
    if not facts.iptables:
        text = "iptables, which the network plugins ask for (nft alone does not do), is not installed: only pods with hostNetwork can start"
        yield Finding("firewall", Level.ERROR, text, "apt-get install iptables")
    elif facts.forward_policy == "DROP":
        text = "the firewall drops what passes through (FORWARD): pods with a network of their own may reach nobody"
        yield Finding(
            "firewall", Level.WARNING, text, "iptables -I FORWARD -s 10.88.0.0/16 -j ACCEPT\niptables -I FORWARD -d 10.88.0.0/16 -j ACCEPT"
        )
    else:
        forwarding = "" if facts.forwards else "; forwarding is switched on with the first pod"
        yield Finding("firewall", Level.OK, f"{facts.iptables}, for hostPort{forwarding}")
