"""Images made without a builder: the same input gives the same bytes, and the archive holds what its index says."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import IO, cast

import pytest
from rig.images import busybox, file, layer

from pinnace.core.base.imagefiles import Compression, Platform, build, for_docker, read_archive, reconfigured, tree_layer, write_archive


def tree(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/program").write_text("#!/bin/sh\n")
    (folder / "bin/program").chmod(0o755)
    (folder / "bin/other").symlink_to("program")
    (folder / "empty").mkdir()
    return folder


def test_a_tree_packed_twice_has_one_digest(tmp_path: Path) -> None:
    layers = [tree_layer(tree(tmp_path / name), tmp_path / f"{name}.tar.gz") for name in ("one", "two")]
    assert layers[0].blob.digest == layers[1].blob.digest
    assert layers[0].diff_id == layers[1].diff_id
    packed = (tmp_path / "one.tar.gz").read_bytes()
    assert layers[0].blob.digest == "sha256:" + hashlib.sha256(packed).hexdigest()
    assert layers[0].blob.size == len(packed)
    with tarfile.open(tmp_path / "one.tar.gz") as tar:
        found = {member.name: (member.mode, member.uid, member.mtime, member.linkname) for member in tar}
    assert found["bin/program"] == (0o755, 0, 0, "")
    assert found["bin/other"][3] == "program"
    assert "empty" in found


def test_an_archive_is_the_same_each_time_and_every_blob_has_its_digest(tmp_path: Path) -> None:
    packed = tree_layer(tree(tmp_path / "root"), tmp_path / "layer")
    images = {"docker.io/library/a:1": [build([packed], {"Cmd": ["/bin/program"]}, platform=Platform("linux", "arm", "v7"))]}
    assert write_archive(tmp_path / "a.tar", images) == write_archive(tmp_path / "b.tar", images)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert not list(tmp_path.glob(".*.part"))
    with tarfile.open(tmp_path / "a.tar") as tar:
        contents = {member.name: cast(IO[bytes], tar.extractfile(member)).read() for member in tar}
    for name, content in contents.items():
        if name.startswith("blobs/"):
            assert name == "blobs/sha256/" + hashlib.sha256(content).hexdigest()
    (entry,) = json.loads(contents["index.json"])["manifests"]
    assert entry["platform"] == {"os": "linux", "architecture": "arm", "variant": "v7"}
    manifest = json.loads(contents["blobs/" + entry["digest"].replace(":", "/")])
    assert manifest["layers"][0]["digest"] == packed.blob.digest


@pytest.mark.parametrize("compression", Compression)
def test_the_media_type_says_how_a_layer_is_packed(compression: Compression) -> None:
    packed = layer([file("a", b"b")], compression)
    assert packed.blob.media_type == "application/vnd.oci.image.layer.v1.tar" + compression.value
    assert packed.diff_id == layer([file("a", b"b")]).diff_id


def test_docker_knows_the_same_image_by_the_same_configuration() -> None:
    image = busybox()
    other = for_docker(image)
    assert other.config.digest == image.config.digest
    assert other.manifest.digest != image.manifest.digest
    assert {each.blob.media_type for each in other.layers} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}


def test_an_archive_is_written_anew_with_other_variables_and_the_same_layers(tmp_path: Path) -> None:
    packed = tree_layer(tree(tmp_path / "root"), tmp_path / "layer")
    name, platform = "docker.io/library/a:1", Platform("linux", "arm64")
    write_archive(tmp_path / "a.tar", {name: [build([packed], {"Cmd": ["/x"], "Env": ["PATH=/bin", "A=old"]}, platform=platform)]})
    reconfigured(tmp_path / "a.tar", tmp_path / "b.tar", {"A": "new", "B": "1=2"})
    (tmp_path / "out").mkdir()
    found = read_archive(tmp_path / "b.tar", tmp_path / "out")
    assert list(found) == [name]
    assert json.loads(found[name].config.read())["config"] == {"Cmd": ["/x"], "Env": ["PATH=/bin", "A=new", "B=1=2"]}
    assert [each.diff_id for each in found[name].layers] == [packed.diff_id]
    assert found[name].layers[0].blob.read() == (tmp_path / "layer").read_bytes()
    assert found[name].platform == platform
    assert {each.name for each in tmp_path.iterdir()} == {"root", "layer", "a.tar", "b.tar", "out"}


def test_another_archive_is_refused_in_words(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        (tmp_path / "index.json").write_text('{"manifests": [{}]}')
        tar.add(tmp_path / "index.json", "index.json")
    with pytest.raises(ValueError, match="no archive of images"):
        read_archive(tmp_path / "x.tar", tmp_path)
