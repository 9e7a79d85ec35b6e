"""What a container of the built-in runtime finds around it."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, until
from contract.runtime.test_commands import all_of
from integration.pods.oci.conftest import ESCAPE, LAYERS, VOLUMES, another
from rig.oci import OciHome

from pinnace.core.base.runtime import (
    Device,
    Dns,
    Mount,
    Namespaces,
    Profile,
    Propagation,
    Resources,
    RuntimeFailed,
    Security,
    SecurityProfile,
)
from pinnace.core.pods.oci.runtime import OciRuntime

pytestmark = [pytest.mark.containers, pytest.mark.root]


async def test_hundred_layers(pod: TestPod) -> None:
    assert await pod.output("ls /many | wc -l; cat /many/99", image=LAYERS) == "100\n99"


async def test_writes_stay_in_the_container(pod: TestPod) -> None:
    text = "cat /data/kept && echo new >/data/kept && rm /etc/group && cat /data/kept"
    assert await pod.output(text) == "of the image\nnew\n"
    assert await pod.output(text) == "of the image\nnew\n"


async def test_volumes_of_the_image_stay_writable_on_a_read_only_root(pod: TestPod) -> None:
    """/out is a link to /etc: it leads to the image's, never to the host's."""
    text = "cat /data/of-image; echo 2 >/data/mine; cat /data/mine; echo 3 >/new/place/x; touch /no 2>&1; grep -c . /out/passwd"
    found = await pod.output(text, image=VOLUMES, security=Security(readonly_root=True))
    assert found == "1\n2\ntouch: /no: Read-only file system\n3\n"


async def test_accounts_of_an_image_are_not_the_hosts(pod: TestPod) -> None:
    """Its /etc/passwd is a link that climbs out to a file the host has."""
    with pytest.raises(RuntimeFailed, match="app is not in its /etc/passwd"):
        await pod.create(("true",), image=ESCAPE)


async def test_sandbox_shares_shm_hostname_and_pids(pod: TestPod, runtime: OciRuntime) -> None:
    await pod.sandbox(namespaces=Namespaces(share_pid=True), hostname="shared")
    one = await pod.shell("echo hi >/dev/shm/x; exec sleep 777")
    await until(lambda: _says(pod, one, "cat /dev/shm/x", "hi\n"))
    assert await pod.output("hostname; cat /dev/shm/x; ps | grep -c '[s]leep 777'; df /dev/shm | grep -c 65536") == "shared\nhi\n1\n1\n"
    await runtime.stop_container(one, 5)
    assert (await runtime.container(one)).exit_code != 0


async def _says(pod: TestPod, container_id: str, text: str, expected: str) -> bool:
    return (await pod.runtime.exec_sync(container_id, ("/bin/sh", "-c", text), 30)).stdout.decode() == expected


async def test_what_outlives_the_first_process_of_a_shared_pid_namespace_ends_with_it(pod: TestPod, runtime: OciRuntime) -> None:
    await pod.sandbox(namespaces=Namespaces(host_network=True, share_pid=True))
    await pod.run(("/bin/sh", "-c", "sleep 999 & exit 0"))
    assert await pod.output("ps | grep -c '[s]leep 999' || true") == "0\n"


async def test_resolv_conf_and_sysctls(pod: TestPod) -> None:
    await pod.sandbox(
        namespaces=Namespaces(),
        dns=Dns(servers=("192.0.2.1",), searches=("a.test", "b.test"), options=("ndots:5",)),
        sysctls={"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"},
    )
    text = "cat /etc/resolv.conf /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"
    assert await pod.output(text) == "search a.test b.test\nnameserver 192.0.2.1\noptions ndots:5\n80\n1\n"


async def test_sysctl_that_is_none_names_itself_and_leaves_nothing(pod: TestPod, runtime: OciRuntime) -> None:
    with pytest.raises(RuntimeFailed, match=r"net\.no\.such"):
        await pod.sandbox(namespaces=Namespaces(), sysctls={"net.no.such": "1"})
    assert await runtime.sandboxes(pod.uid) == []


async def test_capabilities_and_masks(pod: TestPod) -> None:
    assert await pod.output("grep CapEff /proc/self/status; cat /proc/keys | wc -c; echo 1 >/proc/sys/kernel/domainname 2>&1; true") == (
        "CapEff:\t00000000a80425fb\n0\n/bin/sh: can't create /proc/sys/kernel/domainname: Read-only file system\n"
    )
    dropped = Security(drop_capabilities=("ALL",), add_capabilities=("NET_BIND_SERVICE",))
    assert await pod.output("grep CapEff /proc/self/status", security=dropped) == "CapEff:\t0000000000000400\n"
    user = Security(run_as_user=1000, supplemental_groups=(3000,), no_new_privileges=True)
    assert await pod.output("id; grep NoNewPrivs /proc/self/status; echo $HOME", security=user) == (
        "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra),3000\nNoNewPrivs:\t1\n/home/app\n"
    )


async def test_privileged_has_the_hosts_devices(pod: TestPod) -> None:
    found = await pod.output(
        "ls -l /dev/null /dev/tty0 2>/dev/null | wc -l; ls /dev | wc -l; echo >/proc/sys/kernel/domainname",
        security=Security(privileged=True),
    )
    lines = [int(line) for line in found.split()]
    assert lines[1] >= len([each for each in Path("/dev").iterdir() if each.is_char_device()]) - 3


async def test_device_given_and_devices_denied(pod: TestPod) -> None:
    kept = (Device("/dev/mine", "/dev/loop-control", "r"),)
    text = "ls /dev/mine; head -c 0 /dev/mine; (echo 1 >/dev/mine) 2>&1; mknod /tmp/vda b 254 0; (cat /tmp/vda >/dev/null) 2>&1; true"
    found = await pod.output(text, devices=kept)
    assert (
        found
        == "/dev/mine\n/bin/sh: can't create /dev/mine: Operation not permitted\ncat: can't open '/tmp/vda': Operation not permitted\n"
    )
    with pytest.raises(RuntimeFailed, match="/dev/no-such is no device"):
        await pod.create(("true",), devices=(Device("/dev/x", "/dev/no-such"),))


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """As the host's /dev, to be mounted in its place."""
    folder = tmp_path / "dev"
    for each in ("pts", "shm", "mqueue"):
        (folder / each).mkdir(parents=True)
    for number, name in enumerate(("null", "zero", "full", "random", "urandom"), start=3):
        os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, number if number < 6 else number + 2))
        (folder / name).chmod(0o666)
    (folder / "console").touch()
    (folder / "ptmx").symlink_to("pts/ptmx")
    return folder


@pytest.mark.parametrize("tty", [False, True])
async def test_devices_of_the_host_in_their_place_stay_as_they_are(pod: TestPod, runtime: OciRuntime, devices: Path, tty: bool) -> None:
    """A host path /dev at /dev, for a user who is not root: crun makes him the owner of what it hands him as a standard stream."""
    before = {each.name: each.lstat() for each in devices.iterdir() if not each.is_dir()}
    text = "chmod 600 /dev/null 2>&1; id -u; readlink /proc/self/fd/0 | cut -c1-6"
    mounts, user = (Mount("/dev", str(devices)),), Security(run_as_user=1000)
    container = await pod.run(("/bin/sh", "-c", text), mounts=mounts, security=user, tty=tty)
    kind = "/dev/p" if tty else "pipe:["
    expected = ["chmod: /dev/null: Operation not permitted", "1000", kind]
    assert pod.said(container).split("\n") == [*expected, ""]
    container_id = await pod.start(mounts=mounts, security=user, tty=tty)
    async with runtime.exec(container_id, ("/bin/sh", "-c", text), tty=tty, stdin=False) as stream:
        assert (await all_of(stream))[0].decode().split() == " ".join(expected).split()
    after = {each.name: each.lstat() for each in devices.iterdir() if not each.is_dir()}
    assert {name: (each.st_mode, each.st_uid, each.st_gid) for name, each in after.items() if name in before} == {
        name: (each.st_mode, each.st_uid, each.st_gid) for name, each in before.items()
    }


async def test_default_seccomp_profile(pod: TestPod) -> None:
    default = Security(seccomp=SecurityProfile(Profile.RUNTIME_DEFAULT), add_capabilities=("SYS_PTRACE",))
    text = "grep Seccomp: /proc/self/status; (unshare -U true) 2>&1; (mount -t tmpfs x /tmp) 2>&1; (sleep 0 & wait) && echo forks"
    assert await pod.output(text, security=default) == (
        "Seccomp:\t2\nunshare: unshare(0x10000000): Operation not permitted\nmount: permission denied (are you root?)\nforks\n"
    )
    assert await pod.output("grep Seccomp: /proc/self/status") == "Seccomp:\t0\n"


async def test_seccomp_profile_of_the_host(pod: TestPod, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}'
    )
    local = Security(seccomp=SecurityProfile(Profile.LOCALHOST, str(profile)))
    assert (
        await pod.output("mkdir /tmp/x 2>&1; true", security=local) == "mkdir: can't create directory '/tmp/x': No space left on device\n"
    )
    with pytest.raises(RuntimeFailed, match=r"no-such\.json: No such file"):
        await pod.create(("true",), security=Security(seccomp=SecurityProfile(Profile.LOCALHOST, "/no-such.json")))


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which a test may make shared."""
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "volume", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-R", "-l", str(folder)], check=True)


async def test_mounts_propagate_both_ways_where_asked(pod: TestPod, volume: Path) -> None:
    for name in ("here", "there"):
        (volume / name).mkdir()
    both = Mount("/volume", str(volume), propagation=Propagation.BIDIRECTIONAL)
    down = Mount("/volume", str(volume), propagation=Propagation.HOST_TO_CONTAINER)
    alone = Mount("/volume", str(volume))
    maker = await pod.start(mounts=(both,), security=Security(privileged=True))
    seer, blind = await pod.start(mounts=(down,)), await pod.start(mounts=(alone,))
    await pod.exec(maker, "mount -t tmpfs x /volume/there && echo made >/volume/there/file")
    assert (volume / "there/file").read_text() == "made\n"
    subprocess.run(["mount", "-t", "tmpfs", "y", str(volume / "here")], check=True)
    (volume / "here/file").write_text("host\n")
    assert await pod.exec(seer, "cat /volume/here/file /volume/there/file") == "host\nmade\n"
    assert await pod.exec(blind, "ls /volume/here /volume/there") == "/volume/here:\n\n/volume/there:\n"
    assert "pin-oci" not in subprocess.run(["findmnt", "-rn", "-t", "overlay"], capture_output=True, text=True, check=False).stdout


async def test_read_only_and_missing_host_paths(pod: TestPod, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    mounts = (Mount("/a/file", str(tmp_path / "file"), readonly=True), Mount("/b", str(tmp_path / "new/folder")))
    assert await pod.output("cat /a/file; (echo x >/a/file) 2>&1; echo y >/b/y", mounts=mounts) == (
        "text\n/bin/sh: can't create /a/file: Read-only file system\n"
    )
    assert (tmp_path / "new/folder/y").read_text() == "y\n"


async def test_memory_limit_is_kept_and_told(pod: TestPod) -> None:
    text = "x=x; while :; do x=$x$x$x; done"
    container = await pod.run(
        ("/bin/sh", "-c", text), resources=Resources(memory_limit=16 << 20, cpu_shares=512, cpu_quota=50000, cpu_period=100000)
    )
    assert (container.exit_code, container.reason) == (137, "OOMKilled")


async def test_no_other_user_of_the_machine_gets_to_what_a_container_wrote(pod: TestPod, home: OciHome) -> None:
    """A program that runs as root, say. An agent of before may have left the folders open."""
    await pod.sandbox()
    container_id = await pod.shell("cp /bin/busybox /id && chmod 4755 /id && echo made && exec sleep 1000")
    await pod.until_said(container_id, "made")
    program = home.settings.root_dir / "oci/containers" / container_id / "upper/id"
    memory = home.settings.run_dir / "oci/sandboxes" / pod.sandbox_id / "shm"
    assert stat.S_IMODE(program.stat().st_mode) == 0o4755
    home.folder.chmod(0o755)
    try:
        await asyncio.to_thread(_nobody_gets_to, program, memory)
        for above in (*program.parents[1:4], *memory.parents[:3]):
            above.chmod(0o755)
        async with another(home):
            await asyncio.to_thread(_nobody_gets_to, program, memory)
        text = "id -u; ls /id 2>&1 || true"
        assert await pod.output(text, security=Security(run_as_user=1000)) == "1000\nls: /id: No such file or directory\n"
    finally:
        home.folder.chmod(0o700)


def _nobody_gets_to(program: Path, folder: Path) -> None:
    with pytest.raises(PermissionError):
        subprocess.run([str(program), "-u"], user=65534, group=65534, extra_groups=[], check=False)
    touched = subprocess.run(["touch", str(folder / "mine")], user=65534, group=65534, extra_groups=[], capture_output=True, check=False)
    assert b"Permission denied" in touched.stderr


async def test_limits_are_in_the_cgroup(pod: TestPod) -> None:
    wanted = Resources(memory_limit=64 << 20, cpu_shares=512, cpu_quota=50000, cpu_period=100000, oom_score_adj=500)
    text = "cat /proc/self/oom_score_adj; cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert await pod.output(text, resources=wanted) == f"500\n{64 << 20}\n"
    scored = await pod.start(resources=Resources(oom_score_adj=500))
    assert await pod.exec(scored, "cat /proc/self/oom_score_adj") == "500\n"
    assert await pod.output("cat /proc/self/oom_score_adj") == "0\n", "the shim's own score is not the container's"
    for adjustment in (-997, -998):
        assert await pod.output("true", resources=Resources(oom_score_adj=adjustment)) == ""


async def test_usage_counts_processor_memory_and_disk(pod: TestPod, runtime: OciRuntime) -> None:
    container_id = await pod.shell(
        "head -c 3000000 /dev/zero >/tmp/file; n=0; while [ $n -lt 100000 ]; do n=$((n+1)); done; echo up; sleep 999"
    )
    log = (await runtime.container(container_id)).log_path

    async def is_up() -> bool:
        return log.exists() and "up" in log.read_text()

    await until(is_up)
    await runtime.usage()
    await runtime._meter.settled()
    used = {each.id: each for each in await runtime.usage()}[container_id]
    assert used.cpu_seconds > 0.01
    assert 0 < used.memory_working_set < 1 << 30
    assert used.disk_bytes >= 3000000
    assert used.disk_inodes >= 2


async def test_host_namespaces(pod: TestPod) -> None:
    await pod.sandbox(namespaces=Namespaces(host_network=True, host_pid=True, host_ipc=True))
    found = await pod.output("for each in net ipc pid uts; do readlink /proc/self/ns/$each; done")
    assert found.split() == [str(Path(f"/proc/self/ns/{each}").readlink()) for each in ("net", "ipc", "pid", "uts")]


async def test_program_of_another_processor(pod: TestPod, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF" + bytes(200))
    program.chmod(0o755)
    container = await pod.run(("/program",), mounts=(Mount("/program", str(program)),))
    assert (container.exit_code, container.reason) == (1, "Error")
    assert "Exec format error" in pod.said(container)


async def test_program_that_may_not_be_executed(pod: TestPod, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("text")
    container_id = await pod.create(("/plain",), mounts=(Mount("/plain", str(plain)),))
    with pytest.raises(RuntimeFailed, match="check its mode"):
        await pod.runtime.start_container(container_id)
