"""Which ConfigMaps, Secrets and claims a pod uses. Pure (Kubernetes API, core/v1 PodSpec)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pinnace.cloud.kube.resources import CONFIG_MAPS, SECRETS, VOLUME_CLAIMS
from pinnace.cloud.ports import Object

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_VOLUME_SECRETS = ("azureFile", "cephfs", "cinder", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")


class Reference(NamedTuple):
    """A ConfigMap, Secret or PersistentVolumeClaim by kind and name."""

    kind: str
    namespace: str
    name: str


def references_of(pod: Object) -> frozenset[Reference]:
    """Everything the pod names: volumes, projected volumes, claims, environment of all containers, image pull secrets."""
    namespace, spec = pod["metadata"]["namespace"], pod.get("spec") or {}
    named = (*_named(spec), *_claimed(spec, pod["metadata"]["name"]))
    return frozenset(Reference(kind, namespace, name) for kind, name in named if name)


def _claimed(spec: Mapping[str, Any], pod: str) -> Iterator[tuple[str, str]]:
    """The claims of a pod's volumes; an ephemeral volume's is named after pod and volume."""
    for volume in spec.get("volumes") or ():
        yield VOLUME_CLAIMS.kind, _text(volume.get("persistentVolumeClaim"), "claimName")
        if volume.get("ephemeral"):
            yield VOLUME_CLAIMS.kind, f"{pod}-{_text(volume, 'name')}"


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
