"""The runtime's side of CNI: configurations, the order of plugins, what they are told, what they answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.runtime import Dns, PortMapping, SandboxConfig
from pinnace.core.pods.oci import cni
from pinnace.core.pods.oci.cni import Attachment, Network, NetworkFailed, Plugins, addresses, configured, parse
from pinnace.core.pods.oci.network import _capabilities, default_network

PLUGIN = """#!/bin/sh
conf=$(cat)
printf '{"plugin": "%s", "command": "%s", "id": "%s", "netns": "%s", "if": "%s", "args": "%s", "conf": %s}\\n' \
    "${0##*/}" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$conf" >>LOG
ANSWER
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str, str], None]:
    """Makes a plugin: a shell script that notes what it is told."""

    def make(name: str, answer: str) -> None:
        path = tmp_path / name
        path.write_text(PLUGIN.replace("LOG", str(tmp_path / "log")).replace("ANSWER", answer))
        path.chmod(0o755)

    return make


def calls(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


ATTACHMENT = Attachment("id", "/ns", "eth0", {"A": "1", "B": "2"}, {"portMappings": [{"hostPort": 1}], "dns": {}})
NETWORK = Network("net", "0.4.0", ({"type": "one"}, {"type": "two", "capabilities": {"portMappings": True, "dns": False}}))


async def test_chain_passes_results_on_and_capabilities_to_who_has_them(plugin: Callable[[str, str], None], tmp_path: Path) -> None:
    plugin("one", """echo '{"ips": [{"address": "10.0.0.2/24"}]}'""")
    plugin("two", """echo '{"ips": [{"address": "10.0.0.3/24"}], "more": 1}'""")
    plugins = Plugins([tmp_path])
    result = await plugins.add(NETWORK, ATTACHMENT)
    assert addresses(result) == ("10.0.0.3",)
    await plugins.check(NETWORK, ATTACHMENT, result)
    await plugins.delete(NETWORK, ATTACHMENT, result)
    found = calls(tmp_path)
    assert [(each["command"], each["plugin"]) for each in found] == [
        ("ADD", "one"),
        ("ADD", "two"),
        ("CHECK", "one"),
        ("CHECK", "two"),
        ("DEL", "two"),
        ("DEL", "one"),
    ]
    assert {(each["id"], each["netns"], each["if"], each["args"]) for each in found} == {("id", "/ns", "eth0", "A=1;B=2")}
    assert found[0]["conf"] == {"type": "one", "name": "net", "cniVersion": "0.4.0"}
    assert found[1]["conf"]["prevResult"] == {"ips": [{"address": "10.0.0.2/24"}]}
    assert found[1]["conf"]["runtimeConfig"] == {"portMappings": [{"hostPort": 1}]}
    assert all(each["conf"]["prevResult"] == result for each in found[2:])


async def test_what_was_added_is_deleted_when_a_later_plugin_fails(plugin: Callable[[str, str], None], tmp_path: Path) -> None:
    plugin("one", "echo '{}'")
    plugin("two", """echo '{"code": 11, "msg": "try", "details": "later"}'; exit 1""")
    with pytest.raises(NetworkFailed, match="ADD of the network plugin two failed: try later") as caught:
        await Plugins([tmp_path]).add(NETWORK, ATTACHMENT)
    assert caught.value.code == 11
    assert caught.value.reason == "CreatePodSandboxError"
    assert [(each["command"], each["plugin"]) for each in calls(tmp_path)][2:] == [("DEL", "two"), ("DEL", "one")]


async def test_old_networks_get_no_previous_result_for_delete_and_no_check(plugin: Callable[[str, str], None], tmp_path: Path) -> None:
    plugin("one", "echo '{}'")
    old = Network("net", "0.3.1", ({"type": "one"},))
    await Plugins([tmp_path]).check(old, ATTACHMENT, {})
    await Plugins([tmp_path]).delete(old, ATTACHMENT, {"ips": []})
    assert [each["command"] for each in calls(tmp_path)] == ["DEL"]
    assert "prevResult" not in calls(tmp_path)[0]["conf"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("echo no json; exit 1", "exit code 1"),
        ("echo oops >&2; exit 3", "oops"),
        ("echo '[]'", "no JSON object"),
        ("echo '{'", "no JSON object"),
    ],
)
async def test_bad_answers(plugin: Callable[[str, str], None], tmp_path: Path, answer: str, said: str) -> None:
    plugin("one", answer)
    with pytest.raises(NetworkFailed, match=said):
        await Plugins([tmp_path]).add(Network("net", "0.4.0", ({"type": "one"},)), ATTACHMENT)


async def test_plugin_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "two").write_text("not executable")
    plugins = Plugins([tmp_path])
    assert plugins.missing(NETWORK) == ["one", "two"]
    with pytest.raises(NetworkFailed, match="install containernetworking-plugins"):
        await plugins.add(NETWORK, ATTACHMENT)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"name": ""}',
        b'{"name": "a"}',
        b'{"name": "a", "plugins": []}',
        b'{"name": "a", "plugins": [{"type": "../x"}]}',
        b'{"name": "a", "plugins": ["x"]}',
    ],
)
def test_bad_configurations_name_their_file(content: bytes) -> None:
    with pytest.raises(NetworkFailed, match="10-x"):
        parse(content, "10-x")


def test_first_good_configuration_by_name_is_taken(tmp_path: Path) -> None:
    assert configured(tmp_path / "missing") is None
    assert configured(tmp_path) is None
    (tmp_path / "20-b.conflist").write_text('{"name": "b", "cniVersion": "1.0.0", "disableCheck": true, "plugins": [{"type": "x"}]}')
    (tmp_path / "30-c.conf").write_text('{"name": "c", "type": "y"}')
    (tmp_path / "00-readme.txt").write_text("{}")
    found = configured(tmp_path)
    assert found is not None
    assert (found.name, found.version, found.disables_check) == ("b", "1.0.0", True)
    (tmp_path / "10-bad.conf").write_text("{")
    assert configured(tmp_path) == found
    for each in ("20-b.conflist", "30-c.conf"):
        (tmp_path / each).unlink()
    with pytest.raises(NetworkFailed, match="10-bad"):
        configured(tmp_path)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({}, ()),
        ({"ips": [{"address": "10.1.2.3/16"}, {"address": "fd00::2/64"}]}, ("10.1.2.3", "fd00::2")),
        ({"ip4": {"ip": "10.1.2.3/16"}, "ip6": {"ip": "fd00::2/64"}}, ("10.1.2.3", "fd00::2")),
        ({"ips": [{"version": "4"}, "x"]}, ()),
    ],
)
def test_addresses(result: dict[str, Any], found: tuple[str, ...]) -> None:
    assert addresses(result) == found


def test_what_the_network_hears_of_the_pod() -> None:
    config = SandboxConfig(
        "pod", "ns", "uid", 0, "h", Path("/l"), dns=Dns(("1.1.1.1",)), ports=(PortMapping(80, 8080, "UDP", "127.0.0.1"), PortMapping(81, 0))
    )
    found = _capabilities(config)
    assert found["portMappings"] == [{"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "127.0.0.1"}]
    assert found["dns"]["servers"] == ("1.1.1.1",)


def test_default_network_keeps_its_leases_where_a_reboot_ends_them() -> None:
    network = default_network("10.9.0.0/16", Path("/run/leases"))
    assert [each["type"] for each in network.plugins] == ["bridge", "portmap"]
    assert network.plugins[0]["ipam"]["dataDir"] == "/run/leases"
    assert [each["type"] for each in default_network("10.9.0.0/16", Path("/l"), has_firewall=True).plugins][-1] == "firewall"
    with pytest.raises(ValueError):
        default_network("10.9.0.0/40", Path("/l"))


async def test_a_plugin_that_hangs_is_given_up_though_what_it_started_lives_on(
    plugin: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cni, "TIMEOUT_SECONDS", 0.5)
    plugin("one", f"sleep 1000 & echo $! >{tmp_path}/child; sleep 1000")
    try:
        async with asyncio.timeout(20):
            with pytest.raises(NetworkFailed, match="did not end"):
                await Plugins([tmp_path]).add(Network("net", "1.0.0", ({"type": "one"},)), ATTACHMENT)
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
