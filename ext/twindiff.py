"""A device's twins: what an update changes, and every payload that tells of it (docs/protocol.md, devices).

`DeviceTwins` holds all twins of one device. Its `apply_*` methods take one update each and give back an `Outcome`
(`pinnace.ext.records`): the JSON members to answer and publish, the rows to store and what to report to the cloud. Nothing is stored
here, no clock is read and no id is made; times are Unix milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pinnace.ext import _build

if TYPE_CHECKING or _build.PURE:
    from pinnace.ext.twindiff_py import MAX_TWINS, DeviceTwins, message, twin_members
else:
    from pinnace.ext.twindiff_c import MAX_TWINS, DeviceTwins, message, twin_members

__all__ = ["MAX_TWINS", "DeviceTwins", "message", "twin_members"]
