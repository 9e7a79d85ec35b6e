"""What a running edge has imported: memory is a feature, and a heavy library gets in one innocent import at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ALLOWED = {"cython_runtime", "orjson", "paho", "pinnace", "uvloop", "websockets", "yaml", "_yaml", "sitecustomize"}
"""Packages from outside the standard library, and what a distribution's Python starts with."""
HEAVY = {"http.server", "multiprocessing", "xml", "unittest", "pydoc", "tkinter", "ctypes.util", "distutils", "sqlite3.dump", "wsgiref"}
"""Parts of the standard library that cost memory and are of no use here. (email, bz2 and lzma come with urllib.request, which websockets
and paho import.)"""

SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from pinnace.core.agent import running
from pinnace.core.base.settings.loader import load
from pinnace.core.settings import EdgeCoreSettings
import uvloop

async def main():
    async with running(load(Path(sys.argv[1]), EdgeCoreSettings)):
        await asyncio.sleep(0.5)  # what the services load when they begin counts as well
        print(json.dumps(sorted(sys.modules)))

uvloop.run(main())
"""


@pytest.mark.parametrize("runs_pods", [False, True])
def test_a_running_edge_is_light(tmp_path: Path, runs_pods: bool) -> None:
    config = tmp_path / "edgecore.yaml"
    kubelet = {"readOnlyPort": 0, "cgroupRoot": f"/{tmp_path.name}", "staticPodPath": str(tmp_path / "manifests")}
    edged = {
        "hostnameOverride": "n",
        "runPods": runs_pods,
        "controlSocket": str(tmp_path / "c.sock"),
        "rootDirectory": str(tmp_path / "kubelet"),
        "podLogsDir": str(tmp_path / "logs"),
        "builtinRuntime": {"crun": "no-such-crun", "rootDir": str(tmp_path / "lib"), "runDir": str(tmp_path / "run")},
        "tailoredKubeletConfig": kubelet,
    }
    modules = {"edged": edged, "edgeHub": {"token": "x"}, "eventBus": {"mqttServerExternal": "tcp://127.0.0.1:9"}}
    config.write_text(yaml.safe_dump({"database": {"dataSource": str(tmp_path / "edge.db")}, "modules": modules}))
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(config)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    tops = {name.split(".")[0] for name in loaded}
    foreign = {name for name in tops if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign <= ALLOWED
    assert not loaded & HEAVY
    assert not {name for name in loaded if name.startswith("pinnace.") and name.split(".")[1] not in {"core", "ext"}}
