"""What containers need, and what the certificate, the way to the cloud and the agent come to: judged without any of them."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
from fakes.machine import machine

from pinnace.core.base.settings.edged import BuiltinRuntimeSettings, EdgedSettings, KubeletSettings
from pinnace.core.doctor import agent, certificates, cloud, runtime
from pinnace.core.doctor.finding import Level
from pinnace.core.doctor.subject import Subject
from pinnace.core.hub.settings import EdgeHubSettings, WebSocketSettings
from pinnace.core.settings import EdgeCoreSettings, ModuleSettings
from pinnace.core.stream.settings import EdgeStreamSettings

WELL = runtime.RuntimeFacts(crun="/usr/bin/crun", crun_version="1.8.1", iptables="/usr/sbin/iptables")


@pytest.mark.parametrize(
    ("change", "matter", "level", "remedy"),
    [
        ({"crun": ""}, "runtime", Level.ERROR, "apt-get install crun"),
        ({"has_shim": False}, "runtime", Level.ERROR, "pinnace selftest"),
        ({"is_root": False}, "runtime", Level.WARNING, "sudo pinnace doctor"),
        ({"missing_plugins": ["bridge"]}, "network", Level.ERROR, "apt-get install containernetworking-plugins"),
        ({"iptables": ""}, "firewall", Level.ERROR, "apt-get install iptables"),
        ({"forward_policy": "DROP"}, "firewall", Level.WARNING, "iptables -I FORWARD"),
        ({"endpoint": "unix:///run/containerd/containerd.sock", "endpoint_problem": "refused"}, "runtime", Level.ERROR, "containerd"),
    ],
)
def test_what_is_missing_has_its_line(change: dict[str, object], matter: str, level: Level, remedy: str) -> None:
    found = [each for each in runtime.check(dataclasses.replace(WELL, **change)) if each.level is not Level.OK]  # type: ignore[arg-type]
    assert [(each.matter, each.level) for each in found] == [(matter, level)]
    assert remedy in found[0].remedy


def test_all_there() -> None:
    assert {each.level for each in runtime.check(WELL)} == {Level.OK}
    assert {each.level for each in runtime.check(runtime.RuntimeFacts(runs_pods=False))} == {Level.OK}


def test_programs_and_plugins_are_looked_for_below_the_root(tmp_path: Path) -> None:
    files = {
        "/usr/bin/crun": "",
        "/usr/sbin/nft": "",
        "/usr/lib/cni/bridge": "",
        "/opt/cni/bin/host-local": "",
        "/usr/lib/cni/loopback": "",
    }
    facts = runtime.read(machine(tmp_path, files), is_root=True)
    assert facts.crun.endswith("/usr/bin/crun")
    assert facts.iptables == ""  # the plugins run iptables, and fail with nft alone
    assert facts.missing_plugins == ["portmap"]
    builtin = EdgedSettings(builtin_runtime=BuiltinRuntimeSettings(crun="/opt/crun"))
    assert runtime.read(machine(tmp_path, {}, EdgeCoreSettings(modules=ModuleSettings(edged=builtin))), is_root=True).crun == ""


@pytest.mark.root
def test_a_socket_for_root_is_not_said_to_be_silent() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/c.sock")
        server.listen()
        kubelet = KubeletSettings(container_runtime_endpoint=f"unix://{folder}/c.sock")
        settings = EdgeCoreSettings(modules=ModuleSettings(edged=EdgedSettings(tailored_kubelet_config=kubelet)))
        os.seteuid(65534)
        try:
            facts = runtime.read(Subject(settings), is_root=False)
        finally:
            os.seteuid(0)
    assert [(each.level, each.remedy) for each in runtime.check(facts)] == [(Level.WARNING, "sudo pinnace doctor")]


def test_the_hub_is_tried_at_each_of_its_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        hub = EdgeHubSettings(http_server="https://127.0.0.1:9", websocket=WebSocketSettings(server=f"hub.test:{port}"))
        settings = EdgeCoreSettings(modules=ModuleSettings(edge_hub=hub))
        facts = cloud.read(machine(tmp_path, {}, settings))
    assert next(each for each in facts.reaches if each.what == "hub").stage == ""


def test_a_runtime_behind_a_socket_is_asked(tmp_path: Path) -> None:
    kubelet = KubeletSettings(container_runtime_endpoint=f"unix://{tmp_path}/c.sock")
    settings = EdgeCoreSettings(modules=ModuleSettings(edged=EdgedSettings(tailored_kubelet_config=kubelet)))
    assert runtime.read(machine(tmp_path, {}, settings), is_root=True).endpoint_problem == "No such file or directory"


NOW = 1_900_000_000.0
DAY = 86_400.0
CERTIFICATE = certificates.CertificateFacts(
    "c", "k", "a", [], "edge-1", NOW, common_name="system:node:edge-1", not_before=NOW - 100 * DAY, not_after=NOW + 265 * DAY
)


@pytest.mark.parametrize(
    ("change", "level", "word"),
    [
        ({}, Level.OK, "265 days"),
        ({"not_after": NOW - 1}, Level.ERROR, "this clock says 2"),
        ({"not_after": NOW + 3 * DAY}, Level.WARNING, "in 3 days"),
        ({"not_before": NOW + DAY}, Level.ERROR, "the clock is behind"),
        ({"common_name": "system:node:other"}, Level.ERROR, "is for system:node:other"),
        ({"chain_problem": "unable to get issuer"}, Level.ERROR, "two clouds"),
        ({"key_mode": 0o644}, Level.ERROR, "mode 644"),
        ({"problem": "KEY_VALUES_MISMATCH"}, Level.ERROR, "do not work together"),
        ({"missing": ["c"]}, Level.ERROR, "missing: c"),
        ({"missing": ["c", "k", "a"], "has_token": True}, Level.WARNING, "is used at the start"),
        ({"missing": ["c", "k", "a"], "has_joined": False}, Level.WARNING, "has not joined"),
    ],
)
def test_a_certificate(change: dict[str, object], level: Level, word: str) -> None:
    found = list(certificates.check(dataclasses.replace(CERTIFICATE, **change)))  # type: ignore[arg-type]
    gravest = max(found, key=lambda each: each.level)
    assert gravest.level is level
    assert word in gravest.text


def test_the_way_to_the_cloud() -> None:
    reaches = [cloud.Reach("hub", "h:10000", stage, "why") for stage in ("", "name", "connection", "tls")]
    found = list(cloud.check(cloud.CloudFacts(reaches)))
    assert [each.level for each in found] == [Level.OK, Level.ERROR, Level.ERROR, Level.ERROR]
    assert [each.remedy.split()[0] for each in found[1:]] == ["getent", "ip", "openssl"]


def token(expires: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"{'a' * 64}.e30.{claims}.c2ln"


@pytest.mark.parametrize(
    ("text", "word"),
    [(token(time.time() + 1e6), ""), (token(time.time() - 60), "expired"), ("half", "damaged"), (f"{'a' * 64}.e30.!.x", "damaged")],
)
def test_a_join_token_is_looked_into(tmp_path: Path, text: str, word: str) -> None:
    hub = EdgeHubSettings(token=text, http_server="https://127.0.0.1:9", websocket=WebSocketSettings(server="127.0.0.1:9"))
    settings = EdgeCoreSettings(modules=ModuleSettings(edge_hub=hub, edge_stream=EdgeStreamSettings(server="127.0.0.1:9")))
    subject = machine(tmp_path, {}, settings)
    facts = cloud.read(subject)
    assert [each.stage for each in facts.reaches] == ["connection"] * 3  # the hub, the bootstrap, the tunnel; nobody is there
    found = [each for each in cloud.check(facts) if each.matter == "token"]
    assert [each.level for each in found] == ([Level.ERROR] if word else [])
    assert all(word in each.text and text not in each.text for each in found)


def test_the_agents_own_words() -> None:
    degraded = agent.AgentFacts("s", {"store.writable": "the disk is full"}, is_running=True)
    assert [(each.level, each.text) for each in agent.check(degraded)] == [(Level.ERROR, "store.writable: the disk is full")]
    assert [each.level for each in agent.check(agent.AgentFacts("s", silence="no such file"))] == [Level.WARNING]
    assert [each.level for each in agent.check(agent.AgentFacts("s", silence="no such file", is_running=True))] == [Level.UNKNOWN]
