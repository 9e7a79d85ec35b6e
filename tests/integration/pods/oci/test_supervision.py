"""Containers and their agent: who may die, and what is known afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import pytest
from contract.runtime.pods import TestPod, until
from integration.pods.oci.conftest import another
from rig.oci import OciHome

from pinnace.core.base.runtime import ContainerState, Namespaces, Runtime, SandboxState
from pinnace.core.pods.oci import files
from pinnace.core.pods.oci.frames import read_frame
from pinnace.core.pods.oci.runtime import OciRuntime
from pinnace.core.pods.oci.shims import PROGRAM

pytestmark = [pytest.mark.containers, pytest.mark.root]


def container_pid(home: OciHome, container_id: str) -> int:
    return int((home.settings.run_dir / "oci/containers" / container_id / "pid").read_text())


async def test_container_goes_on_while_the_agent_is_another(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.shell("while [ ! -e /tmp/end ]; do sleep 0.05; done; echo over; exit 7")
    before = await runtime.container(container_id)
    await runtime.close()
    async with another(home) as second:
        changed: list[str] = []
        second.on_change(changed.append)
        adopted = await second.container(container_id)
        assert adopted.state is ContainerState.RUNNING
        assert adopted.started_at == pytest.approx(before.started_at, abs=2)
        assert (await second.sandboxes(pod.uid))[0].state is SandboxState.READY
        await second.exec_sync(container_id, ("touch", "/tmp/end"), 30)
        pod.runtime = second
        container = await pod.ended(container_id)
        assert (container.exit_code, container.reason, pod.said(container)) == (7, "Error", "over\n")
        assert pod.uid in changed


async def test_exit_code_is_kept_while_no_agent_lives(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.shell("read line; exit 42", stdin=True)
    shim = home.shims()[container_id]
    async with runtime.attach(container_id, stdin=True) as stream:
        await runtime.close()
        await stream.write(b"go\n")
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(shim)
            await asyncio.to_thread(_wait_readable, fd)
            os.close(fd)
    async with another(home) as second:
        container = await second.container(container_id)
        assert (container.state, container.exit_code, container.reason) == (ContainerState.EXITED, 42, "Error")
        assert container.finished_at >= container.started_at > 0


def _wait_readable(fd: int) -> None:
    import select

    assert select.select([fd], [], [], 30)[0]


AGENT = """
import asyncio, json, sys
from pathlib import Path
from pinnace.core.base.runtime import ContainerConfig, Namespaces, SandboxConfig
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.oci.runtime import OciRuntime
sys.path.insert(0, sys.argv[4])
from fakes.imagestore import UnpackedImages
from rig.images import busybox

async def main():
    home, uid, cgroup = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    settings = BuiltinRuntimeSettings(root_dir=home / "root", run_dir=home / "run", cni_conf_dir=home / "net.d")
    images = UnpackedImages(home / "images", {"b": busybox()})
    runtime = OciRuntime(settings, images)
    await runtime.start()
    logs = home / "logs"
    config = SandboxConfig(name="p", namespace="default", uid=uid, attempt=0, hostname="h", log_directory=logs, cgroup_parent=cgroup,
                           namespaces=Namespaces(host_network=True))
    image = (await images.images())[0].id
    while True:
        sandbox = await runtime.run_sandbox(config)
        for number in range(3):
            made = await runtime.create_container(sandbox, ContainerConfig(
                name=f"c{number}", attempt=0, image=image, image_name="b", log_path=f"{uid}-{number}.log",
                command=("sleep", "1000") if number else ("sh", "-c", "exit 3")), config)
            await runtime.start_container(made)
            print(json.dumps([made, number]), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 2, 5, 8])
async def test_agent_is_killed_in_the_middle_of_churn(after: int, home: OciHome, cgroup: str, tmp_path: Path) -> None:
    """Whatever it was doing: what it said was started runs or has ended truly, what it did not say leaves no process without a record."""
    uid = f"churn{after}"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        AGENT,
        str(home.folder),
        uid,
        f"{cgroup}/{uid}",
        str(Path(__file__).parents[3]),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    said = [json.loads(await asyncio.wait_for(child.stdout.readline(), 60)) for _ in range(after)]
    child.kill()
    rest, _ = await child.communicate()
    said += [json.loads(line) for line in rest.splitlines() if line.endswith(b"]")]
    async with another(home) as second:
        try:
            known = {each.id: each for each in await second.containers(uid)}
            for container_id, number in said:
                if number == 0:
                    await until(functools.partial(_has_ended, second, container_id))
                    assert (await second.container(container_id)).exit_code == 3
                else:
                    assert known[container_id].state is ContainerState.RUNNING
            assert set(home.shims()) <= {each.id for each in await second.containers()}
        finally:
            for sandbox in await second.sandboxes(uid):
                await second.remove_sandbox(sandbox.id)
        assert await second.containers(uid) == []
    from contract.runtime.pods import remove_cgroups

    remove_cgroups(f"{cgroup}/{uid}")


async def _has_ended(runtime: Runtime, container_id: str) -> bool:
    return (await runtime.container(container_id)).state is ContainerState.EXITED


async def test_killed_shim_takes_its_container_along(pod: TestPod, home: OciHome) -> None:
    container_id = await pod.start()
    pid = container_pid(home, container_id)
    assert files.start_time(pid)
    os.kill(home.shims()[container_id], signal.SIGKILL)
    container = await pod.ended(container_id)
    assert (container.exit_code, container.reason) == (137, "ContainerStatusUnknown")
    assert files.start_time(pid) == 0
    assert not list(Path("/sys/fs/cgroup").glob(f"*/*/*/{container_id}"))


async def test_shim_killed_while_no_agent_lived(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.start()
    pid = container_pid(home, container_id)
    await runtime.close()
    shim = home.shims()[container_id]
    ended = os.pidfd_open(shim)
    os.kill(shim, signal.SIGKILL)
    await asyncio.to_thread(_wait_readable, ended)
    os.close(ended)
    async with another(home) as second:
        container = await second.container(container_id)
        assert (container.state, container.reason) == (ContainerState.EXITED, "ContainerStatusUnknown")
        assert files.start_time(pid) == 0
    async with another(home) as third:
        assert (await third.container(container_id)).finished_at == container.finished_at


async def test_pid_of_a_shim_that_became_another_process_is_not_believed(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.start()
    await runtime.close()
    note = home.settings.run_dir / "oci/containers" / container_id / "shim"
    shim = int(note.read_text().split()[0])
    note.write_text(f"{os.getpid()} 12345\n")
    os.kill(shim, signal.SIGKILL)
    async with another(home) as second:
        assert (await second.container(container_id)).reason == "ContainerStatusUnknown"


async def test_nothing_is_left_of_what_was_removed(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    await pod.sandbox(namespaces=Namespaces(host_network=True, share_pid=True))
    await pod.run(("true",))
    await pod.start()
    await runtime.remove_sandbox(pod.sandbox_id)
    oci = home.settings.run_dir / "oci"
    left = [path for folder in (oci, home.settings.root_dir / "oci") for path in folder.rglob("*") if path.name not in _ALWAYS]
    assert left == []
    assert home.mounts() == [str(oci)]
    assert home.images.holders == {}


_ALWAYS = {"containers", "sandboxes", "exec", "crun", "mnt"}


async def test_reboot_leaves_records_and_takes_the_rest(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    await pod.sandbox(namespaces=Namespaces(host_network=True, share_pid=True))
    running = await pod.start(labels={"a": "b"}, annotations={"c": "d"}, attempt=4)
    ended = (await pod.run(("/bin/sh", "-c", "exit 9"))).id
    fresh = await pod.create(("true",))
    pid = container_pid(home, running)
    await runtime.close()
    home.power_cut()
    assert files.start_time(pid) == 0
    async with another(home, boot="the next one") as second:
        pod.runtime = second
        assert (await second.sandboxes(pod.uid))[0].state is SandboxState.NOT_READY
        lost = await second.container(running)
        assert (lost.state, lost.exit_code, lost.reason) == (ContainerState.EXITED, 137, "ContainerStatusUnknown")
        assert (lost.attempt, dict(lost.labels), dict(lost.annotations)) == (4, {"a": "b"}, {"c": "d"})
        assert (await second.container(ended)).exit_code == 9
        assert (await second.container(fresh)).state is ContainerState.CREATED
        for _ in range(2):
            await second.stop_container(running, 1)
            await second.stop_sandbox(pod.sandbox_id)
        old = pod.sandbox_id
        await pod.sandbox(attempt=1)
        assert await pod.output("echo again") == "again\n"
        for _ in range(2):
            await second.remove_container(running)
            await second.remove_sandbox(old)
        assert [each.attempt for each in await second.sandboxes(pod.uid)] == [1]
        await pod.remove()


async def test_ten_pods_at_once(runtime: OciRuntime, home: OciHome, tmp_path: Path, cgroup: str) -> None:
    pods = [TestPod(runtime, tmp_path, cgroup) for _ in range(10)]
    try:
        said = await asyncio.gather(*(each.output(f"echo {number}") for number, each in enumerate(pods)))
        assert said == [f"{number}\n" for number in range(10)]
    finally:
        await asyncio.gather(*(each.remove() for each in pods))
        from contract.runtime.pods import remove_cgroups

        for each in pods:
            remove_cgroups(each.cgroup)


class Traced:
    """A process that is held at its next read(2), by ptrace(2); one thread does it all."""

    SEIZE, INTERRUPT, SYSCALL, DETACH, SYSCALL_INFO, TRACE_SYSCALLS = 0x4206, 0x4207, 24, 17, 0x420E, 1
    READ: ClassVar = {"x86_64": 0, "aarch64": 63}

    def __init__(self, pid: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._pid = pid
        self._ask(self.SEIZE, data=self.TRACE_SYSCALLS)
        self._ask(self.INTERRUPT)
        os.waitpid(pid, 0)

    def _ask(self, request: int, address: int = 0, data: int = 0) -> None:
        if self._libc.ptrace(request, self._pid, ctypes.c_void_p(address), ctypes.c_void_p(data)) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def until_read(self) -> None:
        said = ctypes.create_string_buffer(128)
        for _ in range(20):
            self._ask(self.SYSCALL)
            os.waitpid(self._pid, 0)
            self._ask(self.SYSCALL_INFO, 128, ctypes.addressof(said))
            is_entry, number = said.raw[0] == 1, int.from_bytes(said.raw[24:32], sys.byteorder)
            if is_entry and number == self.READ[os.uname().machine]:
                return
        raise AssertionError("it reads nothing")

    def release(self) -> None:
        self._ask(self.DETACH)


async def test_last_words_are_kept_when_the_end_comes_between_looking_and_asking(pod: TestPod, home: OciHome) -> None:
    container_id = await pod.shell("while [ ! -e /tmp/go ]; do sleep 0.01; done; echo last; exit 3")
    container, shim = container_pid(home, container_id), home.shims()[container_id]
    traced = Traced(shim)
    try:
        os.kill(shim, signal.SIGCHLD)  # as any orphan's end does: it looked, saw no output, and goes on to ask who ended
        traced.until_read()
        Path(f"/proc/{container}/root/tmp/go").touch()
        while files.start_time(container):
            time.sleep(0.01)  # not the loop's: whoever traces is one thread
    finally:
        traced.release()
    ended = await pod.ended(container_id)
    assert (ended.exit_code, pod.said(ended)) == (3, "last\n")


def of_execs(home: OciHome, program: str) -> list[int]:
    execs, found = str(home.settings.run_dir / "oci/exec"), []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (each / "cmdline").read_bytes()
            if execs.encode() in words and words.split(b"\0")[0].endswith(program.encode()) and files.start_time(int(each.name)):
                found.append(int(each.name))
    return found


async def test_an_exec_whose_shim_is_killed_leaves_no_crun_behind(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.shell("sleep 1000")

    async def begun() -> bool:
        return bool(of_execs(home, "crun"))

    async def over() -> bool:
        return not of_execs(home, "crun")

    asking = asyncio.create_task(runtime.exec_sync(container_id, ("/bin/sleep", "1000"), 60))
    await until(begun, what="crun exec runs")
    (shim,) = of_execs(home, "pinnace-shim")
    (crun,) = map(int, Path(f"/proc/{shim}/task/{shim}/children").read_text().split())
    os.kill(crun, signal.SIGSTOP)  # as its shim does first of all when it ends it
    os.kill(shim, signal.SIGKILL)
    await until(over, what="crun ends with its shim")
    await asyncio.gather(asking, return_exceptions=True)
    await pod.runtime.stop_container(container_id, 0)
    assert (await pod.ended(container_id)).exit_code == 137


class StoppedCrun:
    """A crun as it is called for an exec, stopped before it has begun: what a shim leaves that is killed while it ends one."""

    def __init__(self, home: OciHome, container_id: str, folder: Path) -> None:
        root, process = home.settings.run_dir / "oci/crun", folder / "never.json"
        words: list[str | Path] = ["--root", root, "--log", folder / "crun.log", "exec", "--process", process]
        os.mkfifo(process)
        self._process = subprocess.Popen([home.settings.crun, *words, container_id])
        self.pid = self._process.pid
        os.kill(self.pid, signal.SIGSTOP)

    async def end(self) -> int:
        return await asyncio.to_thread(self._process.wait, 30)

    def kill(self) -> None:
        """Whatever came of it."""
        self._process.kill()
        self._process.wait()


async def test_what_a_killed_shim_of_an_exec_left_is_ended_and_no_stranger_is(
    pod: TestPod, runtime: OciRuntime, home: OciHome, tmp_path: Path
) -> None:
    container_id = await pod.shell("sleep 1000")
    execs = home.settings.run_dir / "oci/exec"
    stranger = StoppedCrun(home, container_id, tmp_path)
    try:
        asking = asyncio.create_task(runtime.exec_sync(container_id, ("/bin/sleep", "1000"), 60))
        await until(lambda: asyncio.to_thread(lambda: bool(of_execs(home, "crun"))), what="crun exec runs")
        (folder,), (shim,) = execs.iterdir(), of_execs(home, "pinnace-shim")
        left = StoppedCrun(home, container_id, folder)
        os.kill(shim, signal.SIGKILL)
        await asyncio.gather(asking, return_exceptions=True)
        assert await left.end() == -signal.SIGKILL
        (folder := execs / "of-an-agent-before").mkdir()
        left = StoppedCrun(home, container_id, folder)
        async with another(home):
            assert await left.end() == -signal.SIGKILL
        assert files.start_time(stranger.pid)
    finally:
        stranger.kill()


@pytest.mark.parametrize(("levels", "ends"), [(100, "container"), (1100, "shim")])
async def test_cgroups_in_cgroups_of_a_container_are_removed_however_deep(
    pod: TestPod, runtime: OciRuntime, home: OciHome, levels: int, ends: str
) -> None:
    """As a container makes them that manages its own: the stack of shim and agent is none of its business."""
    container_id = await pod.shell("sleep 1000")
    shim = home.shims()[container_id]
    resource.prlimit(shim, resource.RLIMIT_STACK, (256 << 10, 256 << 10))
    own = [each for each in Path("/sys/fs/cgroup").rglob(container_id) if each.is_dir()]
    subprocess.run(["mkdir", "-p", own[0] / "/".join("a" * levels)], check=True)
    if ends == "shim":
        os.kill(shim, signal.SIGKILL)
    else:
        await runtime.stop_container(container_id, 0)
    assert (await pod.ended(container_id)).exit_code == 137
    assert not [each for each in own if each.exists()]


async def test_a_container_is_removed_however_deep_its_folders_are(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    deep = "/".join("a" * 1500)
    container_id = (await pod.run(("mkdir", "-p", f"/tmp/{deep}"))).id
    await runtime.remove_container(container_id)
    assert not list((home.settings.root_dir / "oci/containers").glob(f"*{container_id}*"))


async def _patiently_connected(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, also while more wait to be let in than the socket's queue takes."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncio.open_unix_connection(path)
            except BlockingIOError:
                await asyncio.sleep(0.01)


async def test_shim_survives_whatever_comes_on_its_socket(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    """Random bytes, frames of every kind but the order to end, frames that are cut off or too large, and more clients than it takes."""
    container_id = await pod.shell("cat >/dev/null; sleep 1000", stdin=True)
    path = str(home.settings.run_dir / "oci/containers" / container_id / "s")
    chance = random.Random(7)
    for number in range(150):
        kind = chance.choice([b"A", b"I", b"C", b"W", b"R", b"?", b"\0"])
        body = chance.randbytes(chance.choice([0, 1, 4, 300, 20000]))
        sent = chance.randbytes(40).replace(b"K", b"k") if number % 3 == 0 else kind + b"\0\0\0" + len(body).to_bytes(4, "big") + body
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(sent[: chance.randrange(1, len(sent) + 1)] if number % 5 == 0 else sent)
            await writer.drain()
            writer.close()
    held = [await _patiently_connected(path) for _ in range(40)]
    for _, writer in held:
        writer.close()

    async def answers() -> bool:
        with contextlib.suppress(OSError):
            await runtime._shims.ask(container_id, b"R")
            return True
        return False

    await until(answers, what="an answer")
    assert (await runtime.container(container_id)).state is ContainerState.RUNNING


async def test_shim_that_gets_no_memory_to_wait_goes_on_waiting(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.shell("read line; exit 42", stdin=True)
    shim = home.shims()[container_id]
    usual = resource.prlimit(shim, resource.RLIMIT_NOFILE)
    before = _waits(shim)
    resource.prlimit(shim, resource.RLIMIT_NOFILE, (8, usual[1]))  # poll(2) fails on more than that
    _, knocking = await asyncio.open_unix_connection(str(home.settings.run_dir / "oci/containers" / container_id / "s"))  # wakes it
    await until(lambda: _has_waited(shim, before + 4), what="a wait that failed")
    assert (await runtime.container(container_id)).state is ContainerState.RUNNING
    resource.prlimit(shim, resource.RLIMIT_NOFILE, usual)
    knocking.close()
    async with runtime.attach(container_id, stdin=True) as stream:
        await stream.write(b"go\n")
        assert (await pod.ended(container_id)).exit_code == 42


async def _has_waited(pid: int, times: int) -> bool:
    return _waits(pid) >= times


def _waits(pid: int) -> int:
    """How often a process has gone to sleep (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


async def test_exec_that_cannot_fork_says_so_and_kills_nobody() -> None:
    """As a user of its own, of whom there may be no further process: what it killed by mistake would be that user's."""
    user = 61234
    folder = Path(tempfile.mkdtemp(prefix="pinnace-"))
    folder.chmod(0o755)
    program = folder / PROGRAM.name
    shutil.copy2(PROGRAM, program)
    neighbour = subprocess.Popen(["sleep", "1000"], user=user)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            shim = subprocess.Popen(
                [str(program), "exec", "--id", "x", "--run", str(folder), "--crun", "crun", "--crun-root", str(folder)],
                stdin=theirs.fileno(), user=user, preexec_fn=functools.partial(resource.setrlimit, resource.RLIMIT_NPROC, (1, 1)),
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        async with asyncio.timeout(30):
            said = await read_frame(reader)
        writer.close()
        await asyncio.to_thread(shim.wait, 30)
        assert said == (b"e", b"cannot fork: Resource temporarily unavailable")
        assert neighbour.poll() is None
    finally:
        neighbour.kill()
        neighbour.wait()
        shutil.rmtree(folder)
