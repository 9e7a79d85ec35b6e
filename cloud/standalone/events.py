"""Events in their two shapes: core/v1 (stored) and events.k8s.io/v1 are views of the same objects (Kubernetes API, Event)."""

from __future__ import annotations

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.state import Object

_RENAMED = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {new: old for old, new in _RENAMED.items()}


def as_new_event(obj: Object, kind: Kind) -> Object:
    """A stored event in the version of `kind`."""
    if kind.group != "events.k8s.io":
        return as_core_event(obj)
    renamed = {_RENAMED.get(key, key): value for key, value in obj.items()} | {"apiVersion": "events.k8s.io/v1"}
    return {key: value for key, value in renamed.items() if value != "" or key not in {"reportingController", "reportingInstance"}}


def as_core_event(obj: Object) -> Object:
    """An event as it is stored."""
    if obj.get("apiVersion") != "events.k8s.io/v1":
        return obj
    return {_BACK.get(key, key): value for key, value in obj.items()} | {"apiVersion": "v1"}
