"""The implementations under one suite. An installation outlives adapters: images, folders, a daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from fakes.runtime import FakeRuntime
from rig.containerd import Containerd
from rig.cri import CriDaemon
from rig.crio import Crio, program
from rig.images import busybox, file, folder
from rig.oci import OciHome

from pinnace.core.base.imagefiles import BuiltImage, write_archive
from pinnace.core.base.runtime import Runtime
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings
from pinnace.core.pods.cri.runtime import CriRuntime
from pinnace.core.pods.images.store import BuiltinImages
from pinnace.core.pods.oci.runtime import OciRuntime

BUSYBOX = "pinnace.test/busybox:1"
ENTRY = "pinnace.test/entry:1"
"""Entrypoint and command, both of which say who they are."""
USER = "pinnace.test/user:1"
"""User, working directory and environment of its own."""
SIGNAL = "pinnace.test/signal:1"
"""Wants SIGUSR1 to stop."""


def images() -> Mapping[str, BuiltImage]:
    show = file("bin/show", '#!/bin/sh\nfor each in "$@"; do echo "[$each]"; done\n', 0o755)
    return {
        BUSYBOX: busybox(extra=[folder("data"), file("data/kept", b"of the image\n")]),
        ENTRY: busybox({"Entrypoint": ["/bin/show", "entry"], "Cmd": ["cmd"]}, extra=[show]),
        USER: busybox({"User": "app", "WorkingDir": "/home/app", "Env": ["PATH=/bin", "FROM=image", "KEPT=image"]}),
        SIGNAL: busybox({"StopSignal": "SIGUSR1", "Cmd": ["sleep", "1"]}),
    }


class Quirk(Enum):
    """What a runtime does otherwise, and no adapter can mend."""

    LOSES_TAIL = "of a container that ends while much of what it said is unread, the rest is lost"
    KEEPS_EXEC = "a command goes on when who started it has left, until it reads or writes"
    CHECKS_EARLY = "that there is no such program is found out when the container is made, not when it starts"
    EXEC_FAILS_INSIDE = "why a command cannot be started is its output, with exit code 255"
    SHARES_NULL = "a command without standard input has the host's /dev/null"
    NO_LOOPBACK_PORTS = "host ports are at the machine's addresses but for 127.0.0.1"


class Installation(Protocol):
    name: str
    quirks: frozenset[Quirk]

    def adapter(self) -> Runtime:
        """A new object over what is there; the test starts, runs and closes it."""
        ...


class CriInstallation:
    """A daemon, started for the tests."""

    def __init__(self, name: str, daemon: CriDaemon, quirks: frozenset[Quirk]) -> None:
        self.name = name
        self.daemon = daemon
        self.quirks = quirks

    def adapter(self) -> Runtime:
        return CriRuntime(self.daemon.endpoint, request_seconds=60)


class _Cri(AbstractContextManager[Installation]):
    def __init__(self, name: str, daemon: CriDaemon, *quirks: Quirk) -> None:
        self._name = name
        self._daemon = daemon
        self._quirks = frozenset(quirks)

    def __enter__(self) -> Installation:
        self._daemon.__enter__()
        try:
            self._daemon.add(images())
        except BaseException:
            self._daemon.close()
            raise
        return CriInstallation(self._name, self._daemon, self._quirks)

    def __exit__(self, *_: object) -> None:
        self._daemon.close()


class BuiltInInstallation:
    """crun and the built-in image store."""

    name = "oci"
    quirks: frozenset[Quirk] = frozenset()

    def __init__(self, home: OciHome) -> None:
        self._bridge = home.bridge
        self.settings = replace(home.settings, import_dir=home.folder / "import")

    def adapter(self) -> Runtime:
        return _BuiltInRuntime(self.settings, self._bridge)

    async def import_images(self) -> None:
        """As an air-gapped node gets them: an archive in the import folder."""
        self.settings.import_dir.mkdir(parents=True)
        write_archive(self.settings.import_dir / "images.tar", {name: [image] for name, image in images().items()})
        store = BuiltinImages(self.settings)
        await store.start()
        done = asyncio.Event()
        store.on_import(lambda _: done.set())
        running = asyncio.create_task(store.run())
        try:
            async with asyncio.timeout(60):
                await done.wait()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await store.close()


class _BuiltInRuntime(OciRuntime):
    """With its image store, which the agent runs beside it."""

    def __init__(self, settings: BuiltinRuntimeSettings, bridge: str) -> None:
        self._store = BuiltinImages(settings)
        super().__init__(settings, self._store, bridge=bridge)

    async def start(self) -> None:
        await self._store.start()
        await super().start()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._store.run())
            group.create_task(super().run())

    async def close(self) -> None:
        await super().close()
        await self._store.close()


class _BuiltIn(AbstractContextManager[Installation]):
    def __init__(self, _: Path) -> None:
        self._home = OciHome({})

    def __enter__(self) -> Installation:
        made = BuiltInInstallation(self._home)
        try:
            asyncio.run(made.import_images())
        except BaseException:
            self._home.__exit__(None, None, None)
            raise
        return made

    def __exit__(self, *_: object) -> None:
        self._home.__exit__(None, None, None)


class FakeInstallation(AbstractContextManager[Installation]):
    """The one that tests of pods use in place of a runtime."""

    name = "fake"
    quirks: frozenset[Quirk] = frozenset()

    def __init__(self, _: Path) -> None:
        self._runtime = FakeRuntime()
        for name in images():
            self._runtime.images.add(name)

    def adapter(self) -> Runtime:
        return self._runtime

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_: object) -> None:
        return


INSTALLATIONS: Mapping[str, Callable[[Path], AbstractContextManager[Installation]]] = {
    "cri": lambda _: _Cri("cri", Containerd(), Quirk.LOSES_TAIL, Quirk.KEEPS_EXEC, Quirk.SHARES_NULL),
    "crio": lambda _: _Cri("crio", Crio(), Quirk.CHECKS_EARLY, Quirk.EXEC_FAILS_INSIDE, Quirk.NO_LOOPBACK_PORTS),
    "oci": _BuiltIn,
    "fake": FakeInstallation,
}
"""By name; what is built with a scratch folder and gives the installation in `with`. Images of `images()` must be there."""
EVERY = ("cri", "oci", *(("crio",) if program() else ()))
"""Those with real containers; CRI-O where PINNACE_CRIO names its program."""
EMULATED = ("oci",)
"""Those of `make machine`, where time is dear."""
FAKES = ("fake",)
"""Those that only keep books; tests marked `bookkeeping` run on them too."""
