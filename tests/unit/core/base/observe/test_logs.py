"""Logs: one JSON object a line when asked, and a clear refusal of a wrong level."""

from __future__ import annotations

import logging

import orjson
import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.observe.logs import JsonLines, configure


def test_json_lines_carry_the_traceback() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "event key=%s", ("v",), __import__("sys").exc_info())
    entry = orjson.loads(JsonLines().format(record))
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "x", "event key=v")
    assert "ValueError: boom" in entry["exception"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="loud"):
        configure("loud")
