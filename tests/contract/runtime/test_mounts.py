"""Host paths in containers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod

from pinnace.core.base.runtime import Mount, Propagation, RuntimeFailed, Security


async def test_folder_is_read_and_written(pod: TestPod, tmp_path: Path) -> None:
    source = tmp_path / "it"
    source.mkdir()
    (source / "in").write_text("from the host\n")
    said = await pod.output("cat /mnt/it/in; echo back > /mnt/it/out", mounts=(Mount("/mnt/it", str(source)),))
    assert said == "from the host\n"
    assert (source / "out").read_text() == "back\n"


async def test_readonly_folder(pod: TestPod, tmp_path: Path) -> None:
    said = await pod.output("touch /mnt/x 2>&1 || true", mounts=(Mount("/mnt", str(tmp_path), readonly=True),))
    assert "Read-only file system" in said


async def test_single_file_over_one_of_the_image(pod: TestPod, tmp_path: Path) -> None:
    source = tmp_path / "hosts"
    source.write_text("127.0.0.1 me\n")
    assert await pod.output("cat /data/kept", mounts=(Mount("/data/kept", str(source)),)) == "127.0.0.1 me\n"


async def test_mounts_within_mounts_whatever_their_order(pod: TestPod, tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    (outer / "deep").mkdir(parents=True)
    inner.mkdir()
    (inner / "it").write_text("inner\n")
    mounts = (Mount("/mnt/deep", str(inner)), Mount("/mnt", str(outer)))
    assert await pod.output("cat /mnt/deep/it", mounts=mounts) == "inner\n"


async def test_root_readonly_but_volume_writable(pod: TestPod, tmp_path: Path) -> None:
    mounts = (Mount("/mnt", str(tmp_path)),)
    await pod.output("touch /mnt/x", mounts=mounts, security=Security(readonly_root=True))
    assert (tmp_path / "x").exists()


async def test_source_that_is_missing_is_told_or_made(pod: TestPod, tmp_path: Path) -> None:
    """containerd makes an empty folder; to refuse is right as well. To mount something else is not."""
    missing = tmp_path / "missing" / "deep"
    try:
        said = await pod.output("ls /mnt", mounts=(Mount("/mnt", str(missing)),))
    except RuntimeFailed as error:
        said = str(error)
    assert str(missing) in said if said else missing.is_dir()


@pytest.mark.parametrize(
    ("propagation", "sees"),
    [(Propagation.PRIVATE, False), (Propagation.HOST_TO_CONTAINER, True), (Propagation.BIDIRECTIONAL, True)],
)
async def test_propagation_from_the_host(pod: TestPod, tmp_path: Path, propagation: Propagation, sees: bool) -> None:
    shared = tmp_path / "shared"
    (shared / "late").mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(shared), str(shared)], check=True)
    try:
        subprocess.run(["mount", "--make-rshared", str(shared)], check=True)
        security = Security(privileged=propagation is Propagation.BIDIRECTIONAL)
        await pod.sandbox(privileged=security.privileged)
        container_id = await pod.start(mounts=(Mount("/mnt", str(shared), propagation=propagation),), security=security)
        subprocess.run(["mount", "-t", "tmpfs", "late", str(shared / "late")], check=True)
        (shared / "late/it").write_text("late\n")
        assert await pod.exec(container_id, "ls /mnt/late") == ("it\n" if sees else "")
        if propagation is Propagation.BIDIRECTIONAL:
            await pod.exec(container_id, "mkdir /mnt/late/back; mount -t tmpfs back /mnt/late/back; echo back > /mnt/late/back/it")
            assert (shared / "late/back/it").read_text() == "back\n"
    finally:
        await pod.remove()
        subprocess.run(["umount", "-R", str(shared)], check=True)


async def test_image_stays_as_it_was(pod: TestPod) -> None:
    await pod.output("echo changed > /data/kept; rm /bin/ls")
    assert await pod.output("cat /data/kept; ls /data") == "of the image\nkept\n"
