# cython: annotation_typing=False
"""Reference build of `pinnace.ext.metacache`; `metacache_c.pxd` gives it C types."""

from __future__ import annotations

from collections.abc import Mapping

_ENTRY_BYTES = 250
"""What an object costs beside its body, name, version and labels: its record, its place in the index, the heads of its three texts."""
_LABEL_BYTES = 40
"""What a label's name or value costs. Names are mostly shared by many objects, values are not."""

_Listing = list[tuple[str, str, str, bytes | None]]
_Names = list[str]


class _Entry:
    """One object, and its place in the ring of bodies (newest first); both neighbours are None while it has no body."""

    __slots__ = ("body", "labels", "name", "newer", "older", "version")

    body: bytes | None
    labels: tuple[str, ...]
    name: str
    newer: _Entry
    older: _Entry
    version: str


def _new_entry(name: str) -> _Entry:
    entry = _Entry.__new__(_Entry)
    entry.name = name
    entry.version = ""
    entry.body = None
    entry.labels = ()
    return entry


class _Space:
    """The objects of one kind in one namespace; `order` holds them sorted by name, None when it has to be made again."""

    __slots__ = ("entries", "order")

    entries: dict[str, _Entry]
    order: list[_Entry] | None

    def __init__(self) -> None:
        self.entries = {}
        self.order = None


def _in_order(space: _Space) -> list[_Entry]:
    """The entries of a namespace by name."""
    order = space.order
    if order is None:
        entries = space.entries
        order = [entries[name] for name in sorted(entries)]
        space.order = order
    return order


def _flat(labels: dict[str, str]) -> tuple[str, ...]:
    """(key, value, key, value, ...): a third of what a dict takes."""
    found = []
    for key, value in labels.items():
        found.append(key)
        found.append(value)
    return tuple(found)


def _is_flat(flat: tuple[str, ...], labels: dict[str, str]) -> bool:
    """Whether `flat` already is what `_flat` would make: labels seldom change."""
    size = len(flat)
    if 2 * len(labels) != size:
        return False
    at = 0
    for key, value in labels.items():
        if flat[at] != key or flat[at + 1] != value:
            return False
        at += 2
    return True


def _has_all(labels: tuple[str, ...], wanted: list[tuple[str, str]]) -> bool:
    """Whether `labels` (key, value, key, value, ...) has every wanted pair."""
    for key, value in wanted:
        at = 0
        size = len(labels)
        while at < size:
            if labels[at] == key:
                break
            at += 2
        if at >= size or labels[at + 1] != value:
            return False
    return True


def _weight(entry: _Entry) -> int:
    """What version and labels add to an object's cost."""
    return len(entry.version) + _LABEL_BYTES * len(entry.labels)


class MetaCache:
    """Objects by (kind, namespace, name): version and labels of all of them, and the bodies that fit into `max_bytes`. A key may be any
    tuple, a named one too.

    `get` and `list` give body None for an object whose body had to go; its version is still the true one, and the store has the bytes.
    One thread's own.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes_used = 0
        self.evicted = 0
        self._size = 0
        self._kinds: dict[str, dict[str, _Space]] = {}
        self._ring = _new_entry("")
        self._ring.newer = self._ring.older = self._ring

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: tuple[str, str, str]) -> bool:
        return self._find(key) is not None

    def _find(self, key: tuple[str, str, str]) -> _Entry | None:
        kind, namespace, name = key
        spaces = self._kinds.get(kind)
        if spaces is None:
            return None
        space = spaces.get(namespace)
        if space is None:
            return None
        return space.entries.get(name)

    def _space(self, kind: str, namespace: str) -> _Space:
        """The place for objects of a kind in a namespace, made when there is none."""
        spaces = self._kinds.get(kind)
        if spaces is None:
            spaces = self._kinds[kind] = {}
        space = spaces.get(namespace)
        if space is None:
            space = spaces[namespace] = _Space()
        return space

    def _unlink(self, entry: _Entry) -> None:
        entry.newer.older = entry.older
        entry.older.newer = entry.newer
        entry.newer = entry.older = None  # type: ignore[assignment]  # an entry that went is freed at once, without the collector

    def _link(self, entry: _Entry) -> None:
        ring = self._ring
        newest = ring.older
        entry.newer = ring
        entry.older = newest
        newest.newer = entry
        ring.older = entry

    def _take_body(self, entry: _Entry) -> None:
        if entry.body is not None:
            self.bytes_used -= len(entry.body)
            entry.body = None
            self._unlink(entry)
        else:
            self.evicted -= 1

    def _give_body(self, entry: _Entry, body: bytes) -> None:
        entry.body = body
        self.bytes_used += len(body)
        self._link(entry)
        self._shrink()

    def _shrink(self) -> None:
        ring = self._ring
        while self.bytes_used > self.max_bytes:
            oldest = ring.newer
            if oldest is ring:
                break
            self._take_body(oldest)
            self.evicted += 1

    def put(self, key: tuple[str, str, str], version: str, body: bytes, labels: dict[str, str] | None = None) -> None:
        """Add or replace an object. The bodies used longest ago go when the bound is passed; this one too when it alone is over it."""
        kind, namespace, name = key
        space = self._space(kind, namespace)
        entry = space.entries.get(name)
        if entry is None:
            entry = _new_entry(name)
            space.entries[name] = entry
            space.order = None
            self._size += 1
            self.bytes_used += _ENTRY_BYTES + len(name)
        else:
            self._take_body(entry)
            self.bytes_used -= _weight(entry)
        entry.version = version
        if not labels:
            entry.labels = ()
        elif not _is_flat(entry.labels, labels):
            entry.labels = _flat(labels)
        self.bytes_used += _weight(entry)
        self._give_body(entry, body)

    def restore(self, key: tuple[str, str, str], version: str, body: bytes) -> bool:
        """Give back a body that had to go. False, and nothing happens, when the object changed or went meanwhile."""
        entry = self._find(key)
        if entry is None or entry.version != version:
            return False
        self._take_body(entry)
        self._give_body(entry, body)
        return True

    def get(self, key: tuple[str, str, str]) -> tuple[str, bytes | None] | None:
        """(version, body) of an object, None when there is none."""
        entry = self._find(key)
        if entry is None:
            return None
        if entry.body is not None and entry.newer is not self._ring:
            self._unlink(entry)
            self._link(entry)
        return entry.version, entry.body

    def delete(self, key: tuple[str, str, str]) -> bool:
        """Forget an object; False when there was none."""
        entry = self._find(key)
        if entry is None:
            return False
        kind, namespace, name = key
        self._take_body(entry)
        self.bytes_used -= _weight(entry) + _ENTRY_BYTES + len(name)
        self._size -= 1
        spaces = self._kinds[kind]
        space = spaces[namespace]
        del space.entries[name]
        space.order = None
        if not space.entries:
            del spaces[namespace]
            if not spaces:
                del self._kinds[kind]
        return True

    def list(self, kind: str, namespace: str = "") -> _Listing:
        """(namespace, name, version, body) of every object of a kind, in key order. Namespace "" means all of them."""
        return self.list_by_label(kind, namespace, {})

    def list_by_label(self, kind: str, namespace: str, selector: Mapping[str, str]) -> _Listing:
        """The same of those objects that have every label of `selector`."""
        found: _Listing = []
        spaces = self._kinds.get(kind)
        if spaces is None:
            return found
        wanted = [*selector.items()]
        for name in [namespace] if namespace else sorted(spaces):
            space = spaces.get(name)
            if space is None:
                continue
            for entry in _in_order(space):
                if not wanted or _has_all(entry.labels, wanted):
                    found.append((name, entry.name, entry.version, entry.body))
        return found

    def kinds(self) -> _Names:
        """The kinds there are objects of, sorted."""
        return sorted(self._kinds)

    def clear(self) -> None:
        """Forget everything."""
        ring = self._ring
        while ring.newer is not ring:
            self._unlink(ring.newer)
        self._kinds = {}
        self.bytes_used = 0
        self.evicted = 0
        self._size = 0
