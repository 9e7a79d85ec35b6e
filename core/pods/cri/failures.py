"""A runtime's errors in our words: what is gone, what timed out, what a person can do."""

from __future__ import annotations

import re
from typing import Final

from pinnace.core.base.runtime import NoSuchContainer, PullFailed, RuntimeFailed
from pinnace.core.pods.cri.grpc import DEADLINE_EXCEEDED, NOT_FOUND, UNAVAILABLE, CallFailed, Unreachable

_UNREACHABLE: Final = re.compile(
    r"dial (?:tcp|udp|unix)|no such host|lookup \S+ on|i/o timeout|connection (?:refused|reset|timed out)|network is unreachable"
    r"|no route to host|temporary failure in name resolution|server misbehaving|TLS handshake timeout|unexpected EOF|: EOF\b"
    r"|context deadline exceeded|client\.timeout|50[234] (?:bad gateway|service unavailable|gateway time-?out)",
    re.IGNORECASE,
)
"""What Go's network library says when no answer came from a registry; runtimes pass it on."""
_NOT_TRUSTED: Final = re.compile(r"x509:|certificate signed by|tls: ", re.IGNORECASE)
_TIMED_OUT: Final = re.compile(r"deadline exceeded|timed out|timeout \S* ?exceeded", re.IGNORECASE)
_MOST: Final = 1024


def failure(error: CallFailed | Unreachable, *, reason: str = "") -> RuntimeFailed:
    """What to raise for a failed call."""
    message = str(error)[:_MOST]
    if isinstance(error, Unreachable):
        return RuntimeFailed(f"the container runtime cannot be reached: {message}", reason=reason)
    if is_gone(error):
        return NoSuchContainer(message)
    if error.code == DEADLINE_EXCEEDED:
        return RuntimeFailed(f"the container runtime took too long: {message}; runtimeRequestTimeout sets how long it may", reason=reason)
    return RuntimeFailed(message, reason=reason)


def is_gone(error: CallFailed | Unreachable) -> bool:
    """Containers and sandboxes only; runtimes differ in whether they use the code."""
    if not isinstance(error, CallFailed):
        return False
    text = str(error)
    return error.code == NOT_FOUND or ("does not exist" in text and "container" in text) or "could not find container" in text


def is_timeout(error: CallFailed | Unreachable) -> bool:
    return isinstance(error, CallFailed) and (error.code == DEADLINE_EXCEEDED or _TIMED_OUT.search(str(error)) is not None)


def pull_failure(reference: str, error: CallFailed | Unreachable) -> PullFailed:
    """Whether the registry gave no answer is read from the text: CRI has no word for it."""
    message = str(error)[:_MOST]
    if isinstance(error, Unreachable):
        return PullFailed(f"{reference} cannot be pulled, the container runtime cannot be reached: {message}")
    if error.code == DEADLINE_EXCEEDED:
        told = f"the container runtime was not done with it ({message}); see whether the registry answers, and what the runtime's log says"
        return PullFailed(f"{reference} cannot be pulled: {told}", is_unreachable=True)
    is_unreachable = not _NOT_TRUSTED.search(message) and (error.code == UNAVAILABLE or _UNREACHABLE.search(message) is not None)
    return PullFailed(f"{reference} cannot be pulled: {message}", is_unreachable=is_unreachable)
