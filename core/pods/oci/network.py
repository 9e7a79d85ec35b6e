"""A sandbox's network: which configuration, what it is told of the pod, and what must be undone later, also after a reboot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base import bundle
from pinnace.core.base.aio import children
from pinnace.core.base.files import write_whole
from pinnace.core.base.runtime import SandboxConfig
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.oci.cni import Attachment, Conf, Network, NetworkFailed, Plugins, addresses, configured

logger = logging.getLogger(__name__)
_RECORD: Final = "network.json"
_LOOK_SECONDS: Final = 10.0
BRIDGE: Final = "pinnace0"
DEFAULT: Final = "the default network"


def default_network(subnet: str, leases: Path, *, bridge: str = BRIDGE, has_firewall: bool = False) -> Network:
    """A bridge with addresses out of `subnet`, hostPorts, and a way out through the node. Its leases end with the machine's uptime, as
    the pods' namespaces do."""
    ip_network(subnet)
    plugins: list[Conf] = [
        {
            "type": "bridge",
            "bridge": bridge,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(leases)},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ]
    if has_firewall:
        plugins.append({"type": "firewall"})
    return Network("pinnace", "0.4.0", tuple(plugins), DEFAULT)


class PodNetwork:
    """Attaches sandboxes. What was done is noted in the sandbox's folder before it is done."""

    def __init__(self, settings: BuiltinRuntimeSettings, *, bridge: str = BRIDGE) -> None:
        self._settings = settings
        self._plugins = Plugins(settings.cni_bin_dirs)
        self._bridge = bridge

    def _network(self, *, has_firewall: bool = False) -> Network:
        found = configured(self._settings.cni_conf_dir)
        if found is not None:
            return found
        try:
            return default_network(
                self._settings.pod_subnet,
                self._settings.run_dir / "leases",
                bridge=self._bridge,
                has_firewall=has_firewall,
            )
        except ValueError as error:
            raise NetworkFailed(f"builtinRuntime.podSubnet: {error}") from error

    def problem(self) -> str:
        """Why pods cannot get a network of their own, and what to do; "" when they can."""
        try:
            network = self._network()
        except NetworkFailed as error:
            return str(error)
        return self._lacking(network)

    def _lacking(self, network: Network) -> str:
        missing = self._plugins.missing(network)
        if missing:
            where = ", ".join(map(str, self._settings.cni_bin_dirs))
            return f"the network plugins {', '.join(missing)} are not in {where}; install containernetworking-plugins or set cniBinDirs"
        return ""

    async def attach(self, folder: Path, sandbox_id: str, netns: Path, config: SandboxConfig) -> tuple[str, ...]:
        """The sandbox's addresses. Raises NetworkFailed."""
        network = await asyncio.to_thread(self._network)
        if network.source == DEFAULT and self._plugins.find("firewall") is not None and await _drops_forwarded():
            network = self._network(has_firewall=True)
        if lacking := await asyncio.to_thread(self._lacking, network):
            raise NetworkFailed(lacking)  # before anything is begun that without them could not be undone either
        attachment = Attachment(
            container_id=sandbox_id,
            netns=str(netns),
            args={
                "IgnoreUnknown": "1",
                "K8S_POD_NAMESPACE": config.namespace,
                "K8S_POD_NAME": config.name,
                "K8S_POD_INFRA_CONTAINER_ID": sandbox_id,
                "K8S_POD_UID": config.uid,
            },
            capabilities=_capabilities(config),
        )
        await asyncio.to_thread(_note, folder, network, attachment, None, is_durable=True)
        result = await self._plugins.add(network, attachment)
        await asyncio.to_thread(_note, folder, network, attachment, result)
        return addresses(result)

    async def detach(self, folder: Path, *, netns: str) -> None:
        """Undo `attach`, after a reboot too, when `netns` is "": addresses kept on the disk are given back. Nothing happens when there is
        nothing to undo. Raises NetworkFailed."""
        try:
            noted = await asyncio.to_thread(_noted, folder)
        except ValueError as error:
            logger.warning("pods.network.record_unreadable folder=%s reason=%s: the network of today is asked to undo it", folder, error)
            noted = await asyncio.to_thread(self._network), Attachment(folder.name, netns), None
        if noted is None:
            return
        network, attachment, result = noted
        await self._plugins.delete(network, replace(attachment, netns=netns), result)
        await asyncio.to_thread((folder / _RECORD).unlink, missing_ok=True)


async def _drops_forwarded() -> bool:
    """Does the machine drop what it would forward, as one with docker does? Pods then need rules of their own; those take their time."""
    try:
        process = await children.start(
            "iptables",
            "-w",
            "5",
            "-S",
            "FORWARD",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=bundle.environment(),
        )
        output, _ = await children.hear(process, seconds=_LOOK_SECONDS)
    except (OSError, TimeoutError):
        return False
    return output.startswith(b"-P FORWARD DROP")


def _capabilities(config: SandboxConfig) -> dict[str, Any]:
    """Runtime capabilities by the CNI conventions; a plugin gets those it asks for."""
    found: dict[str, Any] = {}
    ports = [
        {"hostPort": each.host_port, "containerPort": each.container_port, "protocol": each.protocol.lower(), "hostIP": each.host_ip}
        for each in config.ports
        if each.host_port
    ]
    if ports:
        found["portMappings"] = ports
    if config.dns is not None:
        found["dns"] = {"servers": config.dns.servers, "searches": config.dns.searches, "options": config.dns.options}
    found["io.kubernetes.cri.pod-annotations"] = dict(config.annotations)
    return found


def _note(folder: Path, network: Network, attachment: Attachment, result: Conf | None, *, is_durable: bool = False) -> None:
    content = {"network": asdict(network), "attachment": asdict(attachment), "result": result}
    write_whole(folder / _RECORD, orjson.dumps(content), is_durable=is_durable)


def _noted(folder: Path) -> tuple[Network, Attachment, Conf | None] | None:
    """None when nothing was attached. Raises ValueError when that cannot be read."""
    try:
        found: Mapping[str, Any] = orjson.loads((folder / _RECORD).read_bytes())
        network = Network(**{**found["network"], "plugins": tuple(found["network"]["plugins"])})
        return network, Attachment(**found["attachment"]), found["result"]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise ValueError(f"something is missing: {error}") from error
