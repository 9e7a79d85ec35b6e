"""ConfigMap `device-profile-config-<node>`: what KubeEdge 1.1's mappers read about their devices (`deviceProfile.json`).

Made for devices that were written as v1alpha1, one per namespace and node, always as a whole from what is there. A ConfigMap of that name
that somebody else made is left alone. The first part is pure.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from pinnace.cloud.admission.conversion import convert
from pinnace.cloud.admission.residue import V1ALPHA1
from pinnace.cloud.controllers.configs import PROFILE_PREFIX
from pinnace.cloud.controllers.devices import DeviceController, model_of
from pinnace.cloud.kube.resources import CONFIG_MAPS
from pinnace.cloud.ports import KubeApi, Object
from pinnace.cloud.watch import Change, KeyWorkers, ObjectCache
from pinnace.cloud.watch.cache import Identity
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import RemoteError

logger = logging.getLogger(__name__)

KEY: Final = "deviceProfile.json"
_OWNED: Final = {"app.kubernetes.io/managed-by": "pinnace"}


def profile(devices: Iterable[tuple[Object, Object]]) -> Object:
    """The profile of devices with their models, both v1alpha1; empty lists are left out."""
    made: dict[str, list[Object]] = {"deviceInstances": [], "deviceModels": [], "protocols": [], "propertyVisitors": []}
    models = set()
    for device, model in devices:
        name, model_name = device["metadata"]["name"], model["metadata"]["name"]
        protocol = _protocol(name, (device.get("spec") or {}).get("protocol") or {})
        instance = {"id": name, "name": name, "protocol": protocol.get("name"), "model": model_name}
        made["deviceInstances"].append({key: value for key, value in instance.items() if value})
        made["protocols"].append(protocol)
        if model_name not in models:
            models.add(model_name)
            spec = model.get("spec") or {}
            made["deviceModels"].append({"name": model_name, "properties": [_property(each) for each in spec.get("properties") or ()]})
            made["propertyVisitors"] += [_visitor(each, model_name) for each in spec.get("propertyVisitors") or ()]
    return {key: value for key, value in made.items() if value}


def _protocol(device: str, protocol: Mapping[str, Any]) -> Object:
    for word, settings in protocol.items():
        if word == "modbus" and isinstance(settings, dict):
            word, settings = next(((f"modbus-{way}", each) for way, each in settings.items() if isinstance(each, dict)), (word, {}))
        if isinstance(settings, dict):
            return {"name": f"{word}-{device}", "protocol": word, "protocol_config": _without_zeros(settings)}
    return {"protocol_config": None}


def _property(each: Mapping[str, Any]) -> Object:
    kind, settings = _type(each.get("type"))
    made: Object = {"name": each["name"], "dataType": kind}
    if each.get("description"):
        made["description"] = each["description"]
    made["accessMode"] = settings.get("accessMode", "")
    made["defaultValue"] = settings.get("defaultValue", "" if kind == "string" else 0)
    return made | {bound: settings[bound] for bound in ("minimum", "maximum", "unit") if settings.get(bound)}


def _type(section: Any) -> tuple[str, Mapping[str, Any]]:
    """The key of a v1alpha1 `type` and what stands below it."""
    for kind, settings in section.items() if isinstance(section, dict) else ():
        if isinstance(settings, dict):
            return str(kind), settings
    return "string", {}


def _visitor(each: Mapping[str, Any], model: str) -> Object:
    made: Object = {"name": each["propertyName"], "propertyName": each["propertyName"], "modelName": model}
    for word in ("modbus", "opcua", "bluetooth"):
        if isinstance(each.get(word), dict):
            config = _without_zeros(each[word])
            if isinstance(config.get("dataWrite"), dict):
                config["dataWrite"] = {key: _base64(value) for key, value in config["dataWrite"].items()}
            return made | {"protocol": word, "visitorConfig": config}
    return made | {"visitorConfig": None}


def _without_zeros(settings: Mapping[str, Any]) -> Object:
    """As Go writes fields that may be omitted."""
    inner = {key: _without_zeros(value) if isinstance(value, dict) and key != "dataWrite" else value for key, value in settings.items()}
    return {key: value for key, value in inner.items() if value not in (0, "", None, [], {})}


def _base64(value: Any) -> Any:
    """Bytes, which YAML gives as a list of numbers."""
    try:
        return base64.b64encode(bytes(value)).decode() if isinstance(value, list) else value
    except (TypeError, ValueError):
        return ""


class ProfileController:
    """A controller on caches; nothing calls it."""

    def __init__(
        self, api: KubeApi, placement: DeviceController, *, devices: ObjectCache, models: ObjectCache, config_maps: ObjectCache
    ) -> None:
        self._api = api
        self._placement = placement
        self._devices = devices
        self._config_maps = config_maps
        self.workers: KeyWorkers[tuple[str, NodeName]] = KeyWorkers("device.profile", self._reconcile)
        placement.on_placement(self._placed)
        devices.on_change(self._device_changed)
        models.on_change(self._model_changed)
        config_maps.on_change(self._config_changed)

    def _placed(self, key: Identity, before: NodeName | None, after: NodeName | None) -> None:
        for node in (before, after):
            if node is not None:
                self.workers.touch((key.namespace, node))

    def _device_changed(self, change: Change) -> None:
        if change.old is not None and change.new is not None and _concern(change.old) == _concern(change.new):
            return
        node = self._placement.node_of(*change.key)
        if node is not None:
            self.workers.touch((change.key.namespace, node))

    def _model_changed(self, change: Change) -> None:
        for device in self._devices:
            if model_of(device) == change.key:
                node = self._placement.node_of(change.key.namespace, device["metadata"]["name"])
                if node is not None:
                    self.workers.touch((change.key.namespace, node))

    def _config_changed(self, change: Change) -> None:
        if change.key.name.startswith(PROFILE_PREFIX) and _is_ours(change.new or change.old):
            self.workers.touch((change.key.namespace, NodeName(change.key.name.removeprefix(PROFILE_PREFIX))))

    async def _reconcile(self, key: tuple[str, NodeName]) -> None:
        namespace, node = key
        await self._config_maps.synced()
        name = PROFILE_PREFIX + node
        live = self._config_maps.get(namespace, name)
        if live is not None and not _is_ours(live):
            return
        made = profile(self._devices_of(namespace, node))
        data = {KEY: orjson.dumps(made).decode()}
        try:
            if not made:
                if live is not None:
                    await self._api.delete(CONFIG_MAPS, name, namespace)
            elif live is None:
                metadata = {"name": name, "namespace": namespace, "labels": _OWNED}
                await self._api.create(
                    CONFIG_MAPS, {"apiVersion": "v1", "kind": CONFIG_MAPS.kind, "metadata": metadata, "data": data}, namespace
                )
            elif live.get("data") != data:
                await self._api.patch(CONFIG_MAPS, name, {"data": data}, namespace)
        except RemoteError as error:
            if error.reason not in {"AlreadyExists", "NotFound"}:
                raise

    def _devices_of(self, namespace: str, node: NodeName) -> list[tuple[Object, Object]]:
        """The node's v1alpha1 devices of a namespace whose model is there."""
        found = []
        for device in self._placement.devices_on(node):
            model = self._placement.model(device)
            is_old = V1ALPHA1 in (device["metadata"].get("annotations") or {})
            if device["metadata"]["namespace"] == namespace and is_old and model is not None:
                found.append((convert(device, "v1alpha1"), convert(model, "v1alpha1")))
        return found


def _concern(device: Object) -> tuple[Any, ...]:
    """What of a device its profile depends on; desired values are not in it."""
    spec = device.get("spec") or {}
    return spec.get("deviceModelRef"), spec.get("protocol"), (device["metadata"].get("annotations") or {}).get(V1ALPHA1)


def _is_ours(config: Object | None) -> bool:
    return config is not None and _OWNED.items() <= (config["metadata"].get("labels") or {}).items()
