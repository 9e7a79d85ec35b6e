"""Reports of devices up into the API: coalesced per device while a patch is under way, never an older value over a newer one, confirmed
to the node once the API has them."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field

import orjson

from pinnace.cloud.controllers.devices import DeviceController
from pinnace.cloud.controllers.reported import (
    Report,
    StateReport,
    belongs_to,
    known_properties,
    merge,
    overwritten,
    parse_reports,
    parse_state,
    patch_of,
    shown,
)
from pinnace.cloud.controllers.twins import confirmation
from pinnace.cloud.kube.resources import DEVICES
from pinnace.cloud.ports import KubeApi, NodeHub, Object
from pinnace.cloud.watch import Change, KeyWorkers, ObjectCache, is_newer
from pinnace.cloud.watch.cache import Identity
from pinnace.core.base.contract.envelopes import load_body
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import RemoteError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

_JSON_PATCH = "application/json-patch+json"
_ATTEMPTS = 5
UNCONFIRMED_BOUND = 10_000
"""Reports of one device that may wait for their confirmation; the oldest go unconfirmed and the node sends them again."""
UNKNOWN_BOUND = 1_000
"""Unknown properties that are each logged once; more of them are dropped without a word."""


@dataclass(slots=True)
class _Device:
    """What one device said last, what of it the API lacks, and who waits to hear that it has it."""

    known: dict[str, Report] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    in_flight: set[str] = field(default_factory=set)
    state: StateReport | None = None
    is_state_due: bool = False
    waiting: deque[tuple[NodeName, str]] = field(default_factory=lambda: deque(maxlen=UNCONFIRMED_BOUND))
    left: dict[str, Report] = field(default_factory=dict)
    """What it had said when it left its former node. The new node counts versions from 1 by a clock of its own: neither compares."""
    unsaid: set[str] = field(default_factory=set)
    """The properties of `left` of which the new node has said nothing yet."""
    latest: Object | None = None
    """The Device as the API answered our last patch; it may be newer than the cache."""


class ReportController:
    """Handles `twin/edge_updated` and `state/update`."""

    def __init__(self, api: KubeApi, hub: NodeHub, placement: DeviceController, *, devices: ObjectCache, statuses: ObjectCache) -> None:
        self._api = api
        self._hub = hub
        self._placement = placement
        self._cache = devices
        self._devices: dict[Identity, _Device] = {}
        self._unknown: set[tuple[Identity, str]] = set()
        self.workers: KeyWorkers[Identity] = KeyWorkers("device.report", self._write)
        placement.on_placement(self._moved)
        devices.on_change(self._device_changed)
        statuses.on_change(self._status_changed)

    async def handle(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        """Take a report. The confirmation follows when the API has it; a report nobody may make or understand gets none."""
        device = self._find(node, key)
        if device is None:
            return []
        identity = Identity(device["metadata"]["namespace"], device["metadata"]["name"])
        try:
            content = load_body(message)
            if key.kind == "state/update":
                self._take_state(identity, parse_state(content))
            else:
                self._take_twins(identity, device, parse_reports(content))
        except (ValueError, orjson.JSONDecodeError) as error:
            logger.warning("device.report-malformed node=%s device=%s/%s id=%s error=%s", node, *identity, message.msg_id, error)
            return []
        self._entry(identity).waiting.append((node, message.msg_id))
        self.workers.touch(identity)
        return []

    def _find(self, node: NodeName, key: ResourceKey) -> Object | None:
        """The device a report is about, if the node may report for it. A bare name (KubeEdge before 1.17) is looked for on the node."""
        if key.namespace:
            device = self._cache.get(key.namespace, key.name)
        else:
            named = [each for each in self._placement.devices_on(node) if each["metadata"]["name"] == key.name]
            device = next((each for each in named if each["metadata"]["namespace"] == "default"), named[0] if named else None)
        if device is None:
            logger.warning("device.report-unknown node=%s device=%s/%s: there is no such Device", node, key.namespace, key.name)
            return None
        where = self._placement.node_of(device["metadata"]["namespace"], device["metadata"]["name"])
        if where != node:
            logger.warning("device.report-refused node=%s device=%s/%s: it belongs to %s", node, *key[1:], where or "no node")
            return None
        return device

    def _take_twins(self, identity: Identity, device: Object, reports: dict[str, Report]) -> None:
        allowed = known_properties(self._current(identity) or device, self._placement.model(device))
        for name in reports.keys() - allowed:
            if (identity, name) not in self._unknown and len(self._unknown) < UNKNOWN_BOUND:
                self._unknown.add((identity, name))
                logger.warning(
                    "device.property-unknown device=%s/%s property=%s: neither its model nor its spec has it; its reports are not kept",
                    *identity, name,
                )  # fmt: skip
        entry = self._entry(identity)
        for name in entry.unsaid & reports.keys():
            entry.unsaid.discard(name)
            entry.known.pop(name, None)
        entry.due |= merge({name: report for name, report in reports.items() if name in allowed}, entry.known)

    def _take_state(self, identity: Identity, report: StateReport) -> None:
        entry = self._entry(identity)
        if entry.state is None or report.timestamp >= entry.state.timestamp or not report.timestamp:
            entry.state = report
            entry.is_state_due = True

    def _entry(self, identity: Identity) -> _Device:
        entry = self._devices.get(identity)
        if entry is None:
            entry = self._devices[identity] = _Device()
        return entry

    def _current(self, identity: Identity) -> Object | None:
        """The newest state of a device that is known here."""
        cached = self._cache.get(*identity)
        latest = self._entry(identity).latest
        if cached is None or latest is None or latest["metadata"]["uid"] != cached["metadata"]["uid"]:
            return cached
        return latest if is_newer(latest, cached) else cached

    async def _write(self, identity: Identity) -> None:
        """Bring the Device up to what was reported."""
        entry = self._entry(identity)
        due, state = entry.due, entry.state if entry.is_state_due else None
        waiting = list(entry.waiting)
        entry.in_flight, entry.due, entry.is_state_due = due, set(), False
        entry.waiting.clear()
        try:
            is_there = await self._patch(identity, entry, due, state)
        except BaseException:
            entry.due |= due
            entry.is_state_due = entry.is_state_due or state is not None
            entry.waiting.extendleft(reversed(waiting))
            raise
        finally:
            entry.in_flight = set()
        if not is_there:
            return
        for node, msg_id in waiting:
            self._hub.push(node, confirmation(msg_id))
        cached = self._cache.get(*identity)
        if cached is not None and cached is self._current(identity):  # somebody wrote after us
            self._repair(identity, cached)

    async def _patch(self, identity: Identity, entry: _Device, due: set[str], state: StateReport | None) -> bool:
        """Patch until the Device shows it; False when there is no such Device any more."""
        device = self._current(identity)
        for attempt in range(_ATTEMPTS):
            if device is None:
                return False
            patch = patch_of(device, {name: entry.known[name] for name in sorted(due) if name in entry.known}, state)
            if not patch:
                return True
            try:
                entry.latest = await self._api.patch(DEVICES, identity.name, patch, identity.namespace, content_type=_JSON_PATCH)
                return True
            except RemoteError as error:
                if error.code == 404:
                    return False
                if error.code not in {409, 422} or attempt + 1 == _ATTEMPTS:
                    raise
            device = entry.latest = await self._read(identity)
        return False

    async def _read(self, identity: Identity) -> Object | None:
        try:
            return await self._api.get(DEVICES, identity.name, identity.namespace)
        except RemoteError as error:
            if error.code == 404:
                return None
            raise

    def _device_changed(self, change: Change) -> None:
        """Learn what a device showed before we started, and put back what somebody overwrote with something older."""
        new = change.new
        is_another = change.old is not None and new is not None and change.old["metadata"].get("uid") != new["metadata"].get("uid")
        if new is None or is_another:
            self._devices.pop(change.key, None)
            self._unknown = {each for each in self._unknown if each[0] != change.key}
        if new is None:
            return
        entry = self._devices.get(change.key)
        if entry is None:
            entry = self._devices[change.key] = _Device()
        merge(_shown_by_its_node(entry, new), entry.known)
        if entry.latest is None or not is_newer(entry.latest, new):
            entry.latest = None
            self._repair(change.key, new)

    def _moved(self, key: Identity, before: NodeName | None, after: NodeName | None) -> None:
        """Its former node's reports are shown until the new one says something, whatever their times and versions."""
        if before is not None and after is not None:
            entry = self._entry(key)
            entry.left = entry.left | entry.known
            entry.unsaid = set(entry.known)

    def _status_changed(self, change: Change) -> None:
        """The mirror remembers reports too; it counts when this process does not know better."""
        device = self._cache.get(*change.key)
        if change.new is None or device is None or not belongs_to(change.new, device):
            return
        entry = self._entry(change.key)
        remembered = _shown_by_its_node(entry, change.new)
        if merge({name: each for name, each in remembered.items() if name not in entry.known}, entry.known):
            self._repair(change.key, device)

    def _repair(self, key: Identity, device: Object) -> None:
        entry = self._entry(key)
        lost = overwritten(device, entry.known, known_properties(device, self._placement.model(device)))
        if lost - entry.due - entry.in_flight:
            logger.info("device.reported-restored device=%s/%s properties=%s", *key, ",".join(sorted(lost)))
            entry.due |= lost
            self.workers.touch(key)


def _shown_by_its_node(entry: _Device, device: Object) -> dict[str, Report]:
    """The reports that a Device or DeviceStatus shows with their times, without those of a node it has left."""
    found = {name: report for name, report in shown(device).items() if report.timestamp}
    return {name: report for name, report in found.items() if name not in entry.left or not entry.left[name].supersedes(report)}
