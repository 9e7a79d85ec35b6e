"""The built-in runtime where cgroups are v2 only, mounts are shared from the start, systemd is there and no capability is missing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract.runtime.installations import BUSYBOX, images
from contract.runtime.pods import TestPod
from rig.oci import OciHome
from rig.waiting import until

from pinnace.core.base.runtime import ContainerState, Mount, Namespaces, Propagation, Resources, Security
from pinnace.core.pods.oci import files, host
from pinnace.core.pods.oci.runtime import OciRuntime

PARENTS = {"cgroupfs": "/pinnace-test", "systemd": "/pinnace.slice/pinnace-test.slice"}


@pytest.fixture(scope="module")
def home() -> Iterator[OciHome]:
    """On a tmpfs: what is / here cannot lie below an overlay."""
    for each in ("overlay", "veth", "bridge"):
        subprocess.run(["modprobe", each], check=True)
    with OciHome(images(), within=Path("/run")) as made:
        yield made


@pytest.fixture(params=["cgroupfs", "systemd"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def runtime(home: OciHome, driver: str) -> AsyncIterator[OciRuntime]:
    made = home.adapter(cgroup_driver=driver)
    await made.start()
    assert (await made.state()).problem == ""
    yield made
    await made.close()


@pytest.fixture
async def pod(runtime: OciRuntime, driver: str, tmp_path: Path) -> AsyncIterator[TestPod]:
    made = TestPod(runtime, tmp_path, "")
    made.cgroup = PARENTS[driver]
    made.config = replace(made.config, cgroup_parent=PARENTS[driver])
    yield made
    await made.remove()


def test_survey_finds_what_is_here() -> None:
    found = host.survey()
    assert found.is_cgroup_v2
    assert found.least_oom_score == -1000
    assert "SYS_RESOURCE" in found.capabilities


async def test_limits_scores_and_usage(pod: TestPod, runtime: OciRuntime) -> None:
    wanted = Resources(memory_limit=64 << 20, cpu_shares=1024, cpu_quota=50000, cpu_period=100000, oom_score_adj=-997)
    container_id = await pod.shell(
        "cd /sys/fs/cgroup; cat memory.max cpu.max memory.oom.group /proc/self/oom_score_adj; sleep 1000", resources=wanted
    )
    await pod.until_said(container_id, "-997")
    assert pod.said(await runtime.container(container_id)) == f"{64 << 20}\n50000 100000\n1\n-997\n"
    used = {each.id: each for each in await runtime.usage()}[container_id]
    assert used.cpu_seconds > 0
    assert 0 < used.memory_working_set < 64 << 20
    assert await pod.output("cat /proc/self/oom_score_adj") == "0\n"


async def test_out_of_memory_ends_the_whole_container(pod: TestPod) -> None:
    text = "(x=x; while :; do x=$x$x$x; done) & sleep 1000"
    container = await pod.run(("/bin/sh", "-c", text), resources=Resources(memory_limit=16 << 20))
    assert (container.exit_code, container.reason) == (137, "OOMKilled")


async def test_out_of_memory_is_told_though_systemd_took_the_cgroup_away(pod: TestPod, home: OciHome, driver: str, tmp_path: Path) -> None:
    """As when the shim comes to its turn late: an empty scope is removed at once, and what it counted with it."""
    text = "until [ -e /volume/go ]; do sleep 0.05; done; (x=x; while :; do x=$x$x$x; done) & sleep 1000"
    container_id = await pod.shell(text, resources=Resources(memory_limit=16 << 20), mounts=(Mount("/volume", str(tmp_path)),))
    shim = home.shims()[container_id]
    cgroup = next(each for each in Path("/sys/fs/cgroup").rglob(f"*{container_id}*") if each.is_dir())
    os.kill(shim, signal.SIGSTOP)
    try:
        (tmp_path / "go").touch()
        await until(lambda: not cgroup.exists() if driver == "systemd" else "populated 0" in (cgroup / "cgroup.events").read_text())
    finally:
        os.kill(shim, signal.SIGCONT)
    ended = await pod.ended(container_id)
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


async def test_mounts_propagate_both_ways(pod: TestPod) -> None:
    """/run is shared by systemd; nothing of the container's own mounts is seen outside."""
    volume = Path("/run/volume-test")
    (volume / "there").mkdir(parents=True, exist_ok=True)
    both = Mount("/volume", str(volume), propagation=Propagation.BIDIRECTIONAL)
    maker = await pod.start(mounts=(both,), security=Security(privileged=True))
    await pod.exec(maker, "mount -t tmpfs x /volume/there && echo made >/volume/there/file")
    try:
        assert (volume / "there/file").read_text() == "made\n"
        assert (
            "overlay pinnace" not in subprocess.run(["findmnt", "-rno", "FSTYPE,SOURCE"], capture_output=True, text=True, check=True).stdout
        )
    finally:
        subprocess.run(["umount", str(volume / "there")], check=True)


async def test_nothing_is_left_of_cgroups_and_shims_live_outside(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.start()
    shim = home.shims()[container_id]
    assert Path(f"/proc/{shim}/cgroup").read_text() == "0::/pinnace-shims\n"
    folders = [each for each in Path("/sys/fs/cgroup").rglob(f"*{container_id}*") if each.is_dir()]
    assert len(folders) == 1
    await runtime.stop_container(container_id, 1)
    assert not folders[0].exists()


async def test_first_process_of_a_shared_pid_namespace_has_nothing_of_the_host(pod: TestPod, home: OciHome) -> None:
    await pod.sandbox(namespaces=Namespaces(host_network=True, share_pid=True))
    container_id = await pod.start(security=Security(add_capabilities=("SYS_PTRACE",)))
    pause = int((home.settings.run_dir / "oci/sandboxes" / pod.sandbox_id / "pause").read_text().split()[0])
    assert Path(f"/proc/{pause}/cgroup").read_text() == "0::/pinnace-shims\n"
    text = "ls -A /proc/1/root/ /proc/1/fd/; chmod 755 /proc/1/exe 2>&1; grep -h -E 'CapEff|Seccomp:' /proc/1/status; cat /proc/1/comm"
    said = (await pod.exec(container_id, text)).replace("\t", " ")
    expected = ["chmod: /proc/1/exe: Read-only file system", "CapEff: 0000000000000000", "Seccomp: 2", "pinnace-pause"]
    assert said.split("\n") == ["/proc/1/fd/:", "", "/proc/1/root/:", *expected, ""]
    await pod.runtime.remove_sandbox(pod.sandbox_id)
    await until(lambda: files.start_time(pause) == 0)


async def test_network_and_restart_of_the_agent(pod: TestPod, runtime: OciRuntime, home: OciHome, driver: str) -> None:
    await pod.sandbox(namespaces=Namespaces())
    container_id = await pod.start(image=BUSYBOX)
    assert len((await runtime.sandboxes(pod.uid))[0].ips) == 1
    await runtime.close()
    second = home.adapter(cgroup_driver=driver)
    await second.start()
    try:
        pod.runtime = second
        assert (await second.container(container_id)).state is ContainerState.RUNNING
        assert await pod.exec(container_id, "hostname") == "test-host\n"
        await pod.remove()
    finally:
        await second.close()
