"""An emulated Raspberry Pi 3 with the image on its card: switched on, switched off, read from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

FIRST_PARTITION: Final = 4 << 20
CARD: Final = 2 << 30
HOST: Final = "10.0.2.2"
"""How the board reaches this machine's loopback, by QEMU's user network."""
# The emulated watchdog resets at once instead of counting, and the board has no revision number; all else is as on a Pi.
_EMULATION: Final = ("systemd.watchdog_device=/dev/none", "systemd.setenv=RPI_LGPIO_REVISION=a02082")


class Off(Exception):
    """The board ended, or said nothing of what was waited for."""


class Board:
    """One board and its card. What it says on the serial console is appended to `log`."""

    def __init__(self, place: Path, image: Path, ssh_port: int, *, size: int = CARD) -> None:
        self.place = place
        self.card = place / "card.img"
        self.log = place / "serial.log"
        self.key = place / "key"
        self.started = 0.0
        """When it was switched on, by time.monotonic()."""
        self._ssh_port = ssh_port
        self._process: subprocess.Popen[bytes] | None = None
        self._login: subprocess.Popen[bytes] | None = None
        self._sockets = tempfile.TemporaryDirectory(prefix="pinnace-")
        self._from = 0
        place.mkdir(parents=True, exist_ok=True)
        _run("cp", "--sparse=always", str(image), str(self.card))
        os.truncate(self.card, size)  # a card has a power of two
        self.key.unlink(missing_ok=True)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        for name in ("vmlinuz", "initramfs.gz", "bcm2837-rpi-3-b.dtb", "cmdline.txt"):
            self.take(name, place / name)

    def take(self, name: str, target: Path) -> None:
        """Copy a file from the boot partition."""
        target.unlink(missing_ok=True)
        _run("mcopy", "-n", "-i", self._boot, f"::{name}", str(target))

    def put(self, name: str, content: str | Path) -> None:
        """Write a text or copy a file to the boot partition, as a person with a card reader does."""
        if isinstance(content, str):
            file = self.place / "put"
            file.write_text(content)
            content = file
        _run("mcopy", "-D", "o", "-i", self._boot, str(content), f"::{name}")

    def report(self) -> str:
        file = self.place / "report"
        with contextlib.suppress(subprocess.CalledProcessError):
            self.take("pinnace-report.txt", file)
            return file.read_text()
        return ""

    @property
    def _boot(self) -> str:
        return f"{self.card}@@{FIRST_PARTITION}"

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def on(self) -> None:
        options = (self.place / "cmdline.txt").read_text().strip().replace("loglevel=4", "loglevel=6")
        self.start_other(f"{options} {' '.join(_EMULATION)}", self.place / "initramfs.gz", self.card)

    async def start(self, root: str = "a|b") -> None:
        """Switch it on and see the initramfs start a root (a pattern of its name), and the network on the bus. On a busy machine the
        emulated USB host sometimes loses its device while it is found: then the board is switched off and on, as a person would."""
        for _ in range(8):
            self.on()
            await self.hears(f"pinnace: starting root ({root})", seconds=900)
            if self.said().count("usb: Not connected") < 3:
                return
            self.cut()
        raise Off("the emulated USB host found its network device in none of eight starts")

    def start_other(self, options: str, initramfs: Path, card: Path) -> None:
        """Switch the board on with another system than the image."""
        assert not self.is_on
        self._from = self.log.stat().st_size if self.log.exists() else 0
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("qemu-system-aarch64", "-machine", "raspi3b", "-display", "none", "-monitor", "none", "-no-reboot"),
                    *("-kernel", self.place / "vmlinuz", "-dtb", self.place / "bcm2837-rpi-3-b.dtb", "-initrd", initramfs),
                    *("-append", options, "-drive", f"file={card},if=sd,format=raw,cache=writeback"),
                    *("-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{self._ssh_port}-:22", "-device", "usb-net,netdev=n0"),
                    *("-serial", "null", "-serial", "stdio"),  # the Pi's second one is on its pins
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def cut(self) -> None:
        """The power is gone: nothing is flushed, nothing is said."""
        for process in (self._login, self._process):
            if process is not None:
                process.kill()
                process.wait()
        self._login = self._process = None
        Path(self._sockets.name, "ssh").unlink(missing_ok=True)

    def said(self) -> str:
        """What the console said since it was switched on."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", file.read().decode(errors="replace"))

    async def hears(self, pattern: str, *, seconds: float) -> float:
        """Wait until the console said so; seconds since power-on. Raises Off."""
        async with _within(seconds, f"'{pattern}' on the console"):
            while not re.search(pattern, self.said()):
                if not self.is_on:
                    raise Off(f"the board ended before '{pattern}'; the last of {self.log}:\n{self.said()[-1500:]}")
                await asyncio.sleep(0.3)
        return time.monotonic() - self.started

    async def ends(self, *, seconds: float) -> None:
        """Wait until it reset itself: QEMU ends then, and the power comes back with `on`."""
        async with _within(seconds, "a reset"):
            while self.is_on:
                await asyncio.sleep(0.2)
        self.cut()

    async def ssh(self, *command: str, given: bytes = b"", seconds: float = 120.0) -> str:
        """Run a command on the board as root, through the log-in of `until_ssh`; what it said. Raises Off."""
        child = await asyncio.create_subprocess_exec(
            *self._ssh(), *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(seconds):
                said, complaint = await child.communicate(given)
        except TimeoutError:
            raise Off(f"ssh {' '.join(command)}: no answer in {seconds:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            raise Off(f"ssh {' '.join(command)}: {(said + complaint).decode(errors='replace').strip()}")
        return said.decode(errors="replace")

    def _ssh(self, *more: str) -> list[str]:
        """Logs in with the key of the board's pinnace.yaml; the board must show the same key of its own each time."""
        options = [f"UserKnownHostsFile={self.place / 'known_hosts'}", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR"]
        options += ["ConnectTimeout=60", f"ControlPath={self._sockets.name}/ssh", "ServerAliveInterval=30"]
        return ["ssh", "-i", str(self.key), "-p", str(self._ssh_port), *(f"-o{each}" for each in options), *more, "root@127.0.0.1"]

    async def until_ssh(self, *, seconds: float) -> None:
        """Log in once, for all commands until the power is cut."""
        async with _within(seconds, "log-in by ssh"):
            while True:
                try:
                    await self.ssh("true", seconds=60)
                    if self._login is None or self._login.poll() is not None:
                        self._login = subprocess.Popen(
                            self._ssh("-MN"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                        )
                    return
                except Off as error:
                    if not self.is_on or "HOST IDENTIFICATION" in str(error):
                        raise
                await asyncio.sleep(1)

    async def kept(self) -> str:
        """The root that is started from now on; empty while another one is on trial."""
        return (await self.ssh("sh", "-c", "'test -e /data/boot/trial || cat /data/boot/active'")).strip()

    async def pins(self) -> dict[int, str]:
        """BCM number → "hi" or "lo", of the pins that somebody drives, by the word of the board's pin controller (debugfs, gpio)."""
        said = await self.ssh("cat", "/sys/kernel/debug/gpio")
        return {int(found[1]): found[2] for found in re.finditer(r"gpio-\d+\s*\(GPIO(\d+)\s*\|[^)]*\)\s+out\s+(\w+)", said)}


@contextlib.asynccontextmanager
async def _within(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Off(f"no {what} within {seconds:g} s") from None


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def missing_programs() -> Sequence[str]:
    wanted = {"qemu-system-aarch64": "qemu-system-arm", "mcopy": "mtools", "ssh": "openssh-client", "kubectl": "kubernetes-client"}
    return [package for program, package in wanted.items() if shutil.which(program) is None]
