"""Claims, the volumes behind them, and how NFS is mounted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.pod import Pod
from pinnace.core.pods.material.persistent import Persistent, answers, bound_volume, claim_name, nfs_command, run_mount, source_of

POD = Pod({"metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}, "spec": {}})
VOLUME: dict[str, Any] = {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}
CLAIM = {"metadata": {"name": "mine", "uid": "c-1"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}


def persistent(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pv-1"}, "spec": {"claimRef": {"uid": "c-1"}, "capacity": {"storage": "1Gi"}, **spec}}


def test_a_bound_claim() -> None:
    assert claim_name(POD, VOLUME) == "mine"
    assert bound_volume(POD, VOLUME, CLAIM) == "pv-1"


@pytest.mark.parametrize(
    "claim", [{"spec": {}}, {"spec": {"volumeName": "pv-1"}}, {"spec": {"volumeName": "pv-1"}, "status": {"phase": "Lost"}}]
)
def test_a_claim_that_waits(claim: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="shop/mine is not bound"):
        bound_volume(POD, VOLUME, claim)


def test_an_ephemeral_volume_has_the_claim_made_for_its_pod() -> None:
    volume = {"name": "data", "ephemeral": {}}
    assert claim_name(POD, volume) == "web-data"
    assert bound_volume(POD, volume, CLAIM | {"metadata": {"ownerReferences": [{"uid": "u-1"}]}}) == "pv-1"
    with pytest.raises(ValueError, match="not made for this pod"):
        bound_volume(POD, volume, CLAIM)


def test_sources() -> None:
    nfs = {"server": "nas", "path": "/export"}
    assert source_of(VOLUME, CLAIM, persistent(nfs=nfs, mountOptions=["hard"])) == Persistent("pv-1", "nfs", nfs, False, ("hard",))
    assert source_of(VOLUME, CLAIM, persistent(local={"path": "/data"}, volumeMode="Block")).is_block
    assert source_of(VOLUME, CLAIM, persistent(hostPath={"path": "/data"}, accessModes=["ReadOnlyMany"])).readonly
    asked = {"persistentVolumeClaim": {"claimName": "mine", "readOnly": True}}
    assert source_of(asked, CLAIM, persistent(hostPath={"path": "/data"})).readonly


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"csi": {"driver": "x"}}, "csi is not supported"),
        ({"hostPath": {"path": "/a"}, "claimRef": {"uid": "other"}}, "another claim"),
        ({"nfs": {"server": "a", "path": "/"}, "volumeMode": "Block"}, "no block device"),
    ],
)
def test_what_a_node_cannot_give(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        source_of(VOLUME, CLAIM, persistent(**spec))


@pytest.mark.parametrize(
    ("settings", "readonly", "options", "expected"),
    [
        ({"server": "nas", "path": "/export"}, False, (), ["mount", "-t", "nfs", "nas:/export", "/t"]),
        ({"server": "nas", "path": "/export"}, True, (), ["mount", "-t", "nfs", "-o", "ro", "nas:/export", "/t"]),
        (
            {"server": "192.168.4.2", "path": "/a b"},
            True,
            ("hard", "nfsvers=4.1"),
            ["mount", "-t", "nfs", "-o", "ro,hard,nfsvers=4.1", "192.168.4.2:/a b", "/t"],
        ),
        ({"server": "fd00::2", "path": "/x"}, False, ("soft",), ["mount", "-t", "nfs", "-o", "soft", "[fd00::2]:/x", "/t"]),
    ],
)
def test_mounting_nfs(settings: dict[str, Any], readonly: bool, options: tuple[str, ...], expected: list[str]) -> None:
    assert nfs_command(settings, Path("/t"), readonly=readonly, options=options) == expected


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"server": "", "path": "/x"}, ()),
        ({"server": "-o", "path": "/x"}, ()),
        ({"server": "a b", "path": "/x"}, ()),
        ({"server": "nas", "path": "x"}, ()),
        ({"server": "nas", "path": "/x"}, ("a b",)),
        ({"server": "nas", "path": "/x"}, ("",)),
    ],
)
def test_mounting_nonsense(settings: dict[str, Any], options: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="nfs"):
        nfs_command(settings, Path("/t"), readonly=False, options=options)


async def test_what_mount_says_is_told() -> None:
    with pytest.raises(OSError, match="no such server"):
        await run_mount(["sh", "-c", "echo no such server >&2; exit 32"])
    with pytest.raises(OSError, match="exit code 3"):
        await run_mount(["sh", "-c", "exit 3"])
    with pytest.raises(OSError, match="no program"):
        await run_mount(["/nonexistent/mount"])
    await run_mount(["true"])


async def test_a_server_that_never_answers() -> None:
    with pytest.raises(OSError, match="is the server there"):
        await run_mount(["sleep", "1000"], timeout_seconds=0.05)


async def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    """mount(8) leaves the work to a helper, which waits for the server."""
    helper = tmp_path / "helper"
    os.mkfifo(helper)
    reader = os.open(helper, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="is the server there"):
            await run_mount(["sh", "-c", f"(echo up; exec sleep 1000) >{helper} & wait"], timeout_seconds=2)
        assert os.read(reader, 10) == b"up\n"
        assert os.read(reader, 10) == b"", "nobody has it open any more"
    finally:
        os.close(reader)


async def test_whether_a_server_answers(tmp_path: Path) -> None:
    await answers(tmp_path)
    with pytest.raises(OSError, match="gone"):
        await answers(tmp_path / "gone")
