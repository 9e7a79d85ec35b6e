"""Seccomp profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.runtime import Profile, RuntimeFailed, SecurityProfile
from pinnace.core.pods.oci.seccomp import default_profile, load


def denied(*capabilities: str) -> set[str]:
    return {name for rule in default_profile(frozenset(capabilities))["syscalls"] for name in rule["names"]}


def test_default_denies_what_reaches_out() -> None:
    assert {"mount", "setns", "kexec_load", "init_module", "keyctl", "clone", "clone3", "bpf", "open_by_handle_at"} <= denied()
    assert not {"read", "execve", "futex", "openat2", "ptrace", "chroot"} & denied()


def test_capability_opens_what_it_is_for() -> None:
    assert not {"mount", "setns", "unshare", "clone", "clone3"} & denied("SYS_ADMIN")
    assert "kexec_load" in denied("SYS_ADMIN")
    assert "clock_settime" not in denied("SYS_TIME")
    assert "keyctl" in denied("SYS_ADMIN", "SYS_TIME")


def test_clone_is_denied_for_each_new_namespace_only() -> None:
    rules = [rule for rule in default_profile(frozenset())["syscalls"] if rule["names"] == ["clone"]]
    flags = {rule["args"][0]["value"] for rule in rules}
    assert flags == {0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000}
    assert all(rule["args"][0]["op"] == "SCMP_CMP_MASKED_EQ" and rule["args"][0]["valueTwo"] == rule["args"][0]["value"] for rule in rules)


def test_clone3_says_there_is_no_such_call() -> None:
    """Libraries then use clone."""
    rule = next(rule for rule in default_profile(frozenset())["syscalls"] if rule["names"] == ["clone3"])
    assert rule["errnoRet"] == 38


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "armv7l"])
def test_architectures_of_each_machine(machine: str) -> None:
    assert default_profile(frozenset(), machine)["architectures"]
    assert default_profile(frozenset(), "other")["architectures"] == []


def test_profiles_by_kind(tmp_path: Path) -> None:
    assert load(SecurityProfile(Profile.UNCONFINED), frozenset()) is None
    assert load(SecurityProfile(Profile.RUNTIME_DEFAULT), frozenset()) == default_profile(frozenset())
    path = tmp_path / "p.json"
    for content, said in (("{", "p.json"), ("[]", "defaultAction"), ("{}", "defaultAction")):
        path.write_text(content)
        with pytest.raises(RuntimeFailed, match=said):
            load(SecurityProfile(Profile.LOCALHOST, str(path)), frozenset())
    path.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert load(SecurityProfile(Profile.LOCALHOST, str(path)), frozenset()) == {"defaultAction": "SCMP_ACT_ALLOW"}
