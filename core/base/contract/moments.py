"""Moments as Kubernetes writes them (RFC 3339, in UTC)."""

from __future__ import annotations

import time


def moment(unix: float) -> str:
    """Unix seconds as the API's Time, whole seconds: `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))
