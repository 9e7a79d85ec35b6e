"""What pod and container say about security, together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import Namespaces, Profile, Security, SecurityProfile
from pinnace.core.pods.rules.security import common_user, groups_of, namespaces_of, security_of, sysctls_of

ROOT = Path("/var/lib/kubelet/seccomp")


def pod(own: dict[str, Any] | None = None, general: dict[str, Any] | None = None, annotations: Any = None, **spec: Any) -> Pod:
    container = {"name": "main", "securityContext": own}
    return Pod({"metadata": {"annotations": annotations}, "spec": {"containers": [container], "securityContext": general, **spec}})


def security(
    own: dict[str, Any] | None = None, general: dict[str, Any] | None = None, *, user: str = "", annotations: Any = None
) -> Security:
    given = pod(own, general, annotations)
    return security_of(given, given.containers[0], image_user=user, seccomp_root=ROOT)


def test_nothing_said() -> None:
    assert security() == Security(apparmor=SecurityProfile(Profile.RUNTIME_DEFAULT))


def test_everything_said() -> None:
    own = {
        "runAsUser": 7,
        "capabilities": {"add": ["NET_ADMIN", "cap_sys_time"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "procMount": "Unmasked",
        "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/fine.json"},
        "appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"},
    }
    general = {"runAsUser": 8, "runAsGroup": 9, "fsGroup": 20, "supplementalGroups": [30, 20]}
    assert security(own, general) == Security(
        add_capabilities=("NET_ADMIN", "SYS_TIME"),
        drop_capabilities=("ALL",),
        run_as_user=7,
        run_as_group=9,
        supplemental_groups=(30, 20),
        readonly_root=True,
        no_new_privileges=True,
        masked_paths=(),
        readonly_paths=(),
        seccomp=SecurityProfile(Profile.LOCALHOST, "/var/lib/kubelet/seccomp/profiles/fine.json"),
        apparmor=SecurityProfile(Profile.LOCALHOST, "mine"),
    )


def test_a_container_that_says_nothing_of_it_has_the_pods_word() -> None:
    profile = {"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 5}
    assert security({"runAsUser": None}, profile).run_as_user == 5
    assert security({}, profile).seccomp.kind is Profile.RUNTIME_DEFAULT


def test_a_privileged_container_is_not_confined() -> None:
    found = security({"privileged": True, "seccompProfile": {"type": "RuntimeDefault"}})
    assert found.privileged
    assert (found.seccomp.kind, found.apparmor.kind) == (Profile.UNCONFINED, Profile.UNCONFINED)


@pytest.mark.parametrize(
    ("own", "general", "user"),
    [
        ({"runAsNonRoot": True, "runAsUser": 0}, {}, "1000"),
        ({"runAsNonRoot": True}, {}, ""),
        ({"runAsNonRoot": True}, {}, "0:5"),
        ({"runAsNonRoot": True}, {}, "00"),
        ({}, {"runAsNonRoot": True}, "app:app"),
        ({}, {"runAsNonRoot": True, "runAsUser": 0}, "5"),
    ],
)
def test_root_is_refused(own: dict[str, Any], general: dict[str, Any], user: str) -> None:
    with pytest.raises(ValueError, match="runAsNonRoot"):
        security(own, general, user=user)


@pytest.mark.parametrize(
    ("own", "general", "user"),
    [
        ({"runAsNonRoot": True}, {}, "1000:0"),
        ({"runAsNonRoot": True, "runAsUser": 3}, {}, "root"),
        ({"runAsNonRoot": False}, {"runAsNonRoot": True}, ""),
    ],
)
def test_other_users_pass(own: dict[str, Any], general: dict[str, Any], user: str) -> None:
    security(own, general, user=user)


@pytest.mark.parametrize("path", ["../x.json", "a/../../x.json", "/etc/x.json", ""])
def test_a_seccomp_profile_stays_below_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="localhostProfile"):
        security({"seccompProfile": {"type": "Localhost", "localhostProfile": path}})


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"runAsUser": "app"}, "runAsUser"),
        ({"runAsGroup": -1}, "runAsGroup"),
        ({"seccompProfile": {"type": "Strict"}}, "seccompProfile"),
        ({"appArmorProfile": {"type": "no"}}, "appArmorProfile"),
    ],
)
def test_what_is_wrong_is_named(own: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        security(own)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unconfined", SecurityProfile()),
        ("runtime/default", SecurityProfile(Profile.RUNTIME_DEFAULT)),
        ("localhost/mine", SecurityProfile(Profile.LOCALHOST, "mine")),
    ],
)
def test_the_older_annotation(text: str, expected: SecurityProfile) -> None:
    assert security(annotations={"container.apparmor.security.beta.kubernetes.io/main": text}).apparmor == expected


def test_strict_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="Strict"):
        groups_of(pod(general={"supplementalGroupsPolicy": "Strict"}))


def test_one_user_for_all_owns_the_tokens() -> None:
    assert common_user(pod({"runAsUser": 4})) == 4
    assert common_user(pod({}, {"runAsUser": 4})) == 4
    assert common_user(pod({"runAsUser": 4}, initContainers=[{"name": "first"}])) is None
    assert common_user(pod()) is None


def test_namespaces() -> None:
    assert namespaces_of(pod()) == Namespaces()
    every = namespaces_of(pod(hostNetwork=True, hostPID=True, hostIPC=True, shareProcessNamespace=True))
    assert every == Namespaces(host_network=True, host_pid=True, host_ipc=True, share_pid=True)
    with pytest.raises(ValueError, match="hostUsers"):
        namespaces_of(pod(hostUsers=False))


def test_sysctls_have_dots() -> None:
    given = [{"name": "net/ipv4/tcp_syncookies", "value": "1"}, {"name": "kernel.msgmax", "value": "9"}]
    assert sysctls_of(pod(general={"sysctls": given})) == {"net.ipv4.tcp_syncookies": "1", "kernel.msgmax": "9"}
