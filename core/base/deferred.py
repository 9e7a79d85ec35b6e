"""Modules that others import and this process hardly ever uses: they are there, and run when something of them is asked for.

`importlib.util.LazyLoader` does not serve: since Python 3.11 the statement `import x` looks at `x.__spec__`, which makes it load.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any, Final

RARE: Final = ("bz2", "importlib.metadata", "lzma", "urllib.request")
"""What libraries import and hardly ever use: shutil for archives, websockets for the version of an unreleased copy, paho and websockets for
proxies. With what they import in turn, such as email and http.client, they would be more than 1 MB of an edge."""

_WAITS: Final = "__pinnace_waits__"
_LOCK: Final = RLock()


class _Deferred(ModuleType):
    """Has what the import system sets, such as its path; whatever else is missed runs the module, once. Other threads wait for that."""

    def __getattr__(self, name: str) -> Any:
        with _LOCK:
            if self.__dict__.pop(_WAITS, False):
                spec = self.__spec__
                assert spec is not None
                assert spec.loader is not None
                spec.loader.exec_module(self)
                self.__class__ = ModuleType  # type: ignore[assignment]  # it is an ordinary one now
        return ModuleType.__getattribute__(self, name)


def defer(*names: str) -> None:
    """Have these modules run when they are first used and not when they are imported; those that ran already stay as they are."""
    for name in names:
        spec = find_spec(name) if name not in sys.modules else None
        if spec is None:
            continue
        module = module_from_spec(spec)
        module.__class__ = _Deferred
        module.__dict__[_WAITS] = True
        sys.modules[name] = module
        package, _, own = name.rpartition(".")
        if package:
            setattr(sys.modules[package], own, module)
