"""One process at a time, and who it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pinnace.core.base.errors import RefusedError
from pinnace.core.base.lock import sole


def test_the_second_is_told_who_is_at_work(tmp_path: Path) -> None:
    with sole(tmp_path / "lock", "cleaning"):
        for _ in range(2):
            with pytest.raises(RefusedError, match=rf"at work already \(process {os.getpid()}\)"), sole(tmp_path / "lock", "cleaning"):
                pass
    with sole(tmp_path / "lock", "cleaning"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    script = "import sys, time; from pathlib import Path; from pinnace.core.base.lock import sole\n"
    script += "with sole(Path(sys.argv[1]), 'cleaning'): print(flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "lock")], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(RefusedError, match=rf"process {child.pid}\)"), sole(tmp_path / "lock", "cleaning"):
            pass
        child.kill()
    with sole(tmp_path / "lock", "cleaning"):
        pass


def test_a_lock_that_was_taken_away_holds_nobody_up(tmp_path: Path) -> None:
    with sole(tmp_path / "lock", "cleaning"):
        (tmp_path / "lock").unlink()
        with sole(tmp_path / "lock", "laying"), pytest.raises(RefusedError), sole(tmp_path / "lock", "laying"):
            pass
