"""What the documents point at is there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.settings.edged import BuiltinRuntimeSettings, EdgedSettings, KubeletSettings, RegistrySettings
from pinnace.core.base.settings.loader import camel
from pinnace.core.stream.settings import EdgeStreamSettings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
CODE = [
    str(path.relative_to(ROOT))
    for top in ("core", "cloud", "ext", "mappers", "tests", "build", "packaging")
    for path in (ROOT / top).rglob("*.*")
]

READERS_OWN = {"door.py"}
"""Files that a reader makes while following a document."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_a_document_exist(document: Path) -> None:
    named = set(re.findall(r"`([\w./-]+\.(?:py|pxd|sql|sh|spec))`", document.read_text()))
    assert not {name for name in named - READERS_OWN if not any(path == name or path.endswith("/" + name) for path in CODE)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    assert not [each for each in targets if "://" not in each and not (document.parent / each).exists()]


def test_the_ways_of_a_message_and_of_a_pod_are_written_in_order() -> None:
    """Every step of a walk names a file, and the steps are numbered without a gap."""
    parts = (ROOT / "ARCHITECTURE.md").read_text().split("\n## ")
    walks = [re.findall(r"^\| (\d+) \| (.*?) \|", part, re.MULTILINE) for part in parts if part.partition("\n")[0].endswith("walked")]
    assert len(walks) == 2
    for rows in walks:
        assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
        assert all(".py`" in files for _, files in rows)


@pytest.mark.parametrize("section", [EdgedSettings, KubeletSettings, BuiltinRuntimeSettings, RegistrySettings, EdgeStreamSettings])
def test_every_key_for_pods_is_explained(section: Any) -> None:
    keys = {each.metadata.get("key") or camel(each.name) for each in dataclasses.fields(section)}
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs/pods.md").read_text()))
    assert keys <= named
