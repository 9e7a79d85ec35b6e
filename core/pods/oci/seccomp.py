"""Seccomp profiles: the default one, whose list is seccomp.json, and a file of the host (OCI runtime specification, config-linux.md)."""

from __future__ import annotations

import platform
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base.runtime import Profile, RuntimeFailed, SecurityProfile

_EPERM: Final = 1
_CLONE_FLAGS: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""


def default_profile(capabilities: AbstractSet[str], machine: str = "") -> dict[str, Any]:
    """All but what reaches out of the container or at the machine as a whole; a capability given on purpose opens what it is for."""
    source = orjson.loads(Path(__file__).with_name("seccomp.json").read_bytes())
    rules = []
    for each in source["denied"]:
        if each.get("unless") in capabilities:
            continue
        common = {"names": each["names"], "action": "SCMP_ACT_ERRNO", "errnoRet": each.get("errno", _EPERM)}
        if "clone" in each["names"]:
            # One rule a flag: a mask can be compared for equality only.
            flags = [1 << bit for bit in range(32) if _CLONE_FLAGS >> bit & 1]
            rules += [{**common, "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]} for flag in flags]
        else:
            rules.append(common)
    return {
        "defaultAction": source["defaultAction"],
        "architectures": source["architectures"].get(machine or platform.machine(), []),
        "syscalls": rules,
    }


def load(profile: SecurityProfile, capabilities: AbstractSet[str]) -> dict[str, Any] | None:
    """None for no profile. Reads a file when the profile is the host's. Raises RuntimeFailed."""
    if profile.kind is Profile.UNCONFINED:
        return None
    if profile.kind is Profile.RUNTIME_DEFAULT:
        return default_profile(capabilities)
    try:
        found = orjson.loads(Path(profile.path).read_bytes())
    except OSError as error:
        raise RuntimeFailed(f"the seccomp profile {profile.path}: {error.strerror}", reason="CreateContainerError") from error
    except orjson.JSONDecodeError as error:
        raise RuntimeFailed(f"the seccomp profile {profile.path}: {error}", reason="CreateContainerError") from error
    if not isinstance(found, dict) or "defaultAction" not in found:
        raise RuntimeFailed(f"the seccomp profile {profile.path}: expected an object with a defaultAction", reason="CreateContainerError")
    return found
