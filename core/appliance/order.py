"""Which of two versions is the older: the order of PEP 440, with its pre-, post-, dev and local releases."""

from __future__ import annotations

import math
import re
from typing import Any, Final

_FORM: Final = r"""
    v? (?:(?P<epoch>\d+)!)? (?P<numbers>\d+(?:\.\d+)*)
    (?:[-_.]?(?P<stage>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre>\d*))?
    (?:-(?P<implicit>\d+) | [-_.]?(?P<is_post>post|rev|r)[-_.]?(?P<post>\d*))?
    (?:[-_.]?(?P<is_dev>dev)[-_.]?(?P<dev>\d*))?
    (?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?
"""
_STAGES: Final = {"a": 0, "b": 1, "c": 2, "r": 2, "p": 2}
_RELEASED: Final = 3


def is_older(version: str, than: str) -> bool:
    """What is no version by PEP 440 is older than all that are."""
    return _key(version) < _key(than)


def _key(version: str) -> tuple[Any, ...]:
    found = re.fullmatch(_FORM, version.strip().lower(), re.VERBOSE | re.ASCII)
    if found is None:
        return ()
    numbers = [int(each) for each in found["numbers"].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    is_post = bool(found["is_post"] or found["implicit"])
    if found["stage"]:
        stage = _STAGES[found["stage"][0]], int(found["pre"] or 0)
    else:
        stage = (-1 if found["is_dev"] and not is_post else _RELEASED), 0  # 1.0.dev1 comes before 1.0a1
    post = int(found["implicit"] or found["post"] or 0) if is_post else -1
    dev = int(found["dev"] or 0) if found["is_dev"] else math.inf
    local = tuple((1, int(each), "") if each.isdigit() else (0, 0, each) for each in re.split("[-_.]", found["local"] or "") if each)
    return int(found["epoch"] or 0), numbers, stage, post, dev, local
