"""docs/mappers.md as somebody would follow it: its program and its manifests, beside a running `pinnace up`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rig.terminal import SECONDS, until, up

PAGE = Path(__file__).resolve().parents[2] / "docs" / "mappers.md"
pytestmark = [pytest.mark.mosquitto, pytest.mark.kubectl, pytest.mark.timeout(240), pytest.mark.xdist_group("usual ports")]


def block(language: str) -> str:
    """The page's only block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_page_makes_a_device_that_works(tmp_path: Path) -> None:
    program, manifests = tmp_path / "door.py", tmp_path / "door.yaml"
    program.write_text(block("python"))
    manifests.write_text(block("yaml"))
    with up(tmp_path / "state") as terminal:
        terminal.until("^Ctrl-C here")
        environment = {**os.environ, "KUBECONFIG": str(tmp_path / "state" / "kubeconfig")}
        port = json.loads((tmp_path / "state" / "running.json").read_text())["facts"]["ports"]["mqtt"]

        def kubectl(*arguments: str) -> str:
            return subprocess.run(
                ["kubectl", *arguments], env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
            ).stdout

        def status() -> tuple[str, str]:
            state, _, value = kubectl(
                "get", "device", "door-01", "-o", "jsonpath={.status.state}/{.status.twins[0].reported.value}"
            ).partition("/")
            return state, value

        def want(value: str) -> None:
            patch = [{"op": "add", "path": "/spec/properties/0/desired/value", "value": value}]
            kubectl("patch", "device", "door-01", "--type", "json", "-p", json.dumps(patch))

        mapper = subprocess.Popen([sys.executable, str(program), f"tcp://127.0.0.1:{port}"])
        try:
            kubectl("apply", "-f", str(manifests))
            until(lambda: status() == ("online", "open"))
            want("ajar")
            until(lambda: status() == ("unhealthy", "open"))
            want("closed")
            until(lambda: status() == ("online", "closed"))
        finally:
            mapper.terminate()
            assert mapper.wait(SECONDS) == 0
