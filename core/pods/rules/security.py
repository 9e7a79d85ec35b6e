"""Security contexts: what pod and container say together (Kubernetes API, SecurityContext, PodSecurityContext)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import Namespaces, Profile, Security, SecurityProfile
from pinnace.core.pods.rules.admission import dotted

APPARMOR_ANNOTATION: Final = "container.apparmor.security.beta.kubernetes.io/"
_ANNOTATED: Final = {"runtime/default": Profile.RUNTIME_DEFAULT, "unconfined": Profile.UNCONFINED}


def security_of(pod: Pod, container: Container, *, image_user: str, seccomp_root: Path) -> Security:
    """The container's words before the pod's. `image_user` is what the image sets ("", "1000", "app:app"); Localhost seccomp profiles are
    files below `seccomp_root`, Localhost AppArmor profiles names of loaded ones. Raises ValueError with what is wrong."""
    general, own = _contexts(pod, container)
    user = _id(own.get("runAsUser", general.get("runAsUser")), "runAsUser")
    if own.get("runAsNonRoot", general.get("runAsNonRoot")):
        _refuse_root(user, image_user)
    privileged = is_privileged(container)
    capabilities = own.get("capabilities") or {}
    shown = own.get("procMount") == "Unmasked"
    return Security(
        privileged=privileged,
        add_capabilities=_capabilities(capabilities.get("add")),
        drop_capabilities=_capabilities(capabilities.get("drop")),
        run_as_user=user,
        run_as_group=_id(own.get("runAsGroup", general.get("runAsGroup")), "runAsGroup"),
        supplemental_groups=groups_of(pod),
        readonly_root=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        masked_paths=() if shown else None,
        readonly_paths=() if shown else None,
        seccomp=SecurityProfile() if privileged else _seccomp(own, general, seccomp_root),
        apparmor=SecurityProfile() if privileged else _apparmor(pod, container, own, general),
    )


def is_privileged(container: Container) -> bool:
    return bool((container.spec.get("securityContext") or {}).get("privileged"))


def groups_of(pod: Pod) -> tuple[int, ...]:
    """supplementalGroups and fsGroup. Raises ValueError."""
    context = pod.spec.get("securityContext") or {}
    if context.get("supplementalGroupsPolicy") == "Strict":
        raise ValueError("supplementalGroupsPolicy Strict is not supported by this node: use Merge")
    wanted = [*(context.get("supplementalGroups") or ()), context.get("fsGroup")]
    groups = [_id(each, "supplementalGroups and fsGroup") for each in wanted]
    return tuple(dict.fromkeys(each for each in groups if each is not None))


def fs_group(pod: Pod) -> int | None:
    """The group that owns the pod's volumes. Raises ValueError."""
    return _id((pod.spec.get("securityContext") or {}).get("fsGroup"), "fsGroup")


def common_user(pod: Pod) -> int | None:
    """The user all containers are told to run as, if it is one and the same: the owner of the pod's token files. Raises ValueError."""
    users = set()
    for each in pod.all_containers:
        general, own = _contexts(pod, each)
        users.add(_id(own.get("runAsUser", general.get("runAsUser")), "runAsUser"))
    return users.pop() if len(users) == 1 else None


def namespaces_of(pod: Pod) -> Namespaces:
    """Raises ValueError for what this node cannot give."""
    if pod.spec.get("hostUsers") is False:
        raise ValueError("hostUsers: false wants a user namespace, which this node does not offer: leave it out")
    return Namespaces(
        host_network=pod.host_network,
        host_pid=bool(pod.spec.get("hostPID")),
        host_ipc=bool(pod.spec.get("hostIPC")),
        share_pid=bool(pod.spec.get("shareProcessNamespace")),
    )


def sysctls_of(pod: Pod) -> dict[str, str]:
    """The kernel parameters a pod sets, by their dotted names; whether it may is admission's to say."""
    sysctls = (pod.spec.get("securityContext") or {}).get("sysctls") or ()
    return {dotted(str(each.get("name", ""))): str(each.get("value", "")) for each in sysctls}


def _contexts(pod: Pod, container: Container) -> tuple[Object, Object]:
    """The pod's and the container's, without entries that say nothing."""
    general, own = (
        {key: value for key, value in (each.spec.get("securityContext") or {}).items() if value is not None} for each in (pod, container)
    )
    return general, own


def _id(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise ValueError(f"{name}: expected a number from 0 to 2147483647, not {value!r}")
    return value


def _refuse_root(user: int | None, image_user: str) -> None:
    if user == 0:
        raise ValueError("the container's runAsUser is 0, which runAsNonRoot forbids")
    if user is not None:
        return
    name = image_user.partition(":")[0]
    if not name or (name.isdecimal() and int(name) == 0):
        raise ValueError("container has runAsNonRoot and image will run as root: set runAsUser")
    if not name.isdecimal():
        raise ValueError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root: set runAsUser"
        )


def _capabilities(names: Sequence[str] | None) -> tuple[str, ...]:
    """As Kubernetes writes them: NET_ADMIN, ALL."""
    return tuple(str(each).upper().removeprefix("CAP_") for each in names or ())


def _seccomp(own: Object, general: Object, root: Path) -> SecurityProfile:
    profile = own.get("seccompProfile") or general.get("seccompProfile") or {}
    kind = _kind(profile.get("type") or Profile.UNCONFINED.value, "seccompProfile")
    if kind is not Profile.LOCALHOST:
        return SecurityProfile(kind)
    name = str(profile.get("localhostProfile") or "")
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"seccompProfile.localhostProfile: expected a file below {root}, not {name!r}")
    return SecurityProfile(kind, str(root / path))


def _apparmor(pod: Pod, container: Container, own: Object, general: Object) -> SecurityProfile:
    """Without a word it is the runtime's own profile, where the machine has AppArmor."""
    profile = own.get("appArmorProfile") or general.get("appArmorProfile")
    if profile:
        kind = _kind(profile.get("type") or "", "appArmorProfile")
        return SecurityProfile(kind, str(profile.get("localhostProfile") or "") if kind is Profile.LOCALHOST else "")
    annotated = pod.annotations.get(APPARMOR_ANNOTATION + container.name, "")
    if annotated.startswith("localhost/"):
        return SecurityProfile(Profile.LOCALHOST, annotated.removeprefix("localhost/"))
    if annotated and annotated not in _ANNOTATED:
        raise ValueError(f"AppArmor annotation: expected runtime/default, unconfined or localhost/NAME, not {annotated!r}")
    return SecurityProfile(_ANNOTATED.get(annotated, Profile.RUNTIME_DEFAULT))


def _kind(text: str, name: str) -> Profile:
    try:
        return Profile(text)
    except ValueError as error:
        raise ValueError(f"{name}.type: expected RuntimeDefault, Unconfined or Localhost, not {text!r}") from error
