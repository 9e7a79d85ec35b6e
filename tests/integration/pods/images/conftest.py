"""A store of its own for each test, and one open registry for all of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from rig.registry import Registry

from pinnace.core.base.settings.edged import BuiltinRuntimeSettings, RegistrySettings
from pinnace.core.pods.images.store import BuiltinImages

StoreMaker = Callable[..., BuiltinImages]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
async def make_store(tmp_path: Path) -> AsyncIterator[StoreMaker]:
    """(*registries, max_image_bytes=…, name=…) → a store that is not started; closed at the end."""
    made: list[BuiltinImages] = []

    def make(*registries: RegistrySettings, max_image_bytes: int = 1 << 28, name: str = "node") -> BuiltinImages:
        folder = tmp_path / name
        settings = BuiltinRuntimeSettings(
            root_dir=folder, import_dir=folder / "import", registries=registries, max_image_bytes=max_image_bytes
        )
        made.append(BuiltinImages(settings))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
async def store(make_store: StoreMaker) -> BuiltinImages:
    found = make_store()
    await found.start()
    return found
