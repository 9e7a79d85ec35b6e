"""Volumes with real mounts, in a mount namespace of the test's own: nothing of it is seen outside, and all of it ends with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SCENES = Path(__file__).with_name("scenes.py")


@pytest.mark.parametrize(
    "scene",
    [
        "memory_and_secrets",
        "sub_paths",
        "sub_path_attack",
        "a_sub_path_of_a_config_map_follows_a_restart",
        "local_volume",
        "busy",
        "half_way",
        "reboot",
        "something_mounted_in_a_volume",
        "somebody_elses_files",
        "group_and_owner",
        "propagation",
        "names_with_spaces",
    ],
)
def test_scene(scene: str, tmp_path: Path) -> None:
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, str(SCENES), scene, str(tmp_path)]
    path = os.pathsep.join(str(SCENES.parents[index]) for index in (3,))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
