"""Which topics and topic filters a broker takes: one that is none of MQTT's would end the connection of whoever sends it."""

from __future__ import annotations

import re

MAX_BYTES = 65535
MAX_LEVELS = 200
"""mosquitto's bound; nobody's topic has more."""

_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def _sendable(text: str) -> bool:
    return bool(text) and _UNSENDABLE.search(text) is None and text.count("/") < MAX_LEVELS and len(text.encode()) <= MAX_BYTES


def is_topic(text: str) -> bool:
    """Can something be published there (MQTT 3.1.1, 1.5.3 and 4.7)?"""
    return _sendable(text) and "+" not in text and "#" not in text


def is_filter(text: str) -> bool:
    """Can it be subscribed (MQTT 3.1.1, 4.7.1): `+` a whole level, `#` the whole last level?"""
    levels = text.split("/")
    return _sendable(text) and all(
        level == "+" or (level == "#" and at == len(levels) - 1) or ("+" not in level and "#" not in level)
        for at, level in enumerate(levels)
    )
