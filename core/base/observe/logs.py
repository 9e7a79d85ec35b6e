"""Logging set-up: one line an event, to standard error, as text for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from pinnace.core.base.errors import ConfigError

_SHOWN: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n", 13: "\\r", 9: "\t"}


class TextLines(logging.Formatter):
    """One line an event, whatever text from elsewhere stands in it; only a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(_SHOWN)


class JsonLines(logging.Formatter):
    """One JSON object a line: ts (RFC 3339, UTC, milliseconds), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        import orjson

        entry = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry).decode()


def configure(level: str = "info", *, as_json: bool = False) -> None:
    """Send the log to standard error from `level` (debug, info, warning, error) upwards. Raises ConfigError for another word."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"--log-level: expected debug, info, warning or error, not '{level}'")
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines() if as_json else TextLines("%(asctime)s %(levelname).1s %(name)s %(message)s"))
    logging.basicConfig(level=number, handlers=[stream], force=True)
    logging.getLogger("asyncio").setLevel(max(number, logging.WARNING))
