"""What the containers of a pod share."""

from __future__ import annotations

import asyncio
import os
import socket
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from contract.runtime.installations import Installation, Quirk
from contract.runtime.pods import HOST_NETWORK, TestPod, fetched, listening, until
from rig.processes import free_port

from pinnace.core.base.runtime import (
    ContainerState,
    Dns,
    Namespaces,
    PortMapping,
    RuntimeFailed,
    SandboxState,
)

OWN_NETWORK = Namespaces()


def namespace(kind: str) -> str:
    """Ours, as the kernel names it."""
    return str(Path(f"/proc/self/ns/{kind}").readlink())


@pytest.mark.bookkeeping
async def test_books_of_a_sandbox(pod: TestPod) -> None:
    sandbox_id = await pod.sandbox(attempt=2, labels={"a": "1"}, annotations={"b": "two words"})
    (said,) = await pod.runtime.sandboxes(pod.uid)
    assert (said.id, said.name, said.namespace, said.uid, said.attempt) == (sandbox_id, pod.config.name, "default", pod.uid, 2)
    assert said.state is SandboxState.READY
    assert said.created_at > 0
    assert said.labels["a"] == "1"
    assert dict(said.annotations) == {"b": "two words"}
    assert said.ips == ()
    assert sandbox_id in {each.id for each in await pod.runtime.sandboxes()}
    assert list(await pod.runtime.sandboxes("nobody")) == []


@pytest.mark.bookkeeping
async def test_stop_ends_the_containers_and_remove_takes_all_away(pod: TestPod) -> None:
    container_id = await pod.start()
    await pod.runtime.stop_sandbox(pod.sandbox_id)
    assert (await pod.runtime.container(container_id)).state is ContainerState.EXITED
    assert [each.state for each in await pod.runtime.sandboxes(pod.uid)] == [SandboxState.NOT_READY]
    await pod.runtime.stop_sandbox(pod.sandbox_id)
    await pod.runtime.remove_sandbox(pod.sandbox_id)
    assert list(await pod.runtime.sandboxes(pod.uid)) == []
    assert list(await pod.runtime.containers(pod.uid)) == []
    await pod.runtime.remove_sandbox(pod.sandbox_id)
    await pod.runtime.stop_sandbox(pod.sandbox_id)


@pytest.mark.bookkeeping
async def test_remove_ends_what_still_runs(pod: TestPod) -> None:
    await pod.start()
    await pod.runtime.remove_sandbox(pod.sandbox_id)
    assert list(await pod.runtime.sandboxes(pod.uid)) == []
    assert list(await pod.runtime.containers(pod.uid)) == []


@pytest.mark.bookkeeping
async def test_nothing_starts_in_a_sandbox_that_is_not_there(pod: TestPod) -> None:
    await pod.sandbox()
    await pod.runtime.stop_sandbox(pod.sandbox_id)
    with pytest.raises(RuntimeFailed):
        await pod.start()
    pod.sandbox_id = "0" * 64
    with pytest.raises(RuntimeFailed):
        await pod.start()


@pytest.mark.bookkeeping
async def test_next_attempt_beside_a_stopped_one(pod: TestPod) -> None:
    first = await pod.sandbox(attempt=0)
    await pod.runtime.stop_sandbox(first)
    second = await pod.sandbox(attempt=1)
    said = {each.attempt: (each.id, each.state) for each in await pod.runtime.sandboxes(pod.uid)}
    assert said == {0: (first, SandboxState.NOT_READY), 1: (second, SandboxState.READY)}


async def test_host_network_has_the_hosts_name_and_sockets(pod: TestPod) -> None:
    await pod.sandbox(namespaces=HOST_NETWORK)
    assert await pod.output("readlink /proc/self/ns/net; hostname") == f"{namespace('net')}\n{socket.gethostname()}\n"


async def test_own_network_has_an_address_that_answers(pod: TestPod) -> None:
    await pod.sandbox(namespaces=OWN_NETWORK)
    (said,) = await pod.runtime.sandboxes(pod.uid)
    assert len(said.ips) == 1
    address = str(ip_address(said.ips[0]))
    await pod.shell("mkdir /tmp/www; hostname > /tmp/www/name; exec httpd -f -p 8080 -h /tmp/www")
    await listening(address, 8080)
    assert await fetched(address, 8080, "/name") == b"test-host\n"
    neighbour = await pod.output(f"wget -q -O - http://127.0.0.1:8080/name; ip -4 addr show dev eth0 | grep -o {address} | head -n 1")
    assert neighbour == f"test-host\n{address}\n"


async def test_network_is_gone_after_the_stop(pod: TestPod) -> None:
    await pod.sandbox(namespaces=OWN_NETWORK)
    (said,) = await pod.runtime.sandboxes(pod.uid)
    (address,) = said.ips
    await pod.shell("exec httpd -f -p 8080 -h /tmp")
    await listening(address, 8080)
    await pod.runtime.stop_sandbox(pod.sandbox_id)
    with pytest.raises(OSError):
        async with asyncio.timeout(2):
            await asyncio.open_connection(address, 8080)


async def test_host_port_leads_into_the_pod_until_it_stops(pod: TestPod, installation: Installation) -> None:
    port, local = free_port(), free_port()
    ports = (PortMapping(container_port=8080, host_port=port), PortMapping(container_port=8080, host_port=local, host_ip="127.0.0.1"))
    await pod.sandbox(namespaces=OWN_NETWORK, ports=ports)
    await pod.shell("mkdir /tmp/www; echo here > /tmp/www/it; exec httpd -f -p 8080 -h /tmp/www")
    doors = [("127.0.0.1", port), ("127.0.0.1", local)]
    if Quirk.NO_LOOPBACK_PORTS in installation.quirks:
        ((said,),) = [each.ips for each in await pod.runtime.sandboxes(pod.uid)]
        doors = [(str(ip_interface(f"{said}/24").network[1]), port)]  # the bridge's
    for host, each in doors:
        await listening(host, each)
        assert await fetched(host, each, "/it") == b"here\n"
    await pod.runtime.stop_sandbox(pod.sandbox_id)
    with pytest.raises(OSError):
        async with asyncio.timeout(2):
            await asyncio.open_connection(*doors[0])


async def test_containers_of_a_pod_share_hostname_network_and_ipc(pod: TestPod) -> None:
    await pod.sandbox(namespaces=OWN_NETWORK, hostname="shared-name")
    text = "hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/uts; readlink /proc/self/ns/ipc"
    one, two = await pod.output(text), await pod.output(text)
    assert one == two
    assert one.startswith("shared-name\n")
    for kind in ("net", "uts", "ipc"):
        assert namespace(kind) not in one


async def test_pid_namespace_is_each_containers_own(pod: TestPod) -> None:
    await pod.start()
    assert "sleep 1000" not in await pod.output("ps")


async def test_shared_pid_namespace(pod: TestPod) -> None:
    await pod.sandbox(namespaces=Namespaces(host_network=True, share_pid=True))
    one, two = await pod.start(), await pod.start()
    assert (await pod.exec(one, "ps")).count("sleep 1000") == 2
    assert (await pod.exec(one, "readlink /proc/self/ns/pid")) == (await pod.exec(two, "readlink /proc/self/ns/pid"))
    assert await pod.output("echo $$") != "1\n"


async def test_host_pid_and_ipc(pod: TestPod) -> None:
    await pod.sandbox(namespaces=Namespaces(host_network=True, host_pid=True, host_ipc=True))
    said = await pod.output(f"readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; ls -d /proc/{os.getpid()}")
    pid, ipc = namespace("pid"), namespace("ipc")
    assert said == f"{pid}\n{ipc}\n/proc/{os.getpid()}\n"


async def test_resolv_conf_is_as_the_pod_wants(pod: TestPod) -> None:
    await pod.sandbox(dns=Dns(servers=("10.0.0.10", "10.0.0.11"), searches=("a.svc", "svc"), options=("ndots:5",)))
    lines = (await pod.output("cat /etc/resolv.conf")).splitlines()
    assert [line.split() for line in lines if line.strip()] == [
        ["search", "a.svc", "svc"],
        ["nameserver", "10.0.0.10"],
        ["nameserver", "10.0.0.11"],
        ["options", "ndots:5"],
    ]


async def test_resolv_conf_is_the_hosts_unless_said(pod: TestPod) -> None:
    await pod.sandbox(dns=None)
    assert await pod.output("cat /etc/resolv.conf") == Path("/etc/resolv.conf").read_text()


async def test_sysctls_hold_in_the_pod_only(pod: TestPod) -> None:
    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    await pod.sandbox(namespaces=OWN_NETWORK, sysctls={"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"})
    said = await pod.output("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced")
    assert said == "80\n1\n"
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before


async def test_shm_is_shared_in_the_pod(pod: TestPod) -> None:
    await pod.output("echo shared > /dev/shm/it")
    assert await pod.output("cat /dev/shm/it") == "shared\n"


async def test_many_sandboxes_at_once(pod: TestPod) -> None:
    async def one(number: int) -> str:
        other = TestPod(pod.runtime, pod.folder / str(number), pod.cgroup)
        try:
            return await other.output(f"echo {number}")
        finally:
            await other.remove()

    said = await asyncio.gather(*(one(number) for number in range(4)))
    assert said == ["0\n", "1\n", "2\n", "3\n"]


async def test_sandbox_that_fails_leaves_nothing_ready(pod: TestPod) -> None:
    with pytest.raises(RuntimeFailed):
        await pod.sandbox(namespaces=OWN_NETWORK, sysctls={"net.ipv4.no_such_thing": "1"})

    async def is_gone() -> bool:
        return all(each.state is SandboxState.NOT_READY for each in await pod.runtime.sandboxes(pod.uid))

    await until(is_gone, what="the end of the failed sandbox")
