"""Pods on this machine: where the edge of `pinnace up` keeps them, the mapper's image, and how all of them end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinnace.cloud.kube.resources import PODS
from pinnace.cloud.local.places import Places
from pinnace.cloud.ports import KubeApi, Object
from pinnace.core.base.cli import command_line
from pinnace.core.base.errors import PinnaceError

APP: Final = "traffic-light"
_IMAGES: Final = (Path(__file__).resolve().parents[2] / ".build" / "images", Path("/usr/share/pinnace/images"))
_CGROUPS: Final = Path("/sys/fs/cgroup")
_MISSING: Final = "there is no image of the mapper; `make demo` builds it"


def obstacle() -> str:
    """Why the mapper cannot run in a pod here; "" when it can."""
    if os.geteuid() != 0:
        return "pods need root"
    if shutil.which("crun") is None:
        return "there is no crun; apt-get install crun"
    return "" if mapper_image() is not None else _MISSING


def mapper_image() -> Path | None:
    """The archive that holds the mapper's image: named by $PINNACE_IMAGES, the checkout's or the installed one."""
    given = os.environ.get("PINNACE_IMAGES")
    places = [Path(given)] if given else list(_IMAGES)
    return next((each / f"{APP}.tar" for each in places if (each / f"{APP}.tar").exists()), None)


@dataclass(frozen=True, slots=True)
class PodFolders:
    """Everything of one system's pods. `run` is short, as Unix sockets want, and does not outlive the machine."""

    data: Path
    logs: Path
    run: Path
    cgroup: str

    @classmethod
    def of(cls, places: Places) -> PodFolders:
        mark = hashlib.sha256(os.fsencode(places.folder)).hexdigest()[:6]
        return cls(places.data / "edge", places.logs / "pods", Path("/run/pinnace") / f"up-{mark}", f"/pinnace-up-{mark}")

    @property
    def pin_socket(self) -> str:
        """An abstract socket: the pod has the host's network and none of its files."""
        return f"@{self.run}/pins"

    @property
    def settings(self) -> Object:
        """For `modules.edged` of edgecore.yaml."""
        return {
            "rootDirectory": str(self.data / "kubelet"),
            "podLogsDir": str(self.logs),
            "builtinRuntime": {
                "rootDir": str(self.data / "pinnace"),
                "runDir": str(self.run),
                "importDir": str(self.data / "import"),
            },
        }

    @property
    def kubelet(self) -> Object:
        """For its `tailoredKubeletConfig`."""
        return {"cgroupRoot": self.cgroup, "staticPodPath": str(self.data / "manifests")}

    async def offer_mapper(self, mqtt_port: int, pins: str) -> None:
        """Put the mapper's image where the edge imports from. The variables tell it what a pod's own flags do not. Raises PinnaceError."""
        from pinnace.core.base.imagefiles import reconfigured

        source, target = mapper_image(), self.data / "import" / f"{APP}.tar"
        if source is None:
            raise PinnaceError(_MISSING)
        variables = {
            "PINNACE_MQTT_URL": f"tcp://127.0.0.1:{mqtt_port}",
            "PINNACE_PIN_SOCKET": self.pin_socket,
            "PINNACE_PIN_PORT": pins,
        }
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(reconfigured, source, target, variables)
        except (OSError, ValueError) as error:
            raise PinnaceError(f"the mapper's image {source} cannot be used: {error}") from error


async def until_ready(api: KubeApi, namespace: str) -> str:
    """Wait for the mapper's pod; its name. What keeps it waiting is in its status: a TimeoutError's place is with the caller."""
    while True:
        for pod in (await api.list(PODS, namespace, label_selector=f"app={APP}"))[0]:
            conditions = (pod.get("status") or {}).get("conditions") or ()
            if any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
                return str(pod["metadata"]["name"])
        await asyncio.sleep(0.05)


async def waiting_for(api: KubeApi, namespace: str) -> str:
    """What the mapper's pod says it waits for."""
    said = []
    for pod in (await api.list(PODS, namespace, label_selector=f"app={APP}"))[0]:
        status = pod.get("status") or {}
        for each in (*(status.get("containerStatuses") or ()), *(status.get("conditions") or ())):
            waiting = (each.get("state") or {}).get("waiting") or (each if each.get("status") == "False" else {})
            said += [f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()] if waiting.get("message") else []
    return "; ".join(dict.fromkeys(said)) or "nothing is said in its status"


def end(places: Places) -> None:
    """End what an edge that does not run any more has left of pods. Raises PinnaceError."""
    config = places.config / "edgecore.yaml"
    folders = PodFolders.of(places)
    if os.geteuid() != 0 or not config.exists() or not (folders.data / "pinnace").exists():
        return
    done = subprocess.run(
        command_line("reset", "--config", str(config), "--pods-only"), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise PinnaceError(f"the pods do not end: {done.stderr.strip() or done.stdout.strip()}")
    shutil.rmtree(folders.run, ignore_errors=True)
    for each in (_CGROUPS, *_CGROUPS.glob("*/")):
        with contextlib.suppress(OSError):
            (each / folders.cgroup[1:]).rmdir()
