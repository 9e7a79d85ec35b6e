"""The unpacker under damaged layers over damaged layers: unpacked or refused, nothing beside the layer touched, no descriptor left open.

python tests/fuzz/fuzz_layer.py --runs 20000 [--seed N]
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.mutations import main, mutated
from rig.images import Member, device, file, folder, hard_link, link

from pinnace.core.base.imagefiles import Compression, digest_of, pack, tar_of
from pinnace.core.pods.images.tree import LayerRefused, Quota
from pinnace.core.pods.images.unpack import unpack

NAMES = ["a", "b", "a/b", "a/b/c", "./a", "/b", "../x", "a/../../x", ".wh.a", "a/.wh..wh..opq", ".wh...", "a//b", "l", "l/x", "."]
TARGETS = ["a", "b", "/", "..", "../outside", "/outside", "a/b", "l", "."]
LIMIT = 1 << 18


def members(source: random.Random) -> list[Member]:
    found: list[Member] = []
    for _ in range(source.randint(0, 8)):
        name = source.choice(NAMES)
        match source.randrange(6):
            case 0 | 1:
                content, mode = source.randbytes(source.choice((0, 1, 512, 2000))), source.choice((0o644, 0o4755))
                found.append(file(name, content, mode, xattrs={"user.a": "b"}))
            case 2:
                found.append(folder(name, source.choice((0o755, 0o1777, 0))))
            case 3:
                found.append(link(name, source.choice(TARGETS)))
            case 4:
                found.append(hard_link(name, source.choice(TARGETS)))
            case _:
                found.append(device(name, 0, source.choice((0, 1))))
    return found


def damaged(source: random.Random) -> tuple[bytes, str]:
    """A packed layer with injuries in its tar or in its packing, and the digest of its tar where that is still known."""
    tar = tar_of(members(source))
    if source.random() < 0.6:
        tar = mutated(source, [tar], [b"\0" * 512, b"\xff" * 12, b"../", b"7777777", b"L", b"x", b"1 size=-1\n"])
    packed = pack(tar, source.choice(list(Compression))).blob.read()
    if source.random() < 0.2:
        packed = mutated(source, [packed], [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\0" * 64])
    return packed, digest_of(tar)


def picture(outside: Path) -> list[tuple[str, int, int, float]]:
    return [(str(path), (status := path.lstat()).st_mode, status.st_nlink, status.st_mtime) for path in sorted(outside.rglob("*"))]


def case(source: random.Random) -> None:
    with tempfile.TemporaryDirectory(prefix="layer") as name:
        top = Path(name)
        outside = top / "outside"
        (outside / "x").mkdir(parents=True)
        (outside / "x" / "file").write_text("x")
        before, descriptors = picture(outside), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        lowers: list[Path] = []
        for number in range(source.randint(1, 3)):
            packed, digest = damaged(source)
            target = top / str(number)
            target.mkdir()
            with contextlib.suppress(LayerRefused):
                unpack(io.BytesIO(packed), target, lowers, digest, Quota(LIMIT, LIMIT, 100))
            lowers.insert(0, target)
        assert picture(outside) == before
        assert {each.name for each in top.iterdir()} == {"outside", *(each.name for each in lowers)}
        assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


if __name__ == "__main__":
    sys.exit(main(__doc__, case))
