"""What a running edge has imported: memory is a feature, and a heavy library gets in one innocent import at a time."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.observe.health import Health
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.store import Store

ALLOWED = {"cython_runtime", "orjson", "paho", "pinnace", "uvloop", "websockets", "yaml", "_yaml", "sitecustomize"}
"""Packages from outside the standard library, and what a distribution's Python starts with."""
HEAVY = {
    "http.server", "multiprocessing", "xml", "unittest", "pydoc", "tkinter", "ctypes.util", "distutils", "sqlite3.dump", "wsgiref",
    "email", "http.client", "csv", "zipfile", "_bz2", "_lzma", "importlib.metadata._text",
}  # fmt: skip
"""Parts of the standard library that cost memory and are of no use here. (Of what is deferred there is a name and nothing below it.)"""

TRIED = {"health.degraded fact=cloud", "health.degraded fact=eventbus.external"}
TRIED_PODS = TRIED | {"pods.runtime.not-ready"}
"""What is told once each service has tried: what they load when they begin counts as well."""

SCRIPT = """
import asyncio, json, logging, sys
from pathlib import Path
from pinnace.core.base.deferred import RARE, defer
defer(*RARE)  # as the command does
from pinnace.core.agent import running
from pinnace.core.base.settings.loader import load
from pinnace.core.settings import EdgeCoreSettings
import uvloop

class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.missing, self.all, self.loop = set(sys.argv[2:]), asyncio.Event(), asyncio.get_running_loop()

    def emit(self, record):
        self.missing -= {each for each in self.missing if record.getMessage().startswith(each)}
        if not self.missing:
            self.loop.call_soon_threadsafe(self.all.set)

async def main():
    heard = Heard()
    logging.getLogger().addHandler(heard)
    async with running(load(Path(sys.argv[1]), EdgeCoreSettings)):
        try:
            await asyncio.wait_for(heard.all.wait(), 60)
        except TimeoutError:
            sys.exit(f"not heard of: {heard.missing}")
        print(json.dumps(sorted(sys.modules)))

uvloop.run(main())
"""


def modules_of_a_running_edge(tmp_path: Path, *, runs_pods: bool) -> set[str]:
    """Everything of it is below the folder."""
    config = tmp_path / "edgecore.yaml"
    kubelet = {"readOnlyPort": 0, "cgroupRoot": f"/{tmp_path.name}", "staticPodPath": str(tmp_path / "manifests")}
    edged = {
        "hostnameOverride": "n",
        "enable": runs_pods,
        "controlSocket": str(tmp_path / "c.sock"),
        "rootDirectory": str(tmp_path / "kubelet"),
        "podLogsDir": str(tmp_path / "logs"),
        "builtinRuntime": {"crun": "no-such-crun", "rootDir": str(tmp_path / "lib"), "runDir": str(tmp_path / "run")},
        "tailoredKubeletConfig": kubelet,
    }
    modules = {"edged": edged, "edgeHub": {"token": "x"}, "eventBus": {"mqttServerExternal": "tcp://127.0.0.1:9"}}
    config.write_text(yaml.safe_dump({"database": {"dataSource": str(tmp_path / "edge.db")}, "modules": modules}))
    words = [sys.executable, "-c", SCRIPT, str(config), *(TRIED_PODS if runs_pods else TRIED)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("runs_pods", [False, True])
def test_a_running_edge_is_light(tmp_path: Path, runs_pods: bool) -> None:
    loaded = modules_of_a_running_edge(tmp_path, runs_pods=runs_pods)
    tops = {name.split(".")[0] for name in loaded}
    foreign = {name for name in tops if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign <= ALLOWED
    assert not loaded & HEAVY
    assert not {name for name in loaded if name.startswith("pinnace.") and name.split(".")[1] not in {"core", "ext"}}


async def test_a_node_without_pods_leaves_a_stored_pod_alone(tmp_path: Path) -> None:
    static = tmp_path / "manifests" / "pod.yaml"
    static.parent.mkdir()
    static.write_text(json.dumps({"kind": "Pod", "metadata": {"name": "s"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
    pod = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    key = ResourceKey("pod", "default", "p")
    async with Store(tmp_path / "edge.db", health=Health()) as store:
        await store.apply([ObjectChange("insert", key, "1", json.dumps(pod).encode())])
    loaded = await asyncio.to_thread(modules_of_a_running_edge, tmp_path, runs_pods=False)
    assert not {name for name in loaded if name.startswith("pinnace.core.pods")}
    assert not {"kubelet", "logs", "lib", "run"} & {each.name for each in tmp_path.iterdir()}
    async with Store(tmp_path / "edge.db", health=Health()) as store:
        assert store.get(key) is not None
