"""A second machine: a network namespace in which the line is typed that `pinnace up --advertise` printed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from rig.terminal import PINNACE, SECONDS, pinnace, until, up

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "build" / "samples" / "traffic-light" / "model.yaml"
NODE, DEVICE = "pi2", "lamp-02"
pytestmark = [
    pytest.mark.root,
    pytest.mark.mosquitto,
    pytest.mark.kubectl,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("usual ports"),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip"),
]
TURN_OFF = '[{"op":"replace","path":"/spec/properties/0/desired/value","value":"OFF"}]'
LAMP = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "Device",
    "metadata": {"name": DEVICE, "namespace": "default"},
    "spec": {
        "deviceModelRef": {"name": "traffic-light"},
        "nodeName": NODE,
        "properties": [{"name": "red", "desired": {"value": "ON"}, "reportToCloud": True}],
    },
}


@dataclass(frozen=True)
class Machine:
    """A network namespace at the other end of a cable. `here` and `there` are the addresses of its ends."""

    name: str
    cable: str
    here: str
    there: str

    def command(self, *command: str) -> list[str]:
        """nsenter(1) leaves the mounts alone, which `ip netns exec` needs to change: that is not allowed in every container."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def plug(self, *, is_in: bool) -> None:
        """The cable, in or out."""
        ip("link", "set", self.cable, "up" if is_in else "down")


def ip(*arguments: str, there: Machine | None = None) -> None:
    command = ["ip", *arguments]
    subprocess.run(there.command(*command) if there else command, check=True, capture_output=True, text=True, timeout=SECONDS)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Addresses of TEST-NET-2 (RFC 5737), a pair of them for each process that runs tests."""
    number = os.getpid() % 64 * 4
    made = Machine(f"pinnace-{os.getpid()}", f"pnc{os.getpid()}", f"198.51.100.{number + 1}", f"198.51.100.{number + 2}")
    ip("netns", "add", made.name)
    try:
        ip("link", "add", made.cable, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        ip("address", "add", f"{made.here}/30", "dev", made.cable)
        ip("address", "add", f"{made.there}/30", "dev", "eth0", there=made)
        ip("link", "set", "lo", "up", there=made)
        ip("link", "set", "eth0", "up", there=made)
        made.plug(is_in=True)
        yield made
    finally:
        ip("netns", "del", made.name)  # takes the cable with it


@contextlib.contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that runs for the length of the block, and still does at its end."""
    with log.open("wb") as out:
        running = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield running
        assert running.poll() is None, log.read_text()
    finally:
        running.terminate()
        running.wait(SECONDS)


def test_the_printed_line_makes_another_machine_a_node_whose_device_works(tmp_path: Path, machine: Machine) -> None:
    with up(tmp_path / "state", "--advertise", machine.here) as terminal:
        line = terminal.until(r"^  pinnace (join .*)")[1]
        assert f"--cloudcore-ipport {machine.here}:" in line
        environment = {**os.environ, "KUBECONFIG": terminal.until("^  export KUBECONFIG=(.*)")[1]}

        def kubectl(*arguments: str, stdin: str = "") -> str:
            return subprocess.run(
                ["kubectl", *arguments], input=stdin, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
            ).stdout

        def is_reported(value: str) -> bool:
            return kubectl("get", "device", DEVICE, "-o", "jsonpath={.status.twins[0].reported.value}") == value

        typed = [*PINNACE, *shlex.split(line), "--root", str(tmp_path / "pi"), "--edgenode-name", NODE]
        joined = subprocess.run(machine.command(*typed), capture_output=True, text=True, timeout=SECONDS, check=False)
        assert joined.returncode == 0, joined.stderr
        start = re.search("start the edge with: (.*)", joined.stdout)
        assert start is not None
        pins = [
            "mapper", "gpio", "--device", f"default/{DEVICE}", "--profile", str(MODEL), "--port", "simulated", "--pins", "red=25",
        ]  # fmt: skip
        with process(machine.command(*shlex.split(start[1])), tmp_path / "edge.log"):
            ready = "status.conditions[?(@.type=='Ready')].status"
            until(lambda: kubectl("get", "nodes", "-o", f"jsonpath={{.items[?(@.metadata.name=='{NODE}')].{ready}}}") == "True")
            assert kubectl("get", "node", NODE, "-o", "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}") == machine.there
            kubectl("create", "-f", "-", stdin=yaml.safe_dump(LAMP))
            with process(machine.command(*PINNACE, *pins), tmp_path / "mapper.log"):
                until(lambda: is_reported("ON"))

                machine.plug(is_in=False)
                kubectl("patch", "device", DEVICE, "--type", "json", "-p", TURN_OFF)
                assert is_reported("ON")
                machine.plug(is_in=True)
                until(lambda: is_reported("OFF"))

        ended = pinnace("reset", "--config", str(tmp_path / "pi/etc/kubeedge/config/edgecore.yaml"), "--force")
        assert ended.returncode == 0, ended
