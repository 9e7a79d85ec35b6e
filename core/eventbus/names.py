"""Which topics and topic filters a broker takes: one that is none of MQTT's would end the connection of whoever sends it."""

from __future__ import annotations

MAX_BYTES = 65535
MAX_LEVELS = 200
"""mosquitto's bound; nobody's topic has more."""


def _sendable(text: str) -> bool:
    allowed = text.isprintable() if text.isascii() else all(_is_allowed(ord(each)) for each in text)
    return bool(text) and allowed and text.count("/") < MAX_LEVELS and len(text.encode()) <= MAX_BYTES


def _is_allowed(code: int) -> bool:
    """Neither a control character nor a surrogate nor one of Unicode's non-characters."""
    control = code < 0x20 or 0x7F <= code <= 0x9F
    return not (control or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE)


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
