"""The first process of a pod that shares its processes: it does its work, and who gets hold of it has nothing of the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, until
from integration.pods.oci.conftest import another
from rig.oci import OciHome

from pinnace.core.base.runtime import Namespaces, SandboxState, Security
from pinnace.core.pods.oci import files
from pinnace.core.pods.oci.runtime import OciRuntime
from pinnace.core.pods.oci.shims import PROGRAM

pytestmark = [pytest.mark.containers, pytest.mark.root]

SHARED = Namespaces(host_network=True, share_pid=True)
LOOK = """
cat /proc/1/comm
for each in root cwd fd; do ls -A /proc/1/$each/; done
grep -E '^(Uid|Cap...|NoNewPrivs|Seccomp):' /proc/1/status
wc -l </proc/1/mountinfo
(: >>/proc/1/exe) 2>&1 || echo unwritten
chmod 755 /proc/1/exe 2>&1
mount -o remount,bind,rw /proc/1/exe 2>&1 || echo no remount
touch /tmp/here && mount -o bind /proc/1/exe /tmp/here 2>&1 || echo no mount
"""
SHUT_OFF = """
pinnace-pause
Uid: 65535 65535 65535 65535
CapInh: 0000000000000000
CapPrm: 0000000000000000
CapEff: 0000000000000000
CapBnd: 0000000000000000
CapAmb: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
1
"""


def pause_of(home: OciHome, sandbox_id: str) -> int:
    return int((home.settings.run_dir / "oci/sandboxes" / sandbox_id / "pause").read_text().split()[0])


@pytest.mark.parametrize("added", ["SYS_PTRACE", "ALL"])
async def test_who_may_trace_it_finds_nothing_of_the_host(pod: TestPod, added: str) -> None:
    before = PROGRAM.stat()
    await pod.sandbox(namespaces=SHARED)
    said = (await pod.output(LOOK, security=Security(add_capabilities=(added,)))).replace("\t", " ")
    shown, _, rest = said.partition("/bin/sh")
    assert shown == SHUT_OFF.lstrip(), "its name, then nothing in its root, its working directory and its open files"
    assert "unwritten\nchmod: /proc/1/exe: Read-only file system\n" in rest
    assert "no remount\n" in rest
    assert rest.endswith("no mount\n")
    after = PROGRAM.stat()
    assert (after.st_mode, after.st_size, after.st_mtime) == (before.st_mode, before.st_size, before.st_mtime)


@pytest.mark.parametrize("user", [0, 65535])
async def test_others_may_not_look_at_it(pod: TestPod, user: int) -> None:
    await pod.sandbox(namespaces=SHARED)
    text = "for each in root cwd exe; do ls /proc/1/$each/ 2>&1; done; true"
    assert (await pod.output(text, security=Security(run_as_user=user))).count("Permission denied") == 3


async def test_it_takes_in_orphans_and_is_not_ended_from_within(pod: TestPod) -> None:
    await pod.sandbox(namespaces=SHARED)
    text = """
    for signal in TERM INT HUP CHLD STOP KILL; do kill -$signal 1; done
    (sleep 1000 & echo $! >/tmp/orphan)
    orphan=$(cat /tmp/orphan)
    until grep -q '^PPid:.1$' /proc/$orphan/status; do sleep 0.01; done
    kill -KILL $orphan
    while [ -e /proc/$orphan ]; do sleep 0.01; done
    cat /proc/1/comm
    """
    assert await pod.output(text) == "pinnace-pause\n"


async def test_it_outlives_the_agent_and_goes_with_the_pod(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    await pod.sandbox(namespaces=SHARED)
    pause = pause_of(home, pod.sandbox_id)
    container_id = await pod.start()
    await runtime.close()
    async with another(home) as second:
        pod.runtime = second
        assert (await second.sandboxes(pod.uid))[0].state is SandboxState.READY
        assert await pod.exec(container_id, "cat /proc/1/comm") == "pinnace-pause\n"
        assert await pod.output("ps | grep -c '[s]leep 1000'") == "1\n"
        await second.remove_sandbox(pod.sandbox_id)

    async def is_gone() -> bool:
        return files.start_time(pause) == 0

    await until(is_gone, what="the end of the pause process")
    assert not [each for each in home.mounts() if pod.sandbox_id in each]


async def test_what_it_takes_is_little(pod: TestPod, home: OciHome) -> None:
    """Its program is the shim's own file, which all share."""
    await pod.sandbox(namespaces=SHARED)
    text = Path(f"/proc/{pause_of(home, pod.sandbox_id)}/smaps_rollup").read_text()
    of = {words[0]: int(words[1]) for line in text.splitlines()[1:] if (words := line.split())}
    assert of["Pss_Anon:"] + of["Pss_Shmem:"] <= 64
