"""config.json of a container (OCI runtime specification 1.0) from what Kubernetes asks for, the image and the host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pinnace.core.base.runtime import ContainerConfig, Mount, Propagation, Resources, RuntimeFailed, SandboxConfig, Security
from pinnace.core.pods.images.records import ImageConfig
from pinnace.core.pods.oci.host import DeviceNode, Host
from pinnace.core.pods.oci.users import User

Json = dict[str, Any]
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_CAPABILITIES: Final = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
"""What every container runtime gives."""
SHM: Final = "/dev/shm"  # noqa: S108  the kernel's, no temporary file
MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on the host. `namespaces` maps a kind to the file of the pod's; kinds that are missing are the host's, and "" is a
    new one. `volumes` are (path in the container, host path) of the image's own."""

    root: str
    cgroup: str
    namespaces: Mapping[str, str]
    shm: str
    resolv_conf: str
    volumes: Sequence[tuple[str, str]] = ()


def arguments(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """command replaces the image's entrypoint and cmd, args alone its cmd (Kubernetes API, Container). Raises RuntimeFailed."""
    found = (*config.command, *config.args) if config.command else (*image.entrypoint, *(config.args or image.cmd))
    if not found:
        raise RuntimeFailed(f"the image {config.image_name} has no program to run; set command", reason="CreateContainerError")
    return found


def environment(config: ContainerConfig, image: ImageConfig, hostname: str, home: str) -> list[str]:
    """The image's variables, then the pod's: a later one of the same name wins."""
    found: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        found["TERM"] = "xterm"
    found |= dict((*image.env, *config.env))
    found.setdefault("HOME", home or "/")
    return [f"{name}={value}" for name, value in found.items()]


def capabilities(security: Security, available: frozenset[str]) -> frozenset[str]:
    """Names without CAP_; never more than the agent has itself."""
    if security.privileged:
        return available
    added = {each.upper().removeprefix("CAP_") for each in security.add_capabilities}
    dropped = {each.upper().removeprefix("CAP_") for each in security.drop_capabilities}
    base = available if "ALL" in added else frozenset() if "ALL" in dropped else DEFAULT_CAPABILITIES
    return ((base | added) - dropped) & available


def process(config: ContainerConfig, image: ImageConfig, user: User, host: Host, *, hostname: str) -> Json:
    security = config.security
    held = sorted(f"CAP_{each}" for each in capabilities(security, host.capabilities))
    return {
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": list(arguments(config, image)),
        "env": environment(config, image, hostname, user.home),
        "cwd": config.working_dir or image.working_dir or "/",
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": security.no_new_privileges and not security.privileged,
        "oomScoreAdj": max(config.resources.oom_score_adj, host.least_oom_score),
    }


def _kernel_mounts(places: Places, *, is_privileged: bool) -> list[Json]:
    rw = "rw" if is_privileged else "ro"
    plain = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": plain},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": plain},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*plain, rw]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*plain, "relatime", rw]},
        _bind(SHM, places.shm, ["rbind", "rprivate", "rw", "nosuid", "noexec", "nodev"]),
        *([_bind("/etc/resolv.conf", places.resolv_conf, ["rbind", "rprivate", "rw"])] if places.resolv_conf else []),
    ]


def _bind(destination: str, source: str, options: list[str]) -> Json:
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def _volume(mount: Mount) -> Json:
    propagation = "rprivate" if mount.propagation is Propagation.PRIVATE else mount.propagation.value
    return _bind(_clean(mount.container_path), mount.host_path, ["rbind", propagation, "ro" if mount.readonly else "rw"])


def _clean(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def mounts(config: ContainerConfig, places: Places) -> list[Json]:
    """The pod's mounts replace those of the same place; what lies deeper is mounted later."""
    found = {each["destination"]: each for each in _kernel_mounts(places, is_privileged=config.security.privileged)}
    for path, source in places.volumes:
        found[_clean(path)] = _bind(_clean(path), source, ["rbind", "rprivate", "rw"])
    for mount in config.mounts:
        given = _volume(mount)
        found.pop(given["destination"], None)
        found[given["destination"]] = given
    return sorted(found.values(), key=lambda each: each["destination"].count("/") if each["destination"] != "/" else 0)


def image_volumes(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """Those of the image that no mount of the pod covers."""
    covered = {_clean(each.container_path) for each in config.mounts}
    return tuple(each for each in dict.fromkeys(map(_clean, image.volumes)) if each not in covered and ".." not in each.split("/"))


def root_propagation(all_mounts: Sequence[Mount]) -> str:
    """What the mounts of the root must be for those of the volumes to pass through."""
    kinds = {each.propagation for each in all_mounts}
    if Propagation.BIDIRECTIONAL in kinds:
        return "rshared"
    return "rslave" if Propagation.HOST_TO_CONTAINER in kinds else "rprivate"


def resources(wanted: Resources, host: Host, devices: Iterable[tuple[DeviceNode, str]], *, is_privileged: bool) -> Json:
    found: Json = {
        "devices": [{"allow": True, "access": "rwm"}]
        if is_privileged
        else [
            {"allow": False, "access": "rwm"},
            *({"allow": True, "type": each.kind, "major": each.major, "minor": each.minor, "access": access} for each, access in devices),
        ]
    }
    cpu = {"shares": wanted.cpu_shares, "quota": wanted.cpu_quota, "period": wanted.cpu_period if wanted.cpu_quota else 0}
    if any(cpu.values()):
        found["cpu"] = {name: value for name, value in cpu.items() if value}
    unified = dict(wanted.unified)
    if wanted.memory_limit > 0:
        found["memory"] = {"limit": wanted.memory_limit}
        if host.limits_swap:
            found["memory"]["swap"] = wanted.memory_limit
        unified.setdefault("memory.oom.group", "1")
    if host.has_hugetlb and wanted.hugepages:
        found["hugepageLimits"] = [{"pageSize": size, "limit": limit} for size, limit in wanted.hugepages.items()]
    if host.is_cgroup_v2 and unified:
        found["unified"] = unified
    return found


def configuration(
    *,
    config: ContainerConfig,
    sandbox: SandboxConfig,
    image: ImageConfig,
    user: User,
    host: Host,
    places: Places,
    devices: Sequence[tuple[DeviceNode, str]] = (),
    seccomp: Json | None = None,
    apparmor: str = "",
) -> Json:
    """The whole of it. `devices` are device files with their access (letters of rwm). A pod's annotations stay out: crun obeys some.

    Raises RuntimeFailed for what cannot be run.
    """
    security = config.security
    is_privileged = security.privileged
    kinds = dict(places.namespaces)
    kinds["mount"] = ""
    if host.is_cgroup_v2 and not is_privileged:
        kinds["cgroup"] = ""
    what = process(config, image, user, host, hostname=sandbox.hostname)
    if apparmor and not is_privileged:
        what["apparmorProfile"] = apparmor
    linux: Json = {
        "cgroupsPath": places.cgroup,
        "namespaces": [{"type": kind, "path": path} if path else {"type": kind} for kind, path in kinds.items()],
        "resources": resources(config.resources, host, devices, is_privileged=is_privileged),
        "rootfsPropagation": root_propagation(config.mounts),
        "devices": [
            {
                "path": each.path,
                "type": each.kind,
                "major": each.major,
                "minor": each.minor,
                "fileMode": each.mode,
                "uid": each.uid,
                "gid": each.gid,
            }
            for each, _access in devices
        ],
        "maskedPaths": [] if is_privileged else list(MASKED if security.masked_paths is None else security.masked_paths),
        "readonlyPaths": [] if is_privileged else list(READONLY if security.readonly_paths is None else security.readonly_paths),
    }
    if seccomp is not None and not is_privileged:
        linux["seccomp"] = seccomp
    return {
        "ociVersion": "1.0.2",
        "process": what,
        "root": {"path": places.root, "readonly": security.readonly_root},
        "mounts": mounts(config, places),
        "linux": linux,
    }


def exec_process(of_container: Mapping[str, Any], command: Sequence[str], *, tty: bool) -> Json:
    """process.json of another command in a container; `of_container` is that of its config.json."""
    found = {**of_container, "args": list(command), "terminal": tty}
    names = [each.partition("=")[0] for each in of_container["env"]]
    if tty and "TERM" not in names:
        found["env"] = [*of_container["env"], "TERM=xterm"]
    return found
