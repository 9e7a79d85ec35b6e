"""What the edge imports is measured in processes of its own; what it holds, where allocations are traced."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from pinnace.core.base import cli
from pinnace.core.base.observe import allocations
from pinnace.core.footprint import imports


def test_the_tree_of_imports_has_time_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["footprint", "--imports", "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    root = imports.Import.of(found)
    names = [each.name for _, each in root.walk()]
    assert found["modules"] == len(names) - 1 == len(set(names)) - 1 > 200
    assert {"pinnace.core.agent", "pinnace.core.pods.host", "uvloop.loop", "yaml"} <= set(names)
    by_name = {each.name: each for _, each in root.walk()}
    agent = by_name["pinnace.core.agent"]
    assert agent.heap > 1 << 20
    assert by_name["uvloop.loop"].size > 1 << 20
    assert 0 <= agent.own("seconds") < agent.seconds < root.seconds
    assert "pinnace.core.hub.service" in {each.name for each in agent.inside}
    lines = list(imports.table(root))
    assert any(line.endswith(f"all {found['modules']} modules") for line in lines)


@pytest.mark.parametrize(
    ("file", "package"),
    [
        ("/usr/lib/python3.11/asyncio/events.py", "asyncio"),
        ("/x/.venv/lib/python3.11/site-packages/yaml/loader.py", "yaml"),
        ("/x/packaging/ns/pinnace/core/pods/host.py", "pinnace.core.pods"),
        ("/x/core/agent.py", "pinnace.core.agent"),
        ("pinnace/core/meta/store.py", "pinnace.core.meta"),
        ("dataclasses.py", "dataclasses"),
        ("asyncio/events.py", "asyncio"),
        ("PyInstaller/loader/pyimod01_archive.py", "importlib (code of modules)"),
        ("<frozen importlib._bootstrap_external>", "importlib (code of modules)"),
    ],
)
def test_a_source_file_belongs_to_a_package(file: str, package: str) -> None:
    assert allocations.package_of(file) == package


def test_a_traced_process_says_who_holds_its_memory() -> None:
    script = (
        "import json, sqlite3, orjson\n"
        "from pinnace.core.base.observe import allocations\n"
        "database = sqlite3.connect(':memory:'); database.execute('create table t (a)')\n"
        "print(orjson.dumps(allocations.read()).decode())\n"
    )
    done = subprocess.run([sys.executable, "-X", "tracemalloc", "-c", script], capture_output=True, text=True, check=True)
    found = orjson.loads(done.stdout)
    packages = {each["package"]: each["bytes"] for each in found["packages"]}
    assert packages["importlib (code of modules)"] > 100_000
    assert "json" in packages
    assert sum(packages.values()) <= found["traced_bytes"] * 1.1
    assert found["malloc"]["used_bytes"] <= found["malloc"]["held_bytes"]
    assert found["sqlite_bytes"] > 0


def test_a_profile_is_read_by_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = {
        "imports": [
            {"module": "pinnace.core.agent", "by": "", "file_bytes": 0, "seconds": 0.3, "own_seconds": 0.1, "bytes": 4096},
            {"module": "uvloop.loop", "by": "uvloop", "file_bytes": 1500000, "seconds": 0.02, "own_seconds": 0.02, "bytes": 900},
        ],
        "allocations": {"obj": [100, 5, 60, 12345, [70, 20, 5, 2, 2, 1, 0]]},
        "heap": [
            {"file": "pinnace/core/meta/store.py", "bytes": 3000, "blocks": 3},
            {"file": "pinnace/core/meta/outbox.py", "bytes": 1000, "blocks": 1},
            {"file": "<frozen importlib._bootstrap_external>", "bytes": 9000, "blocks": 9},
        ],
    }
    path = tmp_path / "p.json"
    path.write_bytes(orjson.dumps(profile))
    assert cli.main(["footprint", "--profile", str(path), "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert found["packages"][1] == {"package": "pinnace.core.meta", "bytes": 4000, "blocks": 4}
    assert found["heap_bytes"] == 13000
    assert cli.main(["footprint", "--profile", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "imports: 2 modules, 120 ms" in shown
    assert "uvloop.loop" in shown
    path.write_text('{"imports": 1}')
    assert cli.main(["footprint", "--profile", str(path)]) == 2
    assert "is no profile" in capsys.readouterr().err
