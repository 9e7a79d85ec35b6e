"""Unpacking a layer: what is kept, what overlayfs is told, and each attack on its own."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.images import Member, device, file, folder, hard_link, layer, link

from pinnace.core.base.imagefiles import Compression, Layer, digest_of, pack, tar_of
from pinnace.core.pods.images.tree import LayerRefused, Quota, parts_of
from pinnace.core.pods.images.unpack import chain_of, unpack

pytestmark = pytest.mark.root
LIMIT = 1 << 24


class Box:
    """A layer's folder with something beside it that no layer may touch."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.outside = top / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        self.before = self.picture()
        self.lowers: list[Path] = []

    def picture(self) -> dict[str, tuple[int, int, bytes]]:
        found = {}
        for path in [self.outside, *self.outside.rglob("*")]:
            status = path.lstat()
            found[str(path)] = (status.st_mode, status.st_nlink, path.read_bytes() if path.is_file() else b"")
        return found

    def add(self, packed: Layer, *, limit: int = LIMIT) -> Path:
        target = self.top / f"layer{len(self.lowers)}"
        target.mkdir()
        try:
            unpack(io.BytesIO(packed.blob.read()), target, self.lowers[::-1], packed.diff_id, Quota(limit, limit))
        finally:
            assert self.picture() == self.before
            assert {each.name for each in self.top.iterdir()} == {"outside", *(f"layer{each}" for each in range(len(self.lowers) + 1))}
        self.lowers.append(target)
        return target

    def members(self, *members: Member) -> Path:
        return self.add(layer(members))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    old = os.umask(0o027)  # which must not show in what is unpacked
    try:
        yield Box(tmp_path)
    finally:
        os.umask(old)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# -- what is kept -----------------------------------------------------------------------------------------------------------------------


def test_owners_modes_times_and_links_are_kept(box: Box) -> None:
    long = "/".join(["d" * 90] * 3) + "/" + "n" * 200
    capability = struct.pack("<IIIII", 0x02000000 | 1, 1 << 10, 0, 0, 0).decode("utf-8", "surrogateescape")
    root = box.members(
        folder("a", 0o1777, uid=5, gid=6),
        file("a/f", "text", 0o4755, uid=70_000, gid=3),
        hard_link("a/h", "a/f"),
        link("a/s", "/etc/passwd"),
        file(long, "long"),
        file("cap", "x", 0o755, xattrs={"security.capability": capability, "trusted.overlay.redirect": "/", "user.a": "b"}),
        folder("later/x", 0o700),
    )
    status = (root / "a/f").stat()
    assert (mode(root / "a"), (root / "a").stat().st_uid, (root / "a").stat().st_gid) == (0o1777, 5, 6)
    assert (mode(root / "a/f"), status.st_uid, status.st_gid, status.st_mtime) == (0o4755, 70_000, 3, 1_700_000_000)
    assert (root / "a").stat().st_mtime == 1_700_000_000
    assert (root / "a/h").stat().st_ino == status.st_ino
    assert (root / "a/s").readlink() == Path("/etc/passwd")
    assert (root / "a/s").lstat().st_mtime == 1_700_000_000
    assert (root / long).read_text() == "long"
    assert os.getxattr(root / "cap", "security.capability") == capability.encode("utf-8", "surrogateescape")
    assert "trusted.overlay.redirect" not in os.listxattr(root / "cap")
    assert (mode(root / "later"), mode(root / "later/x")) == (0o755, 0o700)


def test_gnu_names_and_old_headers(box: Box) -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            member, content = file(("g" * 80 + "/") * (3 if form == tarfile.GNU_FORMAT else 1) + "f", "x")
            tar.addfile(member, io.BytesIO(content))
        root = box.add(pack(out.getvalue()))
        assert (root / member.name).read_text() == "x"


def test_names_from_the_root_and_with_dots_are_names_in_the_layer(box: Box) -> None:
    root = box.members(file("/etc/x", "1"), file("./etc/y", "2"), file("etc//./z", "3"))
    assert {each.name for each in (root / "etc").iterdir()} == {"x", "y", "z"}


def test_a_name_that_comes_twice_is_the_last_one(box: Box) -> None:
    root = box.members(
        file("a", "old"), file("a", "new"), folder("b"), file("b/x"), file("b", "now a file"), link("c", "a"), file("c", "own")
    )
    assert (root / "a").read_text() == "new"
    assert (root / "b").read_text() == "now a file"
    assert (root / "c").read_text() == "own"
    assert not (root / "c").is_symlink()


def test_odd_names_are_kept_as_bytes(box: Box) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as tar:
        tar.addfile(file("f\udcff")[0])
    root = box.add(pack(out.getvalue()))
    assert [os.fsencode(each.name) for each in root.iterdir()] == [b"f\xff"]


@pytest.mark.parametrize("compression", Compression)
def test_every_packing(box: Box, compression: Compression) -> None:
    assert (box.add(layer([file("a", "b" * 1000)], compression)) / "a").stat().st_size == 1000


def test_an_empty_layer(box: Box) -> None:
    assert list(box.members().iterdir()) == []


# -- what the layers below matter for ---------------------------------------------------------------------------------------------------


def test_whiteouts_become_the_kernels(box: Box) -> None:
    box.members(file("gone"), file("kept"), folder("d"), file("d/x"))
    root = box.members(file(".wh.gone"), folder("d"), file("d/.wh..wh..opq"), file("d/new"), file(".wh..wh.plnk"))
    status = (root / "gone").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
    assert sorted(each.name for each in root.iterdir()) == ["d", "gone"]
    assert [each.name for each in (root / "d").iterdir()] == ["new"]


def test_a_whiteout_does_not_hide_what_its_own_layer_has(box: Box) -> None:
    box.members(file("f", "old"), folder("d"), file("d/x"))
    root = box.members(file("f", "new"), file(".wh.f"), folder("d"), file("d/y"), file(".wh.d"), file(".wh.e"), folder("e"))
    assert (root / "f").read_text() == "new"
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(root / "e", "trusted.overlay.opaque") == b"y"


def test_whiteouts_in_the_lowest_layer_hide_nothing(box: Box) -> None:
    assert list(box.members(file(".wh.a"), file(".wh..wh..opq")).iterdir()) == []


def test_a_folder_only_implied_is_the_one_below(box: Box) -> None:
    box.members(
        folder(".", 0o711), folder("tmp", 0o1777, uid=9), folder("hidden", 0o700), folder("opaque", 0o700), folder("opaque/in", 0o700)
    )
    box.members(file(".wh.hidden"), folder("opaque", 0o750), file("opaque/.wh..wh..opq"))
    root = box.members(file("tmp/f"), file("hidden/f"), file("opaque/in/f"))
    assert (mode(root), mode(root / "tmp"), (root / "tmp").stat().st_uid) == (0o711, 0o1777, 9)
    assert mode(root / "hidden") == 0o755
    assert (mode(root / "opaque"), mode(root / "opaque/in")) == (0o750, 0o755)


def test_a_link_below_leads_on(box: Box) -> None:
    box.members(folder("usr/lib"), link("lib", "usr/lib"))
    root = box.members(file("lib/x", "x"))
    assert (root / "usr/lib/x").read_text() == "x"
    assert not (root / "lib").exists()


def test_a_hard_link_to_a_file_below_copies_it_up(box: Box) -> None:
    box.members(folder("a"), file("a/f", "below", 0o4711, uid=3))
    root = box.members(hard_link("b", "a/f"))
    assert (root / "b").read_text() == "below"
    assert (root / "a/f").stat().st_ino == (root / "b").stat().st_ino
    assert (mode(root / "b"), (root / "b").stat().st_uid) == (0o4711, 3)


def test_a_hard_link_to_what_was_hidden_is_refused(box: Box) -> None:
    box.members(file("f"))
    box.members(file(".wh.f"))
    with pytest.raises(LayerRefused, match="not in the image"):
        box.members(hard_link("b", "f"))


def test_the_kernel_sees_what_the_image_means(box: Box) -> None:
    """The layers in a real overlay, in a mount namespace of its own."""
    box.members(folder("tmp", 0o1777), file("gone"), folder("d"), file("d/old"), file("swap"), folder("tree"), file("tree/x"))
    box.members(file(".wh.gone"), folder("d"), file("d/.wh..wh..opq"), file("d/new"), file(".wh.tree"))
    box.members(file("tmp/f"), file(".wh.swap"), folder("swap"), file("swap/in"), file("tree/y"), hard_link("d/link", "d/new"))
    lowers = ":".join(str(each) for each in box.lowers[::-1])
    script = 'mount -t overlay overlay -o "lowerdir=$1" "$2" && cd "$2" && find . | sort && stat -c %a tmp'
    merged = box.outside
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", lowers, str(merged)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        ".", "./d", "./d/link", "./d/new", "./swap", "./swap/in", "./tmp", "./tmp/f", "./tree", "./tree/y", "1777",
    ]  # fmt: skip


# -- attacks ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../outside/x", "a/../../outside/x", "..", "a/..", "/../outside/x", "./../outside/x"])
@pytest.mark.parametrize("make", [file, folder])
def test_climbing_out_by_name(box: Box, name: str, make: object) -> None:
    assert callable(make)
    with pytest.raises(LayerRefused, match="climbs out"):
        box.members(make(name))


@pytest.mark.parametrize("target", ["../outside", "../../outside", "a/../../outside", "/../../outside"])
def test_climbing_out_through_a_link(box: Box, target: str) -> None:
    with pytest.raises(LayerRefused, match="climbs out"):
        box.members(folder("a"), link("l", target), file("l/x"))


def test_a_link_from_the_root_leads_within_the_layer(box: Box) -> None:
    root = box.members(link("l", str(box.outside)), file("l/secret", "other"))
    assert (root / str(box.outside).lstrip("/") / "secret").read_text() == "other"


def test_a_link_planted_for_a_file_is_replaced_not_followed(box: Box) -> None:
    root = box.members(link("l", str(box.outside / "secret")), file("l", "other"))
    assert (root / "l").read_text() == "other"


def test_a_link_planted_in_a_lower_layer_does_not_redirect(box: Box) -> None:
    box.members(link("l", "../outside"))
    with pytest.raises(LayerRefused, match="climbs out"):
        box.members(file("l/x"))


def test_a_link_where_a_folder_was(box: Box) -> None:
    root = box.members(folder("d"), file("d/a"), link("d", str(box.outside)), folder("d"), file("d/b"))
    assert [each.name for each in (root / "d").iterdir()] == ["b"]


def test_links_in_a_circle(box: Box) -> None:
    with pytest.raises(LayerRefused, match="circle"):
        box.members(link("a", "b"), link("b", "a"), file("a/x"))


@pytest.mark.parametrize("target", ["../outside/secret", "/../outside/secret", "a/../../outside/secret"])
def test_a_hard_link_out(box: Box, target: str) -> None:
    with pytest.raises(LayerRefused, match="climbs out"):
        box.members(hard_link("h", target))


def test_a_hard_link_through_a_link_out(box: Box) -> None:
    with pytest.raises(LayerRefused, match="climbs out"):
        box.members(link("l", "../outside"), hard_link("h", "l/secret"))


def test_a_hard_link_to_an_absolute_name_is_within_the_layer(box: Box) -> None:
    with pytest.raises(LayerRefused, match="not in the image"):
        box.members(hard_link("h", str(box.outside / "secret")))


def test_a_hard_link_to_a_link_shares_the_link(box: Box) -> None:
    root = box.members(link("l", str(box.outside / "secret")), hard_link("h", "l"), file("h", "other"))
    assert (root / "l").is_symlink()
    assert (root / "h").read_text() == "other"


@pytest.mark.parametrize(("name", "target"), [("a", "a"), ("a", "."), ("d/a", "d"), ("d", "d/f"), ("x", "missing")])
def test_hard_links_that_make_no_sense(box: Box, name: str, target: str) -> None:
    with pytest.raises(LayerRefused, match="hard link"):
        box.members(folder("d"), file("d/f"), hard_link(name, target))


@pytest.mark.parametrize("name", [".wh..", ".wh...", ".wh.", "d/.wh..", "d/.wh..."])
def test_whiteouts_of_what_is_no_name(box: Box, name: str) -> None:
    box.members(folder("d"))
    with pytest.raises(LayerRefused):
        box.members(file(name))


@pytest.mark.parametrize(
    "member", [device("disk", 8, 0, is_block=True), device("mem", 1, 1), device("dev/null", 1, 1), device("x/null", 1, 3)]
)
def test_device_nodes(box: Box, member: Member) -> None:
    with pytest.raises(LayerRefused, match="device node"):
        box.members(member)


def test_the_devices_of_old_images_are_left_out_and_a_whiteout_may_be_a_device(box: Box) -> None:
    box.members(file("gone"))
    root = box.members(folder("dev"), device("dev/null", 1, 3), device("gone", 0, 0))
    assert list((root / "dev").iterdir()) == []
    assert (root / "gone").lstat().st_rdev == 0


def test_something_below_a_file(box: Box) -> None:
    with pytest.raises(LayerRefused, match="no folder"):
        box.members(file("f"), file("f/x"))


def test_a_name_no_file_system_takes(box: Box) -> None:
    with pytest.raises(LayerRefused, match="cannot be made: File name too long"):
        box.members(file("n" * 300))


def test_a_full_disk_is_not_the_layers_fault(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        box.members(file("f", "x"))


def test_the_root_as_a_file(box: Box) -> None:
    for member in (file("."), link("/", "x"), hard_link("./", "f")):
        with pytest.raises(LayerRefused):
            Box.members(fresh(box), file("f"), member)


def fresh(box: Box) -> Box:
    top = box.top / f"outside/../../box{os.urandom(4).hex()}"
    top.mkdir()
    return Box(top)


def test_a_bomb_is_stopped_at_the_quota(box: Box) -> None:
    packed = layer([file("zeros", bytes(1 << 20)), file("more", bytes(1 << 20))])
    assert packed.blob.size < 10_000
    with pytest.raises(LayerRefused, match="maxImageBytes"):
        box.add(packed, limit=1 << 20)


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_bomb_behind_the_end_of_the_tar_is_stopped(box: Box, compression: Compression) -> None:
    with pytest.raises(LayerRefused, match="maxImageBytes"):
        box.add(pack(tar_of([file("a")]) + bytes(8 << 20), compression), limit=1 << 20)


def test_a_sparse_bomb_counts_as_what_it_becomes(box: Box) -> None:
    member = tarfile.TarInfo("holes")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40), "GNU.sparse.name": "holes"}
    content = b"1\n0\n1\n".ljust(512, b"\0") + b"x".ljust(512, b"\0")
    member.size = len(content)
    with pytest.raises(LayerRefused, match="maxImageBytes"):
        box.add(pack(tar_of([(member, content)])))


def test_a_file_that_claims_more_than_there_is(box: Box) -> None:
    member, _ = file("f")
    member.size = 1 << 40
    with pytest.raises(LayerRefused, match="maxImageBytes"):
        box.add(pack(member.tobuf() + bytes(1024)))
    member.size = 4096
    with pytest.raises(LayerRefused, match=r"damaged|ends within"):
        Box.add(fresh(box), pack(member.tobuf() + bytes(1024)))


def test_too_many_files(box: Box) -> None:
    packed = layer([file(str(number)) for number in range(20)])
    target = box.top / "many"
    target.mkdir()
    with pytest.raises(LayerRefused, match="files"):
        unpack(io.BytesIO(packed.blob.read()), target, [], packed.diff_id, Quota(LIMIT, LIMIT, files_left=10))


def test_a_header_that_would_fill_the_memory(box: Box) -> None:
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 1 << 33
    with pytest.raises(LayerRefused, match="1 MiB"):
        box.add(pack(member.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 12)))


def test_a_size_below_zero(box: Box) -> None:
    header = bytearray(file("f")[0].tobuf())
    header[124:136] = b"\xff" * 11 + b"\x00"  # -256 in GNU's base 256
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(LayerRefused):
        box.add(pack(bytes(header) + bytes(2048)))


def test_a_damaged_header_is_no_end(box: Box) -> None:
    tar = bytearray(tar_of([file("a"), file("b")]))
    tar[512] ^= 1
    with pytest.raises(LayerRefused, match="damaged"):
        box.add(pack(bytes(tar)))


def test_content_with_another_digest(box: Box) -> None:
    packed = layer([file("a")])
    with pytest.raises(LayerRefused, match="has the digest"):
        box.add(Layer(packed.blob, digest_of(b"other")))


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
@pytest.mark.parametrize("keep", [0, 3, 10, 60, -1])
def test_a_layer_cut_off(box: Box, compression: Compression, keep: int) -> None:
    packed = layer([file("a", os.urandom(3000))], compression)
    cut = pack(packed.blob.read()[:keep], Compression.NONE)
    with pytest.raises(LayerRefused):
        box.add(Layer(cut.blob, packed.diff_id))


def test_rubbish_behind_a_gzip(box: Box) -> None:
    tar = tar_of([file("a")])
    with pytest.raises(LayerRefused):
        box.add(Layer(pack(gzip.compress(tar) + b"rubbish", Compression.NONE).blob, digest_of(tar)))


# -- any layer --------------------------------------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh..", "c"]), min_size=1, max_size=4).map("/".join)
MEMBERS = st.one_of(
    st.builds(file, NAMES, st.sampled_from(["", "x"]), st.sampled_from([0o644, 0o6777, 0])),
    st.builds(folder, NAMES, st.sampled_from([0o755, 0])),
    st.builds(link, NAMES, NAMES | st.sampled_from(["/", "../outside", "/../outside"])),
    st.builds(hard_link, NAMES, NAMES),
    st.builds(device, NAMES, st.just(0), st.sampled_from([0, 1])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.lists(st.lists(MEMBERS, max_size=6), min_size=1, max_size=3))
def test_nothing_outside_is_ever_touched(box: Box, layers: Sequence[Sequence[Member]]) -> None:
    """Any entries in any order over any layers: they are unpacked or refused, and what lies beside the layer stays as it was."""
    one = fresh(box)
    for members in layers:
        try:
            one.members(*members)
        except LayerRefused:
            return


@given(st.text(alphabet="a./", max_size=12))
def test_parts_have_no_way_up(name: str) -> None:
    try:
        parts = parts_of(name)
    except LayerRefused:
        assert ".." in name.split("/")
    else:
        assert not set(parts) & {"", ".", ".."}


def test_chains() -> None:
    first, second = digest_of(b"1"), digest_of(b"2")
    assert chain_of([]) == []
    assert chain_of([first, second]) == [first, digest_of(f"{first} {second}".encode())]
