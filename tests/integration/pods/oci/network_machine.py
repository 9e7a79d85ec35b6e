"""Run in a network namespace of its own by test_network.py: the default network, as on a machine that has no configuration.

Ends with 0 when all was as it should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, remove_cgroups
from rig.images import busybox
from rig.oci import OciHome

from pinnace.core.base.runtime import Namespaces, PortMapping, RuntimeFailed, SandboxState
from pinnace.core.pods.oci.runtime import OciRuntime

IMAGE = "pinnace.test/busybox:1"
SERVE = "mkdir /www; hostname >/www/who; httpd -f -p 80 -h /www"


async def answers(host: str, port: int) -> str:
    """What a web server says to a plain request for /who, once it answers."""
    reply = b""
    async with asyncio.timeout(20):
        while not reply:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET /who HTTP/1.0\r\n\r\n")
                reply = await reader.read()
                writer.close()
            await asyncio.sleep(0.02)
    return reply.decode().rpartition("\r\n\r\n")[2].strip()


def rules() -> str:
    return "".join(
        subprocess.run(["iptables-save", "-t", table], capture_output=True, text=True, check=True).stdout for table in ("nat", "filter")
    )


def leases(home: OciHome) -> set[str]:
    return {path.name for path in (home.settings.run_dir / "leases").rglob("*") if path.name[:1].isdigit()}


async def pods_reach_each_other_and_are_reached(runtime: OciRuntime, folder: Path, home: OciHome) -> None:
    one, two = TestPod(runtime, folder, "/pinnace-test-net"), TestPod(runtime, folder, "/pinnace-test-net")
    await one.sandbox(namespaces=Namespaces(), hostname="one", ports=(PortMapping(80, 8080), PortMapping(80, 8081, host_ip="127.0.0.1")))
    await two.sandbox(namespaces=Namespaces(), hostname="two")
    ips = [each.ips for pod in (one, two) for each in await runtime.sandboxes(pod.uid)]
    assert all(len(each) == 1 for each in ips), ips
    assert leases(home) == {each[0] for each in ips}
    await one.start(("/bin/sh", "-c", SERVE), image=IMAGE)
    assert await answers(ips[0][0], 80) == "one"
    assert await answers("127.0.0.1", 8080) == "one"
    assert await answers("127.0.0.1", 8081) == "one"
    said = await two.output(f"wget -qO- http://{ips[0][0]}/who; ip -o -4 addr show eth0 | grep -c {ips[1][0]}", image=IMAGE)
    assert said == "one\n1\n", said
    async with runtime.port_forward(one.sandbox_id, 80) as connection:
        await connection.write(b"GET /who HTTP/1.0\r\n\r\n")
        found = b""
        while data := await connection.read():
            found += data
        assert found.endswith(b"one\n"), found
    with pytest.raises(RuntimeFailed, match="port 81"):
        await runtime.port_forward(one.sandbox_id, 81).__aenter__()
    await one.remove()
    await two.remove()
    assert leases(home) == set()
    assert "--dport 8080" not in rules(), rules()


async def reboot_gives_addresses_back(runtime: OciRuntime, folder: Path, home: OciHome, kept: Path) -> None:
    """Also when a configured network keeps its leases on the disk."""
    home.settings.cni_conf_dir.mkdir(exist_ok=True)
    (home.settings.cni_conf_dir / "20-own.conf").write_text(
        '{"cniVersion": "0.3.1", "name": "own", "type": "bridge", "bridge": "own0", "isGateway": true, "ipam": {"type": "host-local",'
        f' "subnet": "10.77.0.0/30", "dataDir": "{kept}"}}}}'
    )
    pod = TestPod(runtime, folder, "/pinnace-test-net")
    await pod.sandbox(namespaces=Namespaces())
    assert (await runtime.sandboxes(pod.uid))[0].ips == ("10.77.0.2",)
    full = TestPod(runtime, folder, "/pinnace-test-net")
    with pytest.raises(RuntimeFailed, match="no IP addresses available"):
        await full.sandbox(namespaces=Namespaces())
    assert await runtime.sandboxes(full.uid) == []
    await runtime.close()
    home.power_cut()
    second = home.adapter(boot="next")
    await second.start()
    assert (await second.sandboxes(pod.uid))[0].state is SandboxState.NOT_READY
    await second.stop_sandbox(pod.sandbox_id)
    pod.runtime = second
    await pod.sandbox(namespaces=Namespaces(), attempt=1)
    assert [each.ips for each in await second.sandboxes(pod.uid) if each.attempt == 1] == [("10.77.0.2",)]
    await pod.remove()
    await second.close()


async def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with OciHome({IMAGE: busybox()}, default_network=True) as home, tempfile.TemporaryDirectory() as folder:
        runtime = home.adapter()
        await runtime.start()
        state = await runtime.state()
        assert (state.problem, state.network_problem) == ("", ""), state
        try:
            await pods_reach_each_other_and_are_reached(runtime, Path(folder), home)
            await reboot_gives_addresses_back(runtime, Path(folder), home, Path(folder) / "kept")
        finally:
            remove_cgroups("/pinnace-test-net")


sys.exit(asyncio.run(main()))
