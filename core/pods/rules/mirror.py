"""The mirror pod: the API's picture of a static pod (Kubernetes, static pods)."""

from __future__ import annotations

from copy import deepcopy

from pinnace.core.base.pod import CONFIG_HASH, CONFIG_MIRROR, Object, Pod


def static_hash(pod: Pod) -> str:
    """What tells one version of a static pod from another."""
    return pod.annotations.get(CONFIG_HASH) or pod.uid


def mirror_of(pod: Pod, node: str, node_uid: str = "") -> Object:
    """The Pod object to be inserted for a static pod. Its node owns it once the node's uid is known."""
    body = deepcopy(pod.body)
    metadata = body["metadata"]
    metadata["annotations"] = {**pod.annotations, CONFIG_HASH: static_hash(pod), CONFIG_MIRROR: static_hash(pod)}
    for name in ("resourceVersion", "creationTimestamp", "generation"):
        metadata.pop(name, None)
    if node_uid:
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
        metadata["ownerReferences"] = [owner]
    body.setdefault("spec", {})["nodeName"] = node
    body.pop("status", None)
    return {"apiVersion": "v1", "kind": "Pod", **body}


def is_mirror_of(mirror: Pod, pod: Pod) -> bool:
    """Whether an API object pictures this very version of a static pod."""
    return mirror.annotations.get(CONFIG_MIRROR) == static_hash(pod)
