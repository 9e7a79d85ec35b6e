"""Rules of the whole suite: the compiled hot paths are the ones under test, and in CI nothing is skipped that needs proving."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)  # a machine under load is no failure
hypothesis.settings.load_profile("untimed")
IN_CI = os.environ.get("CI", "").lower() == "true"
MUST_RUN = {"mosquitto", "root", "kubectl", "containers"}


def pytest_sessionstart(session: pytest.Session) -> None:
    from pinnace.ext import _build, envelope

    if _build.PURE:
        return
    module = envelope.decode.__module__
    if not module.endswith("_c"):
        pytest.exit(f"the compiled envelope codec is not the one loaded but {module}: run `make dev`", returncode=3)


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays_mounted(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """What a test that failed half way left mounted in its folder would keep later runs from removing that."""
    yield
    below = f"{tmp_path_factory.getbasetemp()}/"
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for each in reversed([each for each in mounted if each.startswith(below)]):
        subprocess.run(["umount", "-l", each], check=False, capture_output=True)


DEFAULT_PLACES = tuple(map(Path, ("/run/pinnace/oci", "/run/pinnace/control.sock", "/var/lib/pinnace", "/var/log/pinnace")))


@pytest.fixture(scope="session", autouse=True)
def _default_places_stay_untouched() -> Generator[None, None, None]:
    """An edge under test has places of its own: as root the defaults are the machine's."""
    before = [each for each in DEFAULT_PLACES if each.exists()]
    yield
    appeared = [str(each) for each in DEFAULT_PLACES if each.exists() and each not in before]
    assert not appeared, f"a test started an edge in the default places, which left {', '.join(appeared)}: give it its own"


@pytest.fixture(scope="session", autouse=True)
def _dev_null_stays_as_it_was() -> Generator[None, None, None]:
    """A container that gets hold of the machine's own may change it for everybody."""
    before = Path("/dev/null").stat()
    yield
    after = Path("/dev/null").stat()
    said = f"a test left /dev/null with mode {stat.S_IMODE(after.st_mode):o} and owner {after.st_uid}:{after.st_gid}"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid), said


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") is None:
            continue
        item.add_marker(pytest.mark.timeout(600 if not os.environ.get("PINNACE_SOAK") else 7200), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        marks = MUST_RUN & {mark.name for mark in item.iter_markers()}
        if marks:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI although marked {', '.join(sorted(marks))}: {report.longrepr}"
    return report
