"""The index of images through power cuts: whatever files are left, what it lists is whole and each name has one image."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnace.core.base.files import write_whole
from pinnace.core.pods.images.index import Index, StoredImage, StoredLayer, image_from
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.records import ImageConfig

CONFIG = ImageConfig(env=(("A", "b"),), cmd=("c",), volumes=("/v",), user="1")


def made(number: int, *tags: str, is_pinned: bool = False) -> StoredImage:
    layers = (StoredLayer("base", 10, 1), StoredLayer(f"own{number}", number, 1))
    return StoredImage(f"sha256:{number:064x}", tags, (f"r/a@sha256:{number:064x}",), layers, (), CONFIG, is_pinned)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return prepared(tmp_path / "images")


def prepared(root: Path) -> Layout:
    layout = Layout(root)
    layout.ensure()
    for name in ("base", *(f"own{number}" for number in range(9))):
        layout.layer(name).mkdir(parents=True)
    return layout


def loaded(layout: Layout) -> Index:
    index = Index(layout)
    index.load()
    return index


def test_a_record_is_read_as_it_was_written() -> None:
    image = made(1, "r/a:1", is_pinned=True)
    assert image_from(orjson.loads(image.dumps())) == image


def test_images_and_names_are_there_again(layout: Layout) -> None:
    index = loaded(layout)
    for number in range(1, 4):
        index.put(made(number, f"r/a:{number}"))
    again = loaded(layout)
    assert again.images == index.images
    assert again.names == index.names
    assert again.names["r/a:2"] == made(2).id
    assert set(again.layers()) == {"base", "own1", "own2", "own3"}


def test_names_add_up_and_move(layout: Layout) -> None:
    index = loaded(layout)
    index.put(made(1, "r/a:1", is_pinned=True))
    index.put(made(1, "r/a:2"))
    assert index.images[made(1).id].tags == ("r/a:1", "r/a:2")
    assert index.images[made(1).id].is_pinned
    index.put(made(2, "r/a:1"))
    assert index.images[made(1).id].tags == ("r/a:2",)
    assert index.images[made(1).id].is_pinned
    index.put(made(2, "r/a:2"))
    assert index.images[made(1).id].tags == ()
    assert not index.images[made(1).id].is_pinned
    assert loaded(layout).images == index.images


def test_the_same_again_writes_nothing(layout: Layout) -> None:
    index = loaded(layout)
    index.put(made(1, "r/a:1"))
    before = {path: path.stat().st_mtime_ns for path in layout.index.iterdir()}
    index.put(made(1, "r/a:1"))
    assert {path: path.stat().st_mtime_ns for path in layout.index.iterdir()} == before


def test_a_removed_image_stays_away(layout: Layout) -> None:
    index = loaded(layout)
    index.put(made(1, "r/a:1"))
    index.remove(made(1).id)
    index.remove(made(1).id)
    assert index.names == {}
    assert loaded(layout).images == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b'{"id":"x"}', b"\0" * 100])
def test_a_damaged_record_is_set_aside(layout: Layout, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    index = loaded(layout)
    index.put(made(1, "r/a:1"))
    index.put(made(2, "r/a:2"))
    (layout.index / f"{1:064x}.json").write_bytes(content)
    again = loaded(layout)
    assert set(again.names) == {"r/a:2", "r/a@sha256:" + f"{2:064x}"}
    assert "images.record.damaged" in caplog.text
    assert (layout.index / f"{1:064x}.damaged").exists()


def test_an_image_whose_layer_is_gone_is_not_listed(layout: Layout) -> None:
    loaded(layout).put(made(1, "r/a:1"))
    shutil.rmtree(layout.layers / "own1")
    assert loaded(layout).images == {}


class PowerCut(BaseException):
    """The machine went down."""


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """[n]: the power goes before the n-th write from now; [] never."""
    left: list[int] = []

    def write(path: Path, content: bytes, *, is_durable: bool) -> None:
        if left:
            left[0] -= 1
            if left[0] < 0:
                path.with_name(f".{path.name}.1").write_bytes(content[: len(content) // 2])
                raise PowerCut
        write_whole(path, content, is_durable=is_durable)

    monkeypatch.setattr("pinnace.core.pods.images.index.write_whole", write)
    return left


PUTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.booleans()), min_size=1, max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(puts=PUTS, at=st.integers(0, 8))
def test_a_power_cut_at_any_write(
    tmp_path_factory: pytest.TempPathFactory, cut: list[int], puts: list[tuple[int, int, bool]], at: int
) -> None:
    """What was acknowledged before is there afterwards, a name has one image, and it is the acknowledged one or the one being put."""
    layout = prepared(tmp_path_factory.mktemp("cut"))
    index = loaded(layout)
    acknowledged: dict[str, str] = {}
    doing: tuple[str, str] | None = None
    cut[:] = [at]
    try:
        for number, tag, is_pinned in puts:
            doing = (f"r/a:{tag}", made(number).id)
            index.put(made(number, f"r/a:{tag}", is_pinned=is_pinned))
            acknowledged[doing[0]] = doing[1]
            doing = None
    except PowerCut:
        pass
    cut.clear()
    again = loaded(layout)
    for name, image_id in acknowledged.items():
        assert again.names[name] in {image_id, *([doing[1]] if doing and doing[0] == name else [])}
        assert name in again.images[again.names[name]].tags
    owners = [name for image in again.images.values() for name in image.tags]
    assert len(owners) == len(set(owners))
    again.put(made(5, "r/a:1"))
    assert loaded(layout).names["r/a:1"] == made(5).id
