"""docs/mappers.md as somebody would follow it: its program, its manifests and the room, beside a running `pinnace up`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig.terminal import PINNACE, SECONDS, until, up

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "mappers.md"
pytestmark = [pytest.mark.mosquitto, pytest.mark.kubectl, pytest.mark.timeout(240), pytest.mark.xdist_group("usual ports")]


@dataclass(frozen=True)
class Demo:
    """A running `pinnace up`: its kubeconfig and its broker's URL."""

    kubeconfig: Path
    broker: str

    def kubectl(self, *arguments: str) -> str:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout

    def state(self, device: str, name: str) -> tuple[str, str]:
        """A device's state, and what it reports of a property."""
        reported = f"{{.status.twins[?(@.propertyName=='{name}')].reported.value}}"
        state, _, value = self.kubectl("get", "device", device, "-o", f"jsonpath={{.status.state}}/{reported}").partition("/")
        return state, value

    def want(self, device: str, number: int, value: str) -> None:
        """Set a property's desired value."""
        patch = [{"op": "add", "path": f"/spec/properties/{number}/desired/value", "value": value}]
        self.kubectl("patch", "device", device, "--type", "json", "-p", json.dumps(patch))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    with up(folder) as terminal:
        terminal.until("^Ctrl-C here")
        port = json.loads((folder / "running.json").read_text())["facts"]["ports"]["mqtt"]
        yield Demo(folder / "kubeconfig", f"tcp://127.0.0.1:{port}")


@contextlib.contextmanager
def mapper(*command: str) -> Iterator[None]:
    running = subprocess.Popen(command, env=os.environ)
    try:
        yield
    finally:
        running.terminate()
        assert running.wait(SECONDS) == 0


def block(language: str) -> str:
    """The page's only block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_page_makes_a_device_that_works(demo: Demo, tmp_path: Path) -> None:
    program, manifests = tmp_path / "door.py", tmp_path / "door.yaml"
    program.write_text(block("python"))
    manifests.write_text(block("yaml"))
    with mapper(sys.executable, str(program), demo.broker):
        demo.kubectl("apply", "-f", str(manifests))
        until(lambda: demo.state("door-01", "position") == ("online", "open"))
        demo.want("door-01", 0, "ajar")
        until(lambda: demo.state("door-01", "position") == ("unhealthy", "open"))
        demo.want("door-01", 0, "closed")
        until(lambda: demo.state("door-01", "position") == ("online", "closed"))


def test_the_room(demo: Demo) -> None:
    with mapper(*PINNACE, "mapper", "virtual", "--mqtturl", demo.broker, "--log-level", "warning"):
        demo.kubectl("apply", "-f", str(ROOT / "build" / "samples" / "room"))
        until(lambda: demo.state("room-01", "target") == ("online", "21.0"))
        until(lambda: demo.state("room-01", "heating")[1] == "true")
        demo.want("room-01", 1, "5")
        until(lambda: demo.state("room-01", "heating")[1] == "false")
        assert 5 <= float(demo.state("room-01", "temperature")[1]) <= 21
