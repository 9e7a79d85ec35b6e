"""Every test of a hot path runs on each of its builds: `_py`, and `_c` unless PINNACE_PURE=1 asks for the reference build alone."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from pinnace.ext import _build

BUILDS = ("py",) if _build.PURE else ("py", "c")


def _load(name: str, build: str) -> ModuleType:
    return importlib.import_module(f"pinnace.ext.{name}_{build}")


@pytest.fixture(scope="session", params=BUILDS)
def envelope(request: pytest.FixtureRequest) -> ModuleType:
    return _load("envelope", request.param)


@pytest.fixture(scope="session", params=BUILDS)
def frame(request: pytest.FixtureRequest) -> ModuleType:
    return _load("frame", request.param)


@pytest.fixture(scope="session", params=BUILDS)
def metacache(request: pytest.FixtureRequest) -> ModuleType:
    return _load("metacache", request.param)


@pytest.fixture(scope="session", params=BUILDS)
def twindiff(request: pytest.FixtureRequest) -> ModuleType:
    return _load("twindiff", request.param)
