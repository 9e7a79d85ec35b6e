"""Both shapes lay themselves down on a machine, here below a folder: whole or not at all, again, back, and away."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from frozen.shapes import PROGRAM, TREE, one_file
from rig.mqtt import MqttClient
from rig.processes import Child, free_port

from pinnace.core.install.manifest import NAME, Manifest

BARE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
NODE_FILES = "var/lib/kubeedge/edgecore.db"


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, env=BARE, cwd="/", check=False)


def broken(tree: Path) -> list[str]:
    return [each.path for each in Manifest.read(tree / NAME) if not each.is_intact(tree)]


def newer(tree: Path, version: str, *, schema: int = 1) -> Path:
    """The frozen tree as another version of it would be."""
    shutil.copytree(TREE, tree, symlinks=True)
    told = json.loads((tree / "lib/release.json").read_text())
    (tree / "lib/release.json").write_text(json.dumps({**told, "version": version, "schema": schema}))
    (tree / NAME).write_text(Manifest.of(tree).text())
    return tree


@pytest.mark.parametrize("shape", ["tree", "one file"])
def test_what_is_installed_is_the_tree_and_is_whole(tmp_path: Path, shape: str) -> None:
    done = run(PROGRAM if shape == "tree" else one_file(), "install", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    version = json.loads((TREE / "lib/release.json").read_text())["version"]
    laid = tmp_path / "opt/pinnace" / version
    assert (laid / NAME).read_text() == (TREE / NAME).read_text()
    assert broken(laid) == []
    assert Manifest.of(laid) == Manifest.read(TREE / NAME), "and nothing beside it"
    done = run(tmp_path / "opt/pinnace/current/pinnace", "selftest")
    assert done.returncode == 0, done.stdout
    assert "4 network plugins" in done.stdout


@pytest.mark.parametrize(
    "lost",
    ["lib/pinnace/ext/frame_c*.so", "lib/bin/mosquitto", "lib/pinnace/core/meta/schema/v1.sql"],
)
def test_a_tree_that_lacks_something_says_so(tmp_path: Path, lost: str) -> None:
    subprocess.run(["cp", "-al", TREE, tmp_path / "tree"], check=True)
    for each in list((tmp_path / "tree").glob(lost)):
        each.unlink()
    done = run(tmp_path / "tree/pinnace", "selftest")
    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_upgrade_rollback_and_uninstall(tmp_path: Path) -> None:
    root = tmp_path / "root"
    current = root / "opt/pinnace/current"
    run(PROGRAM, "install", "--root", root)
    (root / NODE_FILES).parent.mkdir(parents=True)
    (root / NODE_FILES).write_text("the node's")
    version = str(current.readlink())
    done = run(newer(tmp_path / "new", "99.0") / "pinnace", "install", "--root", root)
    assert "99.0 is installed; before it was" in done.stdout
    assert str(current.readlink()) == "99.0"
    assert run(current / "pinnace", "install", "--root", root, "--rollback").returncode == 0
    assert str(current.readlink()) == version
    assert run(current / "pinnace", "install", "--root", root, "--rollback").returncode == 0
    assert str(current.readlink()) == "99.0", "and forward again"
    assert run(PROGRAM, "uninstall", "--root", root).returncode == 0
    assert not (root / "opt/pinnace").exists()
    assert [each for each in root.rglob("*") if each.is_symlink()] == []
    assert (root / NODE_FILES).read_text() == "the node's"
    assert run(PROGRAM, "install", "--root", root).returncode == 0
    assert run(PROGRAM, "uninstall", "--root", root, "--purge", "--force").returncode == 0
    assert [str(each.relative_to(root)) for each in root.rglob("*") if each.is_file()] == []


def test_a_version_that_cannot_read_the_database_is_refused(tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "root" / NODE_FILES
    run(PROGRAM, "install", "--root", root)
    new = newer(tmp_path / "new", "99.0", schema=99)
    assert run(new / "pinnace", "install", "--root", root).returncode == 0
    database.parent.mkdir(parents=True)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL)")
        connection.execute("INSERT INTO migrations VALUES (99, 0)")
    connection.close()
    for command in ([PROGRAM, "install"], [new / "pinnace", "install", "--rollback"]):
        done = run(*command, "--root", root)
        assert done.returncode == 3
        assert "was written by a newer Pinnace (schema 99" in done.stderr
        assert str((root / "opt/pinnace/current").readlink()) == "99.0"


def test_killed_at_any_time_it_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    current = root / "opt/pinnace/current"
    run(PROGRAM, "install", "--root", root)
    old = str(current.readlink())
    new = newer(tmp_path / "new", "99.0")
    started = time.monotonic()
    run(new / "pinnace", "install", "--root", root)
    took = time.monotonic() - started
    chance = random.Random(7)
    for _ in range(8):
        run(PROGRAM, "install", "--root", root)
        shutil.rmtree(root / "opt/pinnace/99.0", ignore_errors=True)
        child = subprocess.Popen([new / "pinnace", "install", "--root", root], env=BARE, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            child.wait(took * chance.uniform(0.1, 1.1))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            child.wait()
        assert str(current.readlink()) in (old, "99.0")
        assert broken(root / "opt/pinnace" / current.readlink()) == []
    assert run(new / "pinnace", "install", "--root", root).returncode == 0
    assert sorted(each.name for each in (root / "opt/pinnace").iterdir() if not each.name.startswith(".lock")) == sorted(
        ["99.0", "current", old, "previous"]
    )


@pytest.mark.root
def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", tmp_path], check=True)
    try:
        done = run(PROGRAM, "install", "--root", tmp_path)
        assert done.returncode == 1
        assert "MB are needed; free some" in done.stderr
        assert [each.name for each in (tmp_path / "opt/pinnace").iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.mosquitto
async def test_the_installed_broker_serves_with_its_own_configuration(tmp_path: Path) -> None:
    run(PROGRAM, "install", "--root", tmp_path)
    port = free_port()
    text = (tmp_path / "etc/pinnace/mosquitto.conf").read_text()
    assert "listener 1883 127.0.0.1\n" in text
    (tmp_path / "m.conf").write_text(text.replace("listener 1883 ", f"listener {port} ").replace("./", f"{tmp_path}/") + "user root\n")
    command = ["env", "-i", str(tmp_path / "opt/pinnace/current/lib/bin/mosquitto"), "-c", str(tmp_path / "m.conf")]
    broker = Child("broker", command, tmp_path / "log", says_ready=False, port=port)
    await broker.start()
    try:
        async with MqttClient(port, "mapper", "t"):
            pass
    finally:
        await broker.kill()


def test_everything_in_the_tree_is_in_the_index_of_licences() -> None:
    index = json.loads((TREE / "lib/licences/index.json").read_text())
    named = {each["name"] for each in index}
    assert {
        "crun",
        "mosquitto",
        "openssl",
        "containernetworking-plugins",
        "libssl3",
        "musl-dev",
        "uvloop",
        "orjson",
        "pinnace",
        "pyinstaller",
    } <= named
    texts = TREE / "lib/licences"
    for each in index:
        assert each["licence"], each["name"]
        assert list((texts / each["name"]).iterdir()), f"no text of {each['name']}'s licence"
    files = {path for each in index for path in each["files"]}
    libraries = {each.path.removeprefix("lib/") for each in Manifest.read(TREE / NAME) if ".so" in each.path and not each.target}
    ours = {each for each in libraries if each.startswith("pinnace/")}
    assert libraries - files - ours == set()
