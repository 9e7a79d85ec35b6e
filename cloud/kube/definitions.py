"""The custom resource definitions cloudcore needs, put into the API at its start (build/crds)."""

from __future__ import annotations

import base64
import copy
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from pinnace.cloud.kube.api import wait_until_served
from pinnace.cloud.kube.resources import DEFINITIONS
from pinnace.cloud.ports import KubeApi, Object, Resource
from pinnace.core.base.errors import ConfigError, RemoteError

logger = logging.getLogger(__name__)

_PLACES = (Path(__file__).resolve().parents[2] / "build" / "crds", Path("/usr/share/pinnace/crds"))
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the API server finds our conversion webhook: a URL, or a service of the cluster (namespace, name, port)."""

    ca: str
    """PEM text of the authority that signed the webhook's certificate."""
    path: str
    url: str = ""
    service: tuple[str, str, int] | None = None

    def client_config(self) -> Object:
        bundle = {"caBundle": base64.b64encode(self.ca.encode()).decode()}
        if self.service is not None:
            namespace, name, port = self.service
            return {"service": {"namespace": namespace, "name": name, "port": port, "path": self.path}, **bundle}
        return {"url": self.url + self.path, **bundle}


def find_folder(given: Path | None = None) -> Path:
    """The folder of the definitions: the given one, $PINNACE_CRDS, the checkout's, or the installed one. Raises ConfigError."""
    places = [given] if given is not None else [Path(os.environ["PINNACE_CRDS"])] if "PINNACE_CRDS" in os.environ else list(_PLACES)
    for place in places:
        if any(place.glob("*.yaml")):
            return place
    raise ConfigError(f"no custom resource definitions in {', '.join(map(str, places))}: give modules.deviceController.crdDir")


def load_definitions(folder: Path) -> list[Object]:
    """The definitions of a folder's YAML files, by name."""
    found: list[Object] = []
    for path in sorted(folder.glob("*.yaml")):
        with path.open() as stream:
            found += [copy.deepcopy(each) for each in yaml.safe_load_all(stream) if each]
    return sorted(found, key=lambda each: str(each["metadata"]["name"]))


def with_webhook(definition: Object, webhook: Webhook | None) -> Object:
    """The definition with our conversion webhook, if it has several versions."""
    if webhook is None or len(definition["spec"]["versions"]) < 2:
        return definition
    conversion = {
        "strategy": "Webhook",
        "webhook": {"clientConfig": webhook.client_config(), "conversionReviewVersions": ["v1"]},
    }
    return {**definition, "spec": {**definition["spec"], "conversion": conversion}}


async def apply_definitions(api: KubeApi, definitions: list[Object], *, replace: bool = True) -> None:
    """Create what is missing, bring the rest to our state, and return when all are served. With `replace` false existing definitions keep
    their schemas and only get the conversion webhook."""
    for definition in definitions:
        for attempt in range(_ATTEMPTS):
            try:
                await _apply(api, definition, replace=replace)
                break
            except RemoteError as error:
                if error.code != 409 or attempt + 1 == _ATTEMPTS:
                    raise
    for definition in definitions:
        spec = definition["spec"]
        for version in spec["versions"]:
            if version.get("storage"):
                resource = Resource(
                    spec["group"], version["name"], spec["names"]["plural"], spec["names"]["kind"], spec["scope"] == "Namespaced"
                )
                await wait_until_served(api, resource)


async def _apply(api: KubeApi, definition: Object, *, replace: bool) -> None:
    name = definition["metadata"]["name"]
    try:
        live = await api.get(DEFINITIONS, name)
    except RemoteError as error:
        if error.code != 404:
            raise
        await api.create(DEFINITIONS, definition)
        logger.info("crd.created name=%s", name)
        return
    wanted = {**live["spec"]}
    if replace:
        wanted |= definition["spec"]
        ours = {version["name"] for version in definition["spec"]["versions"]}
        stored = set((live.get("status") or {}).get("storedVersions") or ())
        wanted["versions"] = definition["spec"]["versions"] + [
            {**version, "storage": False} for version in live["spec"]["versions"] if version["name"] in stored - ours
        ]
    elif "conversion" in definition["spec"] and len(live["spec"]["versions"]) > 1:
        wanted["conversion"] = definition["spec"]["conversion"]
    if wanted == live["spec"]:
        return
    await api.replace(DEFINITIONS, {**live, "spec": wanted}, name)
    logger.info("crd.updated name=%s", name)
