"""Which stored objects a pod is made from. Pure (Kubernetes API, core/v1 PodSpec)."""

from __future__ import annotations

from collections.abc import Iterator

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.pod import Container, Pod
from pinnace.core.pods.material.content import KINDS, Needed, needs
from pinnace.core.pods.material.persistent import claim_name


def environment_needs(pod: Pod, container: Container) -> Iterator[Needed]:
    """The config maps and secrets of env and envFrom; one that is needed in one place and optional in another comes twice."""
    froms = [("Ref", each) for each in container.spec.get("envFrom") or ()]
    froms += [("KeyRef", each.get("valueFrom") or {}) for each in container.spec.get("env") or ()]
    for suffix, source in froms:
        for kind in ("configMap", "secret"):
            if reference := source.get(kind + suffix):
                yield Needed(ResourceKey(kind.lower(), pod.namespace, str(reference.get("name") or "")), bool(reference.get("optional")))


def pull_secrets(pod: Pod) -> list[ResourceKey]:
    names = (str(each.get("name") or "") for each in pod.spec.get("imagePullSecrets") or ())
    return [ResourceKey("secret", pod.namespace, name) for name in dict.fromkeys(names) if name]


def uses(pod: Pod) -> set[ResourceKey]:
    """Config maps, secrets and claims: when one of them changes the pod is worth a look. Raises ValueError for a spec that cannot be."""
    found = set(pull_secrets(pod))
    for container in pod.all_containers:
        found.update(key for key, _ in environment_needs(pod, container))
    for volume in pod.spec.get("volumes") or ():
        if any(kind in volume for kind in KINDS):
            found.update(key for key, _ in needs(pod, volume))
        elif name := claim_name(pod, volume):
            found.add(ResourceKey("persistentvolumeclaim", pod.namespace, name))
    return found
