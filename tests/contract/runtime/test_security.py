"""Who a container runs as, and what it may."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from contract.runtime.installations import USER
from contract.runtime.pods import TestPod

from pinnace.core.base.runtime import Device, Profile, Security, SecurityProfile

ID = "echo $(id -u):$(id -g):$(id -G)"
CAPABILITIES = "grep CapEff /proc/self/status | cut -f 2"
CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN = 12, 13, 21
DEFAULTS = 0xA80425FB
"""The fourteen that container runtimes give: CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD, NET_RAW, SETGID, SETUID, SETFCAP, SETPCAP,
NET_BIND_SERVICE, SYS_CHROOT, KILL, AUDIT_WRITE."""


@pytest.mark.parametrize(
    ("image_has_user", "security", "said"),
    [
        (False, Security(), "0:0:0"),
        (True, Security(), "1000:1000:1000 2000"),
        (False, Security(run_as_user=1000), "1000:1000:1000 2000"),
        (False, Security(run_as_user=4321), "4321:0:0"),
        (True, Security(run_as_user=0), "0:0:0"),
        (False, Security(run_as_user=4321, run_as_group=77), "4321:77:77"),
        (False, Security(run_as_group=77), "0:77:77"),
        (True, Security(run_as_group=77), "1000:77:77 2000"),
        (False, Security(run_as_user=4321, run_as_group=77, supplemental_groups=(5, 6)), "4321:77:77 5 6"),
    ],
)
async def test_user_and_groups(pod: TestPod, image_has_user: bool, security: Security, said: str) -> None:
    image = {"image": USER} if image_has_user else {}
    assert (await pod.output(ID, security=security, **image)).strip() == said


def has(text: str, number: int) -> bool:
    return bool(int(text, 16) >> number & 1)


async def test_capabilities_are_the_usual_ones_and_change_as_told(pod: TestPod) -> None:
    assert int(await pod.output(CAPABILITIES), 16) == DEFAULTS
    changed = await pod.output(CAPABILITIES, security=Security(add_capabilities=("NET_ADMIN",), drop_capabilities=("NET_RAW",)))
    assert int(changed, 16) == DEFAULTS & ~(1 << CAP_NET_RAW) | 1 << CAP_NET_ADMIN


async def test_all_capabilities_can_be_dropped_and_single_ones_added(pod: TestPod) -> None:
    assert int(await pod.output(CAPABILITIES, security=Security(drop_capabilities=("ALL",))), 16) == 0
    one = await pod.output(CAPABILITIES, security=Security(drop_capabilities=("ALL",), add_capabilities=("NET_ADMIN",)))
    assert int(one, 16) == 1 << CAP_NET_ADMIN


async def test_user_who_is_not_root_has_no_effective_capabilities(pod: TestPod) -> None:
    assert int(await pod.output(CAPABILITIES, security=Security(run_as_user=1000)), 16) == 0


async def test_privileged_has_devices_and_may_write_sysfs(pod: TestPod) -> None:
    text = (
        f"test -c /dev/loop-control && echo devices; {CAPABILITIES}; grep -c '/sys sysfs ro' /proc/mounts; grep Seccomp: /proc/self/status"
    )
    await pod.sandbox(privileged=True)
    said = await pod.run(("/bin/sh", "-c", text), security=Security(privileged=True))
    lines = pod.said(said).splitlines()
    host_has = Path("/dev/loop-control").exists()
    assert ("devices" in lines) is host_has
    numbers = [line for line in lines if len(line) == 16]
    assert has(numbers[0], CAP_SYS_ADMIN)
    assert "0" in lines
    assert any(line.split() == ["Seccomp:", "0"] for line in lines)


async def test_not_privileged_sees_few_devices(pod: TestPod) -> None:
    said = set((await pod.output("ls /dev")).split())
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "fd", "stdin", "stdout", "stderr"} <= said
    assert said <= {
        *("null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd", "stdin", "stdout", "stderr", "mqueue", "core"),
        *("console", "termination-log"),
    }


async def test_device_is_there_and_may_be_used_as_told(pod: TestPod) -> None:
    devices = (Device("/dev/mine", "/dev/zero", "rwm"), Device("/dev/some/mute", "/dev/fuse", "r"))
    text = (
        "head -c 4 /dev/mine | wc -c; echo x > /dev/mine && echo written; (: < /dev/some/mute) && echo open;"
        " (: > /dev/some/mute) 2>&1 || (: < /dev/fuse) 2>&1 || true"
    )
    said = (await pod.output(text, devices=devices)).splitlines()
    assert said[:3] == ["4", "written", "open"]
    assert "Operation not permitted" in said[3]
    assert "/dev/fuse" in said[4]


async def test_readonly_root(pod: TestPod) -> None:
    said = await pod.output("touch /it 2>&1 || echo refused; touch /dev/shm/it && echo memory", security=Security(readonly_root=True))
    assert "Read-only file system" in said
    assert said.endswith("refused\nmemory\n")
    assert await pod.output("touch /it && echo written") == "written\n"


@pytest.mark.parametrize("is_wanted", [True, False])
async def test_no_new_privileges(pod: TestPod, is_wanted: bool) -> None:
    said = await pod.output("grep NoNewPrivs /proc/self/status", security=Security(no_new_privileges=is_wanted))
    assert said.split() == ["NoNewPrivs:", str(int(is_wanted))]


@pytest.mark.parametrize(("kind", "mode"), [(Profile.UNCONFINED, "0"), (Profile.RUNTIME_DEFAULT, "2")])
async def test_seccomp_mode(pod: TestPod, kind: Profile, mode: str) -> None:
    said = await pod.output("grep Seccomp: /proc/self/status", security=Security(seccomp=SecurityProfile(kind)))
    assert said.split() == ["Seccomp:", mode]


async def test_seccomp_default_lets_ordinary_programs_run(pod: TestPod) -> None:
    security = Security(seccomp=SecurityProfile(Profile.RUNTIME_DEFAULT))
    assert await pod.output("echo a | cat | sort; ls / > /dev/null && sleep 0.01 && echo well", security=security) == "a\nwell\n"


async def test_seccomp_profile_of_the_host(pod: TestPod, tmp_path: Path) -> None:
    profile = tmp_path / "no-mkdir.json"
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    security = Security(seccomp=SecurityProfile(Profile.LOCALHOST, str(profile)))
    assert "Operation not permitted" in await pod.output("mkdir /tmp/x 2>&1 || true; touch /tmp/y", security=security)


async def test_masked_paths_show_nothing_unless_unmasked(pod: TestPod) -> None:
    text = "wc -c < /proc/timer_list; ls /sys/firmware | wc -l; touch /proc/sys/kernel/domainname 2>&1 || true"
    masked = await pod.output(text)
    assert masked.splitlines()[:2] == ["0", "0"]
    assert "Read-only file system" in masked
    bare = Security(masked_paths=(), readonly_paths=())
    assert await pod.output("grep -c -E ' /proc/(sys|kcore|timer_list) ' /proc/mounts || true", security=bare) == "0\n"


async def test_own_masked_paths(pod: TestPod) -> None:
    assert await pod.output("cat /data/kept; ls /etc | wc -l", security=Security(masked_paths=("/data/kept", "/etc"))) == "0\n"


async def test_container_cannot_see_the_hosts_files(pod: TestPod) -> None:
    assert os.getpid() > 1
    assert await pod.output(f"ls /proc/{os.getpid()} 2>/dev/null | wc -l; ls {pod.folder} 2>/dev/null | wc -l") == "0\n0\n"
