"""The image's scripts are POSIX sh as busybox and dash read it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

IMAGE = Path(__file__).resolve().parents[4] / "packaging/image"
SCRIPTS = [*sorted((IMAGE / "initramfs").iterdir()), *sorted((IMAGE / "files/usr/lib/pinnace").iterdir())]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize("shell", [["busybox", "sh"], ["dash"]], ids=lambda shell: shell[0])
def test_can_be_read(script: Path, shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} on this machine")
    done = subprocess.run([*shell, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_options_of_the_kernels_command_line(tmp_path: Path) -> None:
    text = (IMAGE / "initramfs/report.sh").read_text().replace("/proc/cmdline", str(tmp_path / "cmdline"))
    (tmp_path / "cmdline").write_text("console=tty0 pinnace.disk=00000000 quiet pinnace.disk=1234abcd\n")
    done = subprocess.run(["dash", "-euc", f"{text}\noption pinnace.disk"], capture_output=True, text=True, check=True)
    assert done.stdout == "1234abcd\n"


def test_only_root_reads_the_boot_partition_which_has_the_token_and_the_wifi_password() -> None:
    options = [found[1].split(",") for script in SCRIPTS for found in re.finditer(r"mount -t vfat -o (\S+)", script.read_text())]
    assert options
    assert all("umask=077" in each for each in options)


def test_what_is_said_is_on_the_screen_and_on_the_serial_console(tmp_path: Path) -> None:
    (tmp_path / "sys/class/tty/console").mkdir(parents=True)
    (tmp_path / "sys/class/tty/console/active").write_text("tty9 ttyS1 tty0\n")
    (tmp_path / "dev/tty9").mkdir(parents=True)  # as good as one that cannot be written
    for each in ("console", "ttyS1", "tty0"):
        (tmp_path / "dev" / each).touch()
    script = f". {IMAGE / 'initramfs/report.sh'}\nsay starting root a"
    environment = {"SYS": str(tmp_path / "sys"), "DEV": str(tmp_path / "dev"), "PATH": "/usr/bin:/bin"}
    subprocess.run(["dash", "-euc", script], env=environment, check=True)
    said = {each: (tmp_path / "dev" / each).read_text() for each in ("ttyS1", "tty0", "console")}
    assert said == {"ttyS1": "pinnace: starting root a\n", "tty0": "pinnace: starting root a\n", "console": ""}


@pytest.mark.parametrize("unit", ["pinnace-trial.timer", "pinnace-trial.service"])
def test_a_trial_is_bounded_in_emergency_mode_as_well(unit: str) -> None:
    said = (IMAGE / "files/etc/systemd/system" / unit).read_text().splitlines()
    assert {"DefaultDependencies=no", "IgnoreOnIsolate=yes"} <= set(said), "neither waits for what has failed, nor ends with it"
    if unit.endswith(".timer"):
        (wanted,) = (line for line in said if line.startswith("WantedBy="))
        assert {"sysinit.target", "emergency.target", "rescue.target"} <= set(wanted.partition("=")[2].split())
        assert unit in (IMAGE / "lay_out.sh").read_text().split()
