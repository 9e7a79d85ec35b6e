"""The store's read side in memory: for each key its version, labels and, as long as they fit, the bytes of its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnace.ext import _build

if TYPE_CHECKING or _build.PURE:
    from pinnace.ext.metacache_py import MetaCache
else:
    from pinnace.ext.metacache_c import MetaCache

__all__ = ["MetaCache"]
