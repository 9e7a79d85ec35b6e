"""What is served right now: the built-in kinds and those that custom resource definitions add."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from pinnace.cloud.standalone.kinds import BUILT_IN, Kind


def _version_rank(version: str) -> tuple[int, int, int, str]:
    """v2, v1, v1beta2, v1beta1, v1alpha1, then anything else by name (Kubernetes API, version priority)."""
    stem = version[1:] if version.startswith("v") else ""
    for stage, word in ((0, ""), (1, "beta"), (2, "alpha")):
        major, found, minor = stem.partition(word) if word else (stem, "", "")
        if major.isdigit() and (minor.isdigit() if found else not minor and not word):
            return (stage, -int(major), -int(minor or 0), version)
    return (3, 0, 0, version)


class Registry:
    """Kinds by group, version and plural name. `revision` changes whenever what is served or its schema does."""

    def __init__(self, built_in: Iterable[Kind] = BUILT_IN) -> None:
        self._built_in = tuple(built_in)
        self._custom: dict[str, tuple[Kind, ...]] = {}
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self._rebuild()

    def _rebuild(self) -> None:
        kinds = {(kind.group, kind.version, kind.plural): kind for kind in self._built_in}
        for served in self._custom.values():
            kinds.update({(kind.group, kind.version, kind.plural): kind for kind in served})
        self._kinds = kinds
        named = sorted((repr(kind), repr(kind.definition)) for kind in kinds.values())
        self.revision = hashlib.sha256(repr(named).encode()).hexdigest()[:32]

    def get(self, group: str, version: str, plural: str) -> Kind | None:
        return self._kinds.get((group, version, plural))

    def kinds(self) -> Sequence[Kind]:
        return tuple(self._kinds.values())

    def stored(self) -> Sequence[Kind]:
        """One kind for each table, in the version in which clients should delete or look at its objects."""
        tables: dict[str, Kind] = {}
        for kind in self._kinds.values():
            if "get" in kind.verbs and not kind.is_measured:
                known = tables.get(kind.table)
                if known is None or kind.version == kind.storage_version:
                    tables[kind.table] = kind
        return tuple(tables.values())

    def by_table(self, table: str) -> Kind | None:
        return next((kind for kind in self.stored() if kind.table == table), None)

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """The kind an owner reference or an object's type names."""
        return next((each for each in self._kinds.values() if each.kind == kind and each.api_version == api_version), None)

    def set_custom(self, definition: str, served: Sequence[Kind]) -> None:
        """Serve these for the named definition, in place of what it had; none takes it away."""
        if served:
            self._custom[definition] = tuple(served)
        else:
            self._custom.pop(definition, None)
        self._rebuild()

    def groups(self) -> dict[str, list[str]]:
        """Named group → its versions, the preferred first; the core group is not among them."""
        groups: dict[str, list[str]] = {}
        for kind in self._kinds.values():
            if kind.group and kind.version not in groups.setdefault(kind.group, []):
                groups[kind.group].append(kind.version)
        return {group: sorted(versions, key=_version_rank) for group, versions in groups.items()}

    def in_version(self, group: str, version: str) -> list[Kind]:
        return sorted(
            (kind for kind in self._kinds.values() if (kind.group, kind.version) == (group, version)), key=lambda kind: kind.plural
        )

    def is_built_in_group(self, group: str) -> bool:
        return any(kind.group == group for kind in self._built_in)
