"""Images made on the spot from the static busybox and small files, for every test that needs one.

image = busybox({"Cmd": ["sh"]}, extra=[file("hello", b"hi")])
write_archive(path, {"docker.io/library/busybox:1": [image]})       # from pinnace.core.base.imagefiles
write_docker_archive(path, {"docker.io/library/busybox:1": image})
registry.push("library/busybox:1", image)                           # rig.registry
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from pinnace.core.base.imagefiles import BuiltImage, Compression, Layer, Platform, build, dumps, pack, tar_of

Member = tuple[tarfile.TarInfo, bytes]

MACHINES = {"x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"), "i686": ("386", "")}


def this_platform() -> Platform:
    """What images for this machine are marked with."""
    architecture, variant = MACHINES[platform.machine()]
    return Platform("linux", architecture, "" if architecture == "arm64" else variant)


def _member(path: str, kind: bytes, mode: int, *, uid: int = 0, gid: int = 0, mtime: int = 1_700_000_000) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.uid, member.gid, member.mtime = kind, mode, uid, gid, mtime
    return member


def file(
    path: str, content: bytes | str = b"", mode: int = 0o644, *, uid: int = 0, gid: int = 0, xattrs: Mapping[str, str] | None = None
) -> Member:
    """A file; `xattrs` go into the pax header as SCHILY.xattr."""
    text = content.encode() if isinstance(content, str) else content
    member = _member(path, tarfile.REGTYPE, mode, uid=uid, gid=gid)
    member.size = len(text)
    member.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in (xattrs or {}).items()}
    return member, text


def folder(path: str, mode: int = 0o755, *, uid: int = 0, gid: int = 0) -> Member:
    return _member(path, tarfile.DIRTYPE, mode, uid=uid, gid=gid), b""


def link(path: str, target: str) -> Member:
    """A symbolic link."""
    member = _member(path, tarfile.SYMTYPE, 0o777)
    member.linkname = target
    return member, b""


def hard_link(path: str, target: str) -> Member:
    member = _member(path, tarfile.LNKTYPE, 0o644)
    member.linkname = target
    return member, b""


def device(path: str, major: int, minor: int, *, is_block: bool = False) -> Member:
    member = _member(path, tarfile.BLKTYPE if is_block else tarfile.CHRTYPE, 0o666)
    member.devmajor, member.devminor = major, minor
    return member, b""


def layer(members: Iterable[Member], compression: Compression = Compression.GZIP) -> Layer:
    return pack(tar_of(members), compression)


@cache
def busybox_layer(compression: Compression = Compression.GZIP) -> Layer:
    """/bin with busybox and all its applets, /etc with root, nobody and `app` (1000:1000), /tmp, /proc, /sys, /dev."""
    program = shutil.which("busybox")
    assert program, "busybox-static is missing: `make dev` installs it"
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    members = [folder("bin"), file("bin/busybox", Path(program).read_bytes(), 0o755)]
    members += [link(f"bin/{name}", "busybox") for name in applets if name != "busybox"]
    members += [folder(name) for name in ("dev", "etc", "home", "proc", "root", "sys", "var")]
    members += [folder("tmp", 0o1777), folder("home/app", uid=1000, gid=1000)]
    members += [
        file(
            "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:app:/home/app:/bin/sh\n"
        ),
        file("etc/group", "root:x:0:\nnogroup:x:65534:\napp:x:1000:\nextra:x:2000:app\n"),
    ]
    return layer(members, compression)


def busybox(
    config: Mapping[str, Any] | None = None,
    *,
    extra: Sequence[Member] = (),
    layers: Sequence[Layer] = (),
    compression: Compression = Compression.GZIP,
    platform: Platform | None = None,
) -> BuiltImage:
    """A busybox image that runs `sh` unless told otherwise; `extra` members make a layer of their own above it, then come `layers`."""
    own = [layer(extra, compression)] if extra else []
    settings = {"Cmd": ["sh"], "Env": ["PATH=/bin"], **(config or {})}
    return build([busybox_layer(compression), *own, *layers], settings, platform=platform or this_platform())


def script(text: str, config: Mapping[str, Any] | None = None) -> BuiltImage:
    """A busybox image whose entrypoint is a shell script."""
    return busybox({"Entrypoint": ["/run.sh"], "Cmd": [], **(config or {})}, extra=[file("run.sh", f"#!/bin/sh\n{text}\n", 0o755)])


def write_docker_archive(target: Path, images: Mapping[str, BuiltImage]) -> None:
    """As `docker save` writes it, with plain layers; for small images."""
    members: dict[str, bytes] = {}
    manifest = []
    for name, image in images.items():
        config = image.config.digest.removeprefix("sha256:") + ".json"
        members[config] = image.config.read()
        names = []
        for each in image.layers:
            path = each.diff_id.removeprefix("sha256:") + "/layer.tar"
            members[path] = plain(each)
            names.append(path)
        manifest.append({"Config": config, "RepoTags": [name], "Layers": names})
    members["manifest.json"] = dumps({"all": manifest})[len('{"all":') : -1]
    target.write_bytes(tar_of(file(name, content) for name, content in members.items()))


def plain(packed: Layer) -> bytes:
    """The tar of a layer."""
    content, media_type = packed.blob.read(), packed.blob.media_type
    if media_type.endswith(("+gzip", ".gzip")):
        import gzip

        return gzip.decompress(content)
    if media_type.endswith(("+zstd", ".zstd")):
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(BytesIO(content)) as stream:
            return stream.read()
    return content
