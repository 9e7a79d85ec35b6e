"""What a device said, and the patch that shows it in the Device. Pure.

A stored Device (v1beta1) keeps reported values in `status.twins`: `{propertyName, reported: {value, metadata: {type, timestamp,
edgeVersion}}, observedDesired?}`, all texts; timestamp is Unix milliseconds and edgeVersion counts the node's reports of the property.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pinnace.cloud.kube.resources import DEVICES
from pinnace.cloud.ports import Object

REFRESH_MS: Final = 60_000
"""A report of the value already shown renews the shown time only when that is this much older."""


@dataclass(frozen=True, slots=True)
class Report:
    """One property as its node reported it. `timestamp` 0 and `version` 0 stand for unknown."""

    value: str
    type: str = ""
    timestamp: int = 0
    version: int = 0
    observed: str | None = None
    """The desired value the device has acted on, when the report says so."""

    def supersedes(self, known: Report) -> bool:
        """Whether this was reported at the same time as `known` or later. A node whose store was lost counts versions from 1 again, and
        one whose clock was set back reports older times; only what is behind in both is a repetition of something old."""
        if self.version and known.version and self.version != known.version:
            return self.version > known.version or self.timestamp > known.timestamp
        return self.timestamp >= known.timestamp or not self.timestamp


@dataclass(frozen=True, slots=True)
class StateReport:
    """A device's state word and when it was last online (RFC 3339, "" when the node did not say)."""

    state: str
    last_online: str = ""
    timestamp: int = 0


def parse_reports(content: Any) -> dict[str, Report]:
    """The reported properties in a DeviceTwinResult; what says nothing reported is left out. Raises ValueError."""
    if not isinstance(content, dict) or not isinstance(content.get("twin"), dict):
        raise ValueError("no `twin` object in the report")  # noqa: TRY004 - of a value, not of an argument
    found = {}
    for name, twin in content["twin"].items():
        actual = twin.get("actual") if isinstance(twin, dict) else None
        if not isinstance(actual, dict) or not isinstance(actual.get("value"), str):
            continue
        expected = twin.get("expected")
        observed = expected.get("value") if isinstance(expected, dict) else None
        found[str(name)] = Report(
            value=actual["value"],
            type=str(_part(twin, "metadata").get("type") or ""),
            timestamp=_whole(_part(actual, "metadata").get("timestamp")),
            version=_whole(_part(twin, "actual_version").get("edge")),
            observed=observed if isinstance(observed, str) else None,
        )
    return found


def parse_state(content: Any) -> StateReport:
    """A state report. Raises ValueError."""
    device = content.get("device") if isinstance(content, dict) else None
    if not isinstance(device, dict) or not isinstance(device.get("state"), str):
        raise ValueError("no `device.state` in the report")  # noqa: TRY004
    online = device.get("lastOnlineTime")
    return StateReport(device["state"], online if isinstance(online, str) else "", _whole(content.get("timestamp")))


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = value.get(name)
    return part if isinstance(part, dict) else {}


def _whole(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def merge(newer: Mapping[str, Report], known: dict[str, Report]) -> set[str]:
    """Take what supersedes into `known`; the names taken."""
    taken = set()
    for name, report in newer.items():
        before = known.get(name)
        if before is None or report.supersedes(before):
            known[name] = replace(report, observed=before.observed) if before is not None and report.observed is None else report
            taken.add(name)
    return taken


def shown(device: Object) -> dict[str, Report]:
    """The reported values a Device or DeviceStatus shows."""
    found = {}
    for twin in (device.get("status") or {}).get("twins") or ():
        reported = twin.get("reported")
        if isinstance(reported, dict) and isinstance(reported.get("value"), str):
            metadata = _part(reported, "metadata")
            observed = _part(twin, "observedDesired").get("value")
            found[str(twin.get("propertyName"))] = Report(
                value=reported["value"],
                type=str(metadata.get("type") or ""),
                timestamp=_whole(metadata.get("timestamp")),
                version=_whole(metadata.get("edgeVersion")),
                observed=observed,
            )
    return found


def belongs_to(status: Object, device: Object) -> bool:
    """Whether a DeviceStatus is this Device's, not that of an earlier one of its name which is about to be collected."""
    owners = [each.get("uid") for each in status["metadata"].get("ownerReferences") or () if each.get("kind") == DEVICES.kind]
    return not owners or device["metadata"]["uid"] in owners


def known_properties(device: Object, model: Object | None) -> set[str]:
    """The properties whose reports are shown: those of the model, of spec.properties, and those already shown."""
    names = {each.get("name") for each in (device.get("spec") or {}).get("properties") or ()}
    names |= {each.get("name") for each in ((model or {}).get("spec") or {}).get("properties") or ()}
    names |= {each.get("propertyName") for each in (device.get("status") or {}).get("twins") or ()}
    return {name for name in names if isinstance(name, str)}


def overwritten(device: Object, known: Mapping[str, Report], allowed: Iterable[str]) -> set[str]:
    """The properties where a Device shows something else than what was reported last: somebody wrote the whole list."""
    now = shown(device)
    return {name for name in allowed if name in known and (name not in now or now[name].value != known[name].value)}


def patch_of(device: Object, reports: Mapping[str, Report], state: StateReport | None) -> list[Object]:
    """The JSON patch (RFC 6902) that shows reports and state in a Device, [] when it shows them already.

    Entries are replaced one by one, each guarded by a test of its name, so that nothing else in the Device is touched; what changes the
    list's shape is guarded by a test of the resource version. A failing test means: read again and make a new patch.
    """
    status = device.get("status")
    twins = (status or {}).get("twins")
    places = {twin.get("propertyName"): index for index, twin in enumerate(twins or ())}
    now = shown(device)
    operations: list[Object] = []
    added: list[Object] = []
    for name, report in reports.items():
        if not _is_news(report, now.get(name)):
            continue
        if name not in places:
            added.append(_entry(name, report))
            continue
        path = f"/status/twins/{places[name]}"
        operations.append({"op": "test", "path": f"{path}/propertyName", "value": name})
        operations.append({"op": "add", "path": f"{path}/reported", "value": _reported(report)})
        if report.observed is not None:
            operations.append({"op": "add", "path": f"{path}/observedDesired", "value": {"value": report.observed}})
    fields: Object = {}
    if state is not None:
        fields["state"] = state.state
        if state.last_online:
            fields["lastOnlineTime"] = state.last_online
        fields = {key: value for key, value in fields.items() if (status or {}).get(key) != value}
    if not added and not fields:
        return operations
    guard = {"op": "test", "path": "/metadata/resourceVersion", "value": device["metadata"].get("resourceVersion", "")}
    if not isinstance(status, dict):
        return [guard, {"op": "add", "path": "/status", "value": fields | ({"twins": added} if added else {})}]
    if added and not isinstance(twins, list):
        operations += [guard, {"op": "add", "path": "/status/twins", "value": added}]
    elif added:
        operations += [guard, *({"op": "add", "path": "/status/twins/-", "value": entry} for entry in added)]
    return operations + [{"op": "add", "path": f"/status/{key}", "value": value} for key, value in fields.items()]


def _is_news(report: Report, now: Report | None) -> bool:
    if now is None or now.value != report.value or (report.type and now.type != report.type):
        return True
    if report.observed is not None and now.observed != report.observed:
        return True
    return report.timestamp - now.timestamp >= REFRESH_MS


def _reported(report: Report) -> Object:
    metadata = {"type": report.type, "timestamp": str(report.timestamp or ""), "edgeVersion": str(report.version or "")}
    kept = {key: value for key, value in metadata.items() if value}
    return {"value": report.value} | ({"metadata": kept} if kept else {})


def _entry(name: str, report: Report) -> Object:
    entry: Object = {"propertyName": name, "reported": _reported(report)}
    if report.observed is not None:
        entry["observedDesired"] = {"value": report.observed}
    return entry
