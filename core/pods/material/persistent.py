"""Claims and the persistent volumes behind them (Kubernetes API, core/v1 PersistentVolumeClaim, PersistentVolume).

Kinds: hostPath, local, NFS. What a volume is comes from the store. An NFS server is met in child processes alone (mount, umount, stat).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from pinnace.core.base import bundle
from pinnace.core.base.aio import children
from pinnace.core.base.pod import Object, Pod

MOUNT_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 10.0
END_SECONDS: Final = 5.0
_HINTS: Final = (
    ("bad option", "; install the package nfs-common"),
    ("need a /sbin/mount", "; install the package nfs-common"),
    ("system call failed", "; does the server answer?"),
    ("timed out", "; does the server answer?"),
)
_KINDS: Final = ("hostPath", "local", "nfs")
_META: Final = frozenset(
    {
        "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy", "storageClassName",
        "volumeAttributesClassName", "volumeMode",
    }
)  # fmt: skip


class Persistent(NamedTuple):
    """A volume's source: `name` is its folder's, `settings` those of `kind` (hostPath, local, nfs)."""

    name: str
    kind: str
    settings: Object
    readonly: bool
    options: tuple[str, ...] = ()
    is_block: bool = False


def claim_name(pod: Pod, volume: Object) -> str:
    """The claim of a persistentVolumeClaim volume, or the one made for an ephemeral one."""
    if "ephemeral" in volume:
        return f"{pod.name}-{volume.get('name')}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def bound_volume(pod: Pod, volume: Object, claim: Object) -> str:
    """The persistent volume's name. Raises ValueError when the claim is not bound, or is another pod's."""
    name = claim_name(pod, volume)
    if "ephemeral" in volume:
        owners = (claim.get("metadata") or {}).get("ownerReferences") or ()
        if not any(each.get("uid") == pod.uid for each in owners):
            raise ValueError(f"claim {pod.namespace}/{name} was not made for this pod: delete it, or rename the pod")
    found = (claim.get("spec") or {}).get("volumeName")
    if not found or (claim.get("status") or {}).get("phase") != "Bound":
        raise ValueError(f"claim {pod.namespace}/{name} is not bound to a volume yet")
    return str(found)


def source_of(volume: Object, claim: Object, persistent: Object) -> Persistent:
    """What a claim's volume is made of. Raises ValueError when it is not this claim's, or of a kind this node does not have."""
    name = str((persistent.get("metadata") or {}).get("name", ""))
    spec = persistent.get("spec") or {}
    owner = (spec.get("claimRef") or {}).get("uid")
    if owner and owner != (claim.get("metadata") or {}).get("uid"):
        raise ValueError(f"persistent volume {name} is bound to another claim")
    kind = next((each for each in _KINDS if spec.get(each)), None)
    if kind is None:
        other = next((each for each in spec if each not in _META), "nothing")
        raise ValueError(f"persistent volume {name}: {other} is not supported by this node; hostPath, local and nfs are")
    asked: Any = volume.get("persistentVolumeClaim") or {}
    modes = spec.get("accessModes") or ()
    readonly = bool(asked.get("readOnly") or spec[kind].get("readOnly")) or list(modes) == ["ReadOnlyMany"]
    is_block = spec.get("volumeMode") == "Block"
    if is_block and kind != "local":
        raise ValueError(f"persistent volume {name}: a {kind} volume is no block device")
    return Persistent(name, kind, spec[kind], readonly, tuple(spec.get("mountOptions") or ()), is_block)


def nfs_command(settings: Object, target: Path, *, readonly: bool, options: Sequence[str] = ()) -> list[str]:
    """The argument list that mounts an NFS export. Raises ValueError for a server, path or option that is none."""
    server, path = str(settings.get("server") or ""), str(settings.get("path") or "")
    if not server or server.startswith("-") or any(each in server for each in "/ \t\n,"):
        raise ValueError(f"nfs: expected a server's name or address, not {server!r}")
    if not PurePosixPath(path).is_absolute() or "\n" in path:
        raise ValueError(f"nfs: expected an absolute path of an export, not {path!r}")
    for each in options:
        if not each or any(character.isspace() for character in each):
            raise ValueError(f"nfs: {each!r} is no mount option")
    host = f"[{server}]" if ":" in server and not server.startswith("[") else server
    given = [*(["ro"] if readonly else []), *options]
    return ["mount", "-t", "nfs", *(["-o", ",".join(given)] if given else []), f"{host}:{path}", str(target)]


async def run_mount(command: Sequence[str], *, timeout_seconds: float = MOUNT_SECONDS) -> None:
    """Raises OSError with what mount(8) said."""
    code, text = await _run(command, timeout_seconds, package="mount")
    if code:
        hint = next((hint for words, hint in _HINTS if words in text), "")
        raise OSError(f"{' '.join(command)}: {text or f'exit code {code}'}{hint}")


async def answers(folder: Path, *, timeout_seconds: float = ANSWER_SECONDS) -> None:
    """Whether the server of a mounted file system is there: asked in a child process, since nothing else ends who waits for it. Raises
    OSError."""
    code, text = await _run(["stat", "--file-system", "--", str(folder)], timeout_seconds, package="coreutils")
    if code:
        raise OSError(text or f"{folder}: the server does not answer")


async def run_unmount(point: Path, *, timeout_seconds: float = ANSWER_SECONDS) -> None:
    """Unmount a remote file system: it is out of sight at once. The last one of a server takes leave of it, in a child process which ends
    when there is no answer. Raises OSError."""
    code, text = await _run(["umount", "-i", "-c", "-l", str(point)], timeout_seconds, package="mount")
    if code:
        raise OSError(text or f"{point}: umount ended with exit code {code}")


async def _run(command: Sequence[str], timeout_seconds: float, *, package: str) -> tuple[int, str]:
    """(exit code, the beginning of what it said on its error stream); it is ended with all it started. Raises OSError."""
    try:
        child = await children.start(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=bundle.environment(),
        )
    except FileNotFoundError as error:
        raise OSError(f"there is no program {command[0]}: install the package {package}") from error
    try:
        async with asyncio.timeout(timeout_seconds):
            _, said = await child.communicate()
    except TimeoutError:
        raise OSError(f"{' '.join(command)}: no answer within {timeout_seconds:g} s; is the server there?") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):  # in the kernel it may wait on; the loop's watcher sees its end
                await asyncio.wait_for(child.wait(), END_SECONDS)
    return child.returncode or 0, said.decode(errors="replace").strip()[:500]
