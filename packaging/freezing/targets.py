"""The architectures that can be frozen for, and the folders and commands that go with each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
STORE: Final = ROOT / ".build" / "freeze"
"""Roots, wheels and programs that are kept between runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """`arch` is Debian's name, `triplet` GNU's, `machine` uname's. `glibc` is the newest that anything in the result may need: that of the
    oldest system it is for. `tags` are pip's platforms that this allows;
    what is `compiled` has no wheel for them."""

    arch: str
    triplet: str
    machine: str
    emulator: str
    musl: str
    compiled: frozenset[str] = frozenset()
    glibc: tuple[int, int] = (2, 36)

    @property
    def tags(self) -> tuple[str, ...]:
        newest = self.glibc[1]
        plain = ["linux_" + self.machine] if self.compiled else []
        return (
            *plain,
            "manylinux2014_" + self.machine,
            *(f"manylinux_2_{minor}_{self.machine}" for minor in range(17, newest + 1)),
        )

    @property
    def is_emulated(self) -> bool:
        return os.uname().machine != self.machine

    def tool(self, name: str) -> str:
        """The cross tool of that name (gcc, strip). SystemExit with what to install when there is none."""
        program = f"{self.triplet}-{name}"
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not there; install gcc-{self.triplet.replace('_', '-')}")
        return program


_NO_WHEELS: Final = frozenset({"uvloop", "pyyaml", "zstandard", "pyinstaller"})
TARGETS: Final = {
    each.arch: each
    for each in (
        Target("amd64", "x86_64-linux-gnu", "x86_64", "x86_64", "x86_64-linux-musl"),
        Target("arm64", "aarch64-linux-gnu", "aarch64", "aarch64", "aarch64-linux-musl"),
        Target("armhf", "arm-linux-gnueabihf", "armv7l", "arm", "arm-linux-musleabihf", _NO_WHEELS),
    )
}


def kept(name: str, inputs: object, make: Callable[[Path], None]) -> Path:
    """The folder `name` made from `inputs` (anything JSON can say), by `make` when it is not there yet. Half made it has another name."""
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:12]
    folder = STORE / f"{name}-{key}"
    if not folder.exists():
        fresh = folder.with_name(folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        make(fresh)
        fresh.rename(folder)
    return folder


def call(command: Sequence[object], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a step with everything it says in `log`. SystemExit with the end of that when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        out.write(f"$ {' '.join(map(str, command))}\n")
        out.flush()
        done = subprocess.run(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}, cwd=cwd, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SystemExit(f"{tail}\n\n{command[0]} failed with {done.returncode}; all of it is in {log}")


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", flush=True)
