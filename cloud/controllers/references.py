"""Which ConfigMaps and Secrets a pod uses. Pure (Kubernetes API, core/v1 PodSpec)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pinnace.cloud.kube.resources import CONFIG_MAPS, SECRETS
from pinnace.cloud.ports import Object

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_VOLUME_SECRETS = ("azureFile", "cephfs", "cinder", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")


class Reference(NamedTuple):
    """A ConfigMap or Secret by kind and name."""

    kind: str
    namespace: str
    name: str


def references_of(pod: Object) -> frozenset[Reference]:
    """Everything the pod names: volumes, projected volumes, environment of all containers, image pull secrets."""
    namespace = pod["metadata"]["namespace"]
    return frozenset(Reference(kind, namespace, name) for kind, name in _named(pod.get("spec") or {}) if name)


def _named(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for volume in spec.get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            yield CONFIG_MAPS.kind, _text(source.get("configMap"), "name")
            yield SECRETS.kind, _text(source.get("secret"), "secretName") or _text(source.get("secret"), "name")
        for kind in _VOLUME_SECRETS:
            settings = volume.get(kind) or {}
            reference = settings.get("secretRef") or settings.get("nodePublishSecretRef")
            yield SECRETS.kind, _text(settings, "secretName") or _text(reference, "name")
    for containers in CONTAINERS:
        for container in spec.get(containers) or ():
            for each in container.get("envFrom") or ():
                yield CONFIG_MAPS.kind, _text(each.get("configMapRef"), "name")
                yield SECRETS.kind, _text(each.get("secretRef"), "name")
            for each in container.get("env") or ():
                source = each.get("valueFrom") or {}
                yield CONFIG_MAPS.kind, _text(source.get("configMapKeyRef"), "name")
                yield SECRETS.kind, _text(source.get("secretKeyRef"), "name")
    for each in spec.get("imagePullSecrets") or ():
        yield SECRETS.kind, _text(each, "name")


def _text(part: Any, key: str) -> str:
    value = part.get(key) if isinstance(part, dict) else None
    return value if isinstance(value, str) else ""
