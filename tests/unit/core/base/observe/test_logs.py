"""Logs: one JSON object a line when asked, and a clear refusal of a wrong level."""

from __future__ import annotations

import logging

import orjson
import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.observe.logs import JsonLines, TextLines, configure


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


def test_text_from_elsewhere_cannot_begin_a_line() -> None:
    record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "asked path=%s", ("/a\nERROR x lied\x1b[2J",), None)
    assert TextLines("%(name)s %(message)s").format(record) == "x asked path=/a\\nERROR x lied\\x1b[2J"
