"""The traffic light as people try it out: `pinnace up --once`, and up, status and down in three terminals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from rig.terminal import PINNACE, SECONDS, Terminal, pinnace, until, up

from pinnace.cloud.local.places import Places
from pinnace.cloud.local.pods import PodFolders
from pinnace.cloud.local.record import start_time

CGROUPS = Path("/sys/fs/cgroup")
MS = r"\d+\.\d ms"
HOPS = r"\(→ MQTT \d+\.\d → pin \d+\.\d → report \d+\.\d → API \d+\.\d = \d+\.\d ms\)"
pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(240), pytest.mark.xdist_group("usual ports")]


def switched(lamp: str, value: str, bcm: int, level: str) -> str:
    return rf"{lamp} {value}: written to the API, pin BCM {bcm} {level} after {MS}, reported in the API after {MS} {HOPS}"


POD = "the mapper runs in pod traffic-light-[a-z0-9-]+, from the sample's Deployment as it stands, its image imported"
STEPS = [
    "the traffic light is applied: red, yellow and green are OFF, desired, at their pins, and reported in the API",
    switched("red", "ON", 26, "high"),
    switched("red", "OFF", 26, "low"),
    switched("yellow", "ON", 19, "high"),
    switched("yellow", "OFF", 19, "low"),
    switched("green", "ON", 13, "high"),
    switched("green", "OFF", 13, "low"),
    r"the edge is cut off: [1-9]\d* connections? to the cloud reset, new ones refused",
    r"green ON: written to the API while the edge is cut off; nothing arrived in \d+\.\d s, the edge still answers mappers "
    r"\(desired green OFF, asked 10 times\), pin BCM 13 low",
    r"the edge is let in again: connected after \d+\.\d s, green ON applied: pin BCM 13 high after \d+\.\d s, "
    r"reported in the API after \d+\.\d s",
]


@pytest.mark.parametrize("mapper", ["process", pytest.param("pod", marks=[pytest.mark.containers, pytest.mark.root])])
def test_once_sees_every_step_and_leaves_nothing(tmp_path: Path, mapper: str) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [*PINNACE, "up", "--once", "--port", "simulated", "--mapper", mapper]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = [line for line in done.stdout.splitlines() if line.startswith("ok ")]
    steps = [*([POD] if mapper == "pod" else []), *STEPS]
    for number, (line, step) in enumerate(zip(seen, steps, strict=True), 1):
        assert re.fullmatch(rf"ok {number:>2}  {step}", line), line
    children = dict(re.findall(r"^(\w+) +process (\d+), ready after", done.stdout, re.MULTILINE))
    assert list(children) == ["mosquitto", "apiserver", "cloudcore", "edgecore", *(["mapper"] if mapper == "process" else [])]
    assert done.stdout.splitlines()[-1] == f"all {len(children)} processes have ended"
    assert [name for name, pid in children.items() if start_time(int(pid)) is not None] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.containers
@pytest.mark.root
@pytest.mark.kubectl
def test_the_mapper_in_a_pod_is_seen_with_kubectl_and_ends_with_down(tmp_path: Path) -> None:
    with up(tmp_path, mapper="pod") as terminal:
        terminal.until("red +desired OFF .* reported OFF")
        environment = {**os.environ, "KUBECONFIG": terminal.until(r"^  export KUBECONFIG=(\S+)")[1]}

        def kubectl(*arguments: str) -> str:
            return subprocess.run(
                ["kubectl", *arguments], env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
            ).stdout

        status = "jsonpath={.items[0].status.phase} {.items[0].status.containerStatuses[0].restartCount}"
        assert kubectl("get", "pods", "-l", "app=traffic-light", "-o", status) == "Running 0"
        until(
            lambda: "mqtt.connected" in kubectl("logs", "deployment/traffic-light"),
            more=lambda: kubectl("get", "pods", "-o", "yaml"),
        )
        assert kubectl("get", "pods", "-l", "app=traffic-light", "-o", status) == "Running 0"
        processes = kubectl("exec", "deployment/traffic-light", "--", "ps")
        assert "/traffic/light --device=traffic-light-instance-01" in processes
        terminal.process.kill()
        terminal.wait()
        until(lambda: all(start_time(pid) is None for pid in terminal.children.values()))
        name = PodFolders.of(Places(tmp_path)).cgroup[1:]
        assert is_light_running(name)
        assert pinnace("down", "--dir", str(tmp_path), "--purge").returncode == 0
        assert not is_light_running(name)
        assert not [each for each in (CGROUPS, *CGROUPS.iterdir()) if (each / name).exists()]


def is_light_running(cgroup: str) -> bool:
    """Of this test's own system: another may have one as well."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append((each / "cmdline").read_bytes().startswith(b"/traffic/light\0") and cgroup in (each / "cgroup").read_text())
    return any(found)


def test_once_fails_when_a_step_cannot_be_seen(tmp_path: Path) -> None:
    with up(tmp_path, "--once") as terminal:
        terminal.until("^ok  1 ")
        os.kill(terminal.children["mapper"], signal.SIGKILL)
        assert terminal.wait() == 1
    assert re.search(rf"^FAILED: mapper was killed by SIGKILL; its log is {tmp_path}/logs/mapper.log$", terminal.text, re.MULTILINE)
    assert [name for name, pid in terminal.children.items() if start_time(pid) is not None] == []


@pytest.mark.kubectl
def test_up_status_kubectl_down(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    stopped = pinnace("status", "--dir", str(folder))
    assert (stopped.returncode, "nothing runs" in stopped.stdout) == (1, True)

    with up(folder, "--advertise", "127.0.0.1") as terminal:
        join = terminal.until(r"^  pinnace join --cloudcore-ipport 127\.0\.0\.1:(\d+) --certport (\d+)(?: --tunnelport \d+)? --token \S+$")
        terminal.until("red +desired OFF .* reported OFF")

        second = pinnace("up", "--dir", str(folder))
        assert second.returncode == 3
        assert "is in use by another `pinnace up`" in second.stderr

        found = json.loads(pinnace("status", "--dir", str(folder), "--json").stdout)
        assert (found["state"], found["ready"]) == ("running", True)
        assert {each["name"]: each["pid"] for each in found["processes"]} == {"up": terminal.process.pid, **terminal.children}
        assert found["lamps"]["red"] == {"desired": "OFF", "reported": "OFF"}
        assert (str(found["ports"]["hub"]), str(found["ports"]["bootstrap"])) == join.groups()

        kubeconfig = terminal.until(r"^  export KUBECONFIG=(\S+)")[1]
        terminal.until("^Ctrl-C here")
        first = terminal.until(r"^  kubectl patch .* \\$").string
        line = f"{first}\n{terminal.lines[terminal.lines.index(first) + 1]}"
        assert all(len(each) <= 80 for each in line.splitlines())
        subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=SECONDS, env={**os.environ, "KUBECONFIG": kubeconfig})
        terminal.until(r"● red +desired ON +v\d+ +reported ON +v\d+ +→ MQTT .* ms")
        shown = pinnace("status", "--dir", str(folder))
        assert shown.returncode == 0
        assert re.search("red +desired ON, reported ON", shown.stdout)

        second_machine(tmp_path / "pi2", terminal, kubeconfig)

        printed = len(terminal.lines)
        delete = ["kubectl", "--kubeconfig", kubeconfig, "delete", "device", "traffic-light-instance-01"]
        subprocess.run(delete, check=True, capture_output=True, timeout=SECONDS)
        until(lambda: any(re.match(" red +desired – +reported –$", each[1:]) for each in terminal.lines[printed:]))

        down = pinnace("down", "--dir", str(folder))
        assert (down.returncode, down.stdout.startswith("ended up ")) == (0, True), down
        assert terminal.wait() == 0
        assert [name for name, pid in terminal.children.items() if start_time(pid) is not None] == []
    assert pinnace("status", "--dir", str(folder)).returncode == 1
    assert pinnace("down", "--dir", str(folder), "--purge").returncode == 0
    assert not (folder / "data").exists()


def second_machine(root: Path, terminal: Terminal, kubeconfig: str) -> None:
    """Join with the printed line, run that edge, and see its Node become Ready."""
    line = terminal.until(r"^  pinnace (join .*)")[1]
    broker = f"tcp://127.0.0.1:{json.loads((Path(kubeconfig).parent / 'running.json').read_text())['facts']['ports']['mqtt']}"
    joined = pinnace(*line.split(), "--root", str(root), "--edgenode-name", "pi2", "--mqtt", broker)
    assert joined.returncode == 0, joined
    edge = subprocess.Popen([*PINNACE, "edgecore", "--config", str(root / "etc/kubeedge/config/edgecore.yaml")], stderr=subprocess.DEVNULL)
    try:
        wait = ["kubectl", "--kubeconfig", kubeconfig, "wait", "node/pi2", "--for=condition=Ready", "--timeout=60s"]
        until(lambda: subprocess.run(wait, capture_output=True, timeout=SECONDS, check=False).returncode == 0)
    finally:
        edge.terminate()
        edge.wait(SECONDS)
    ended = pinnace("reset", "--config", str(root / "etc/kubeedge/config/edgecore.yaml"), "--force")
    assert (ended.returncode, "pi2 is no node any more" in ended.stdout) == (0, True), ended
    assert list((root / "etc/kubeedge").rglob("*.crt")) == []


def test_the_end_of_one_process_ends_all_and_names_its_log(tmp_path: Path) -> None:
    with up(tmp_path) as terminal:
        terminal.until("red +desired OFF .* reported OFF")
        os.kill(terminal.children["cloudcore"], signal.SIGKILL)
        assert terminal.wait() == 1
    assert re.search(rf"cloudcore was killed by SIGKILL; its log is {tmp_path}/logs/cloudcore.log", terminal.text)
    assert [name for name, pid in terminal.children.items() if start_time(pid) is not None] == []


def test_nothing_survives_a_killed_up_and_the_next_one_starts_from_its_data(tmp_path: Path) -> None:
    with up(tmp_path) as first:
        first.until("red +desired OFF .* reported OFF")
        first.process.kill()
        first.wait()
        until(lambda: all(start_time(pid) is None for pid in first.children.values()))
        assert json.loads(pinnace("status", "--dir", str(tmp_path), "--json").stdout)["state"] == "stopped"
    with up(tmp_path) as again:
        again.until("kept +Device traffic-light-instance-01")
        again.until("red +desired OFF .* reported OFF")
