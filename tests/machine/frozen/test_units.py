"""The frozen edge, installed on a machine with systemd: what its operator sees of its units from the first start to the last. The steps
build on one another. After `make freeze`: `make machine ARGS=tests/machine/frozen`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from frozen.shapes import PROGRAM, TREE, one_file
from rig.images import busybox
from rig.mqtt import MqttClient

from pinnace.core.base.imagefiles import write_archive
from pinnace.core.install.manifest import NAME, Manifest, digest

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.mosquitto, pytest.mark.timeout(300)]
EDGE, BROKER = "pinnace-edge", "pinnace-mosquitto"
CURRENT = Path("/opt/pinnace/current")
CONFIG = Path("/etc/kubeedge/config/edgecore.yaml")
DROP_INS = Path("/etc/systemd/system")
IMAGES = Path("/var/lib/pinnace")
DATABASE = Path("/var/lib/kubeedge/edgecore.db")
LOG = Path(f"/run/{EDGE}.log")
PATIENCE = 120.0
SLEEP = ["sleep", "424242"]
LIMIT = 32 << 20
VERSION = str(json.loads((TREE / "lib/release.json").read_text())["version"]) if TREE.exists() else ""
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "sleeper"},
    "spec": {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "main",
                "image": "machine.test/busybox:1",
                "imagePullPolicy": "Never",
                "command": SLEEP,
                "resources": {"limits": {"memory": str(LIMIT)}},
            }
        ],
    },
}
NODE = {
    "modules": {
        "edgeHub": {"httpServer": "https://127.0.0.1:9", "websocket": {"server": "127.0.0.1:9"}, "token": "none"},
        "edged": {"hostnameOverride": "machine-1", "tailoredKubeletConfig": {"evictionHard": {"memory.available": "1Mi"}}},
        "eventBus": {"mqttMode": 2, "mqttServerExternal": "tcp://127.0.0.1:1883"},
    }
}


def run(*words: object, code: int = 0) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, cwd="/", check=False)
    log = LOG.read_text(errors="replace")[-3000:] if LOG.exists() else ""
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{log}"
    return done.stdout + done.stderr


def shown(unit: str, name: str) -> str:
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def main_pid() -> int:
    return int(shown(EDGE, "MainPID"))


def until(ask: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not ask():
        assert time.monotonic() < end, f"{what}: not seen\n{LOG.read_text(errors='replace')[-3000:]}"
        time.sleep(0.5)


def running_from() -> str:
    """The version that is in use and that the edge runs from; "" when it does not."""
    is_serving = shown(EDGE, "ActiveState") == "active" and Path(f"/proc/{main_pid()}/exe").resolve() == CURRENT.resolve() / "pinnace"
    return CURRENT.resolve().name if is_serving else ""


def sleeper() -> int:
    """The pod's process; 0 when there is none."""
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if each.read_text().split("\0")[:-1] == SLEEP:
                return int(each.parent.name)
    return 0


def another(tree: Path, version: str, *, broken: str = "") -> Path:
    """The frozen tree as another version of it would be; one of its files is `broken`. The others are links, to be quick."""
    shutil.copytree(TREE, tree, copy_function=os.symlink)
    (tree / "pinnace").unlink()
    shutil.copy2(PROGRAM, tree / "pinnace")
    told = json.loads((TREE / "lib/release.json").read_text())
    changed = {"lib/release.json": json.dumps({**told, "version": version})}
    changed |= {each.relative_to(tree).as_posix(): "broken" for each in tree.glob(broken)} if broken else {}
    entries = {each.path: each for each in Manifest.read(TREE / NAME)}
    for path, text in changed.items():
        (tree / path).unlink()
        (tree / path).write_text(text)
        entries[path] = replace(entries[path], size=len(text), digest=digest(tree / path))
        (tree / path).chmod(entries[path].mode)
    (tree / NAME).unlink()
    (tree / NAME).write_text(Manifest(tuple(entries.values())).text())
    return tree / "pinnace"


@contextlib.contextmanager
def drop_in(unit: str, text: str) -> Iterator[None]:
    place = DROP_INS / f"{unit}.d/{unit}-test.conf"  # of two with one name only one counts
    place.parent.mkdir(parents=True)
    place.write_text(f"[Service]\n{text}\n")
    run("systemctl", "daemon-reload")
    yield
    shutil.rmtree(place.parent)
    run("systemctl", "daemon-reload")


@pytest.fixture(scope="module", autouse=True)
def machine() -> Iterator[None]:
    """A machine like others: no broker of the distribution's starts with it; its log is a file, since no journal runs here, and images
    are not on an overlay, as its root is."""
    assert PROGRAM.exists(), "run `make freeze`"
    (DROP_INS / "multi-user.target.wants/mosquitto.service").unlink(missing_ok=True)
    run("modprobe", "overlay")
    IMAGES.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "tmpfs", IMAGES)
    with drop_in("pinnace-.service", "StandardOutput=append:/run/%p.log\nStandardError=inherit"):
        yield


@pytest.fixture
def pod() -> int:
    """The process of the pod, which a test leaves alone."""
    found = sleeper()
    assert found, "the pod of the first test is gone"
    return found


async def test_installed_it_starts_with_the_machine_and_runs_without_a_cloud() -> None:
    said = run(one_file(), "install")
    assert "make this machine a node with: pinnace join" in said
    assert (shown(EDGE, "ActiveState"), shown(EDGE, "ConditionResult")) == ("inactive", "no"), "it is no node yet"
    assert run("systemctl", "is-enabled", EDGE, BROKER) == "enabled\nenabled\n"
    assert {f"{each}.service" for each in (EDGE, BROKER)} <= set(shown("multi-user.target", "Wants").split())
    assert run("systemd-analyze", "verify", "--man=no", f"{EDGE}.service", f"{BROKER}.service") == ""
    async with MqttClient(1883, "machine", "t"):
        assert shown(BROKER, "ActiveState") == "active"

    for place, content in ((CONFIG, NODE), (Path("/etc/kubeedge/manifests/pod.yaml"), POD)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(yaml.safe_dump(content))
    (IMAGES / "import").mkdir()
    write_archive(IMAGES / "import/busybox.tar", {"machine.test/busybox:1": [busybox()]})
    run("systemctl", "start", EDGE)
    assert shown(EDGE, "StatusText") == "ready: node machine-1"
    assert running_from() == VERSION
    until(sleeper, "the pod")
    print(run("systemctl", "--no-pager", "status", EDGE, BROKER))  # noqa: T201


def test_killed_it_is_there_again_and_its_pod_never_notices(pod: int) -> None:
    before = main_pid()
    os.kill(before, signal.SIGKILL)
    until(lambda: shown(EDGE, "ActiveState") == "active" and main_pid() not in (0, before), "a new edge")
    assert shown(EDGE, "NRestarts") == "1"
    run("systemctl", "stop", EDGE)
    assert shown(EDGE, "Result") == "success"
    run("systemctl", "daemon-reload")
    assert sleeper() == pod
    cgroup = Path("/sys/fs/cgroup") / Path(f"/proc/{pod}/cgroup").read_text().strip().removeprefix("0::/")
    assert "system.slice" not in str(cgroup)
    assert (cgroup / "memory.max").read_text() == f"{LIMIT}\n"


def test_an_edge_that_hangs_says_where_and_is_started_anew(pod: int) -> None:
    with drop_in(f"{EDGE}.service", "WatchdogSec=3"):
        run("systemctl", "start", EDGE)
        before = main_pid()
        os.kill(before, signal.SIGSTOP)  # systemd's SIGABRT comes with a SIGCONT
        until(lambda: shown(EDGE, "ActiveState") == "active" and main_pid() not in (0, before), "a new edge")
    assert "Fatal Python error: Aborted" in LOG.read_text()
    assert sleeper() == pod


def test_another_version_is_laid_down_and_what_was_switched_off_stays_off(pod: int, tmp_path: Path) -> None:
    run("systemctl", "disable", "--now", EDGE)
    run("systemctl", "mask", EDGE)
    said = run(another(tmp_path / "new", "99.0"), "install")
    assert "is used in place of ours" in said
    assert f"99.0 is installed; before it was {VERSION}" in said
    run("systemctl", "unmask", EDGE)
    assert run("systemctl", "is-enabled", EDGE, code=1) == "disabled\n"
    assert shown(EDGE, "ActiveState") == "inactive"
    run("systemctl", "enable", "--now", EDGE)
    assert running_from() == "99.0"
    assert sleeper() == pod


def test_back_and_a_version_that_does_not_come_up_gives_way(pod: int, tmp_path: Path) -> None:
    run("pinnace", "install", "--rollback")
    assert running_from() == VERSION
    said = run(another(tmp_path / "bad", "100.0", broken="lib/uvloop/loop*.so"), "install", code=1)
    assert f"100.0 does not come up, so {VERSION} is in use again" in said
    assert "100.0, the version before, did not come up" in run("pinnace", "install", "--rollback", code=3)
    assert running_from() == VERSION
    assert sleeper() == pod
    until(lambda: re.search(r"sleeper-machine-1 +1/1 +Running +0 ", run("pinnace", "get", "pods")), "the pod as it was")


def test_uninstalled_nothing_runs_and_what_the_node_has_stays_until_it_is_purged(pod: int) -> None:
    run("pinnace", "uninstall")
    assert sleeper() == 0
    for each in (EDGE, BROKER):
        assert (shown(each, "LoadState"), shown(each, "ActiveState")) == ("not-found", "inactive")
    assert not Path("/opt/pinnace").exists()
    assert CONFIG.exists()
    assert DATABASE.exists()
    run(PROGRAM, "install", "--no-start")
    run("umount", "-l", IMAGES)
    run("pinnace", "uninstall", "--purge", "--force")
    left = [each for each in ("/opt/pinnace", CONFIG, DATABASE, IMAGES, "/etc/pinnace", "/run/pinnace") if Path(each).exists()]
    assert left == []
