"""What a service account gives to a new pod: its name, its pull secrets, and the token's volume (Kubernetes API, ServiceAccount)."""

from __future__ import annotations

from typing import Any, Final

from pinnace.cloud.standalone.names import asked_name, random_suffix
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import forbidden
from pinnace.core.base.pod import CONFIG_MIRROR

DEFAULT: Final = "default"
MOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS: Final = 3607
"""An hour and a little, as Kubernetes asks for."""


def admit(pod: Object, account: Object | None) -> None:
    """Fill in a new pod in place; `account` is the one it names. Raises ApiError 403 for one that does not exist; that every namespace
    has a default one comes true a moment after the namespace is made."""
    spec: Any = pod["spec"]
    if CONFIG_MIRROR in (pod["metadata"].get("annotations") or {}):  # what a node runs by itself has no account
        return
    name = spec.get("serviceAccountName") or DEFAULT
    if account is None and name != DEFAULT:
        namespace = pod["metadata"]["namespace"]
        why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise forbidden("", "pods", asked_name(pod["metadata"]), why)
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    given = account or {}
    if not spec.get("imagePullSecrets") and given.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(each) for each in given["imagePullSecrets"]]
    wants_token = spec.get("automountServiceAccountToken")
    if wants_token is None:
        wants_token = given.get("automountServiceAccountToken")
    if wants_token is not False:
        _mount(spec)


def _mount(spec: Object) -> None:
    """The projected token, authority and namespace, in every container that mounts nothing there itself."""
    name = f"kube-api-access-{random_suffix()}"
    mount = {"name": name, "readOnly": True, "mountPath": MOUNT}
    is_mounted = False
    for part in ("initContainers", "containers"):
        containers = list(spec.get(part) or ())
        for index, each in enumerate(containers):
            mounts = each.get("volumeMounts") or []
            if all(known.get("mountPath") != MOUNT for known in mounts):
                containers[index] = {**each, "volumeMounts": [*mounts, mount]}
                is_mounted = True
        if containers:
            spec[part] = containers
    if not is_mounted:
        return
    sources: list[Object] = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}]
