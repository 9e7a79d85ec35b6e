"""The two roots: which one runs, which one is on trial. What is written here the initramfs reads (packaging/image/initramfs/slots.sh)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

from pinnace.core.appliance.files import drop, keep, text
from pinnace.core.base.errors import ConfigError, RefusedError
from pinnace.core.base.lock import sole

TRIES: Final = 3
"""How often a trial is started before it is given up. More than one: the power may be cut while it starts."""
SLOTS: Final = ("a", "b")


class GivenUp(NamedTuple):
    slot: str
    reason: str


class Slots:
    """For an appliance's own processes; one at a time changes anything."""

    def __init__(self, state: Path = Path("/data/boot"), run: Path = Path("/run/pinnace-boot")) -> None:
        """`state` is on the data partition; `run` is what the initramfs left for this start."""
        self._state = state
        self._run = run

    @property
    def running(self) -> str:
        """Raises ConfigError where the initramfs of an image did not start this system."""
        slot = _words(self._run / "slot")[:1]
        if not slot or slot[0] not in SLOTS:
            raise ConfigError(
                "this machine was not started from Pinnace's image and has one root only: `pinnace install` of a newer build upgrades it"
            )
        return slot[0]

    @property
    def other(self) -> str:
        return SLOTS[1 - SLOTS.index(self.running)]

    @property
    def is_trial(self) -> bool:
        """Whether the running root is still to show that its node becomes Ready."""
        return (self._run / "trial").exists() and _words(self._state / "trial")[:1] == [self.running]

    @property
    def given_up(self) -> GivenUp | None:
        words = _words(self._state / "failed")
        return GivenUp(words[0], " ".join(words[1:])) if words else None

    def partition(self, slot: str) -> Path:
        """The device of a root."""
        (prefix,) = _words(self._run / "partitions")[:1] or [""]
        if not prefix:
            raise ConfigError(f"{self._run / 'partitions'} does not say where the roots are; start the machine anew")
        return Path(f"{prefix}{SLOTS.index(slot) + 2}")

    def locked(self) -> AbstractContextManager[None]:
        """One upgrade at a time. Raises RefusedError while there is another, OSError."""
        return sole(self._run / "lock", "`pinnace upgrade`")

    def begin(self) -> str:
        """The slot that may be overwritten now; it is not started any more. Raises RefusedError, ConfigError, OSError."""
        if self.is_trial:
            raise RefusedError("this root is itself on trial; wait until its node is Ready (pinnace-confirm.service)")
        slot = self.other
        if (_words(self._state / "active")[:1] or ["a"]) == [slot]:  # the initramfs came here because that root is damaged
            keep(self._state / "active", f"{self.running}\n".encode())
        drop(self._state / "trial")
        return slot

    def try_next(self, slot: str) -> None:
        """At the next start `slot` is tried."""
        drop(self._state / "failed")
        keep(self._state / "trial", f"{slot} {TRIES}\n".encode())

    def confirm(self) -> None:
        """The running root is good."""
        keep(self._state / "active", f"{self.running}\n".encode())
        drop(self._state / "trial")
        drop(self._state / "failed")

    def give_up(self) -> None:
        """At the next start the former root is back."""
        keep(self._state / "trial", f"{self.running} 0\n".encode())

    def told(self) -> None:
        """The person knows of the trial that was given up."""
        drop(self._state / "failed")


def _words(path: Path) -> list[str]:
    return text(path).split()
