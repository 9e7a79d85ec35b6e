"""The exception tree. A class says which exit code it means and whether trying again can help.

PinnaceError
├── ConfigError         a file, flag or environment value is wrong                       exit 2
├── RefusedError        the other side said no (certificate, token, version, name)       exit 3
├── LinkError           the link is down or broke; trying again can help
│   └── ReplyTimeout    a request was sent and no answer came in time
├── StoreError          the local database cannot be read or written
│   ├── StoreDamaged    it failed its integrity check
│   └── StoreFull       no space, or a read-only file system
└── RemoteError         the other side answered with a Kubernetes Status
"""

from __future__ import annotations


class PinnaceError(Exception):
    """Root of everything Pinnace raises on purpose; the message tells the person what to do."""

    exit_code = 1
    retryable = False


class ConfigError(PinnaceError):
    exit_code = 2


class RefusedError(PinnaceError):
    exit_code = 3


class LinkError(PinnaceError):
    retryable = True


class ReplyTimeout(LinkError):
    """No answer came in time; the request may or may not have been carried out."""


class StoreError(PinnaceError):
    """The local database cannot be read or written."""


class StoreDamaged(StoreError):
    """The database failed its integrity check and was set aside."""


class StoreFull(StoreError):
    """The database cannot grow: no space left, or the file system is read-only."""

    retryable = True


class RemoteError(PinnaceError):
    """A Kubernetes Status of kind Failure; `reason` and `code` are the API's own words (Kubernetes API, meta/v1 Status)."""

    def __init__(self, message: str, *, reason: str = "", code: int = 500) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code
