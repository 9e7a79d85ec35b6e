"""A node's own word for what it has stored: after its database was lost or restored it is behind what it once confirmed. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from pinnace.core.base.contract.keys import NODE_NAME

BOUND: Final = 10_000
"""Objects that one node may name, and that are remembered of a node on its own word."""

_UID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


class Held(NamedTuple):
    """One object a node has; `kind` as the wire writes it."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: str


def parse_inventory(content: Any) -> dict[str, Held]:
    """The objects by uid. Raises ValueError for anything that is no list of objects."""
    if not isinstance(content, list) or len(content) > BOUND:
        raise ValueError(f"expected a list of at most {BOUND} objects")
    found = {}
    for each in content:
        values = [value for field in Held._fields if isinstance(value := each.get(field), str)] if isinstance(each, dict) else []
        if len(values) != len(Held._fields):
            raise ValueError("expected kind, namespace, name, uid and version of each object as texts")
        held = Held._make(values)
        if (
            not _UID.fullmatch(held.uid)
            or not NODE_NAME.fullmatch(held.name)
            or not (not held.namespace or NODE_NAME.fullmatch(held.namespace))
        ):
            raise ValueError(f"{held.uid!r} {held.namespace!r} {held.name!r}: not names of an object")
        found[held.uid] = held
    return found
