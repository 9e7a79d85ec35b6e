"""The initramfs's scripts are POSIX sh as busybox and dash read it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

IMAGE = Path(__file__).resolve().parents[4] / "packaging/image"
SCRIPTS = [*sorted((IMAGE / "initramfs").iterdir()), IMAGE / "files/usr/lib/pinnace/has-news"]


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
