"""Pods that files on the node describe: what the API would have added to them (core/v1 defaults), and who they are. Pure."""

from __future__ import annotations

import copy
import hashlib
import re
from typing import Any, Final

import orjson

from pinnace.core.base.contract.keys import NODE_NAME, NodeName
from pinnace.core.base.pod import CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE, DEFAULT_GRACE_SECONDS, Container, Object, Pod, RestartPolicy
from pinnace.core.pods.rules.images import pull_policy

_CONTAINER_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")
_PROBE_DEFAULTS: Final = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_FILE_MODE: Final = 0o644
_PRIORITIES: Final = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


def static_pod(body: Any, *, source: str, node: NodeName, seen: str) -> Pod:
    """The pod a file describes. `body` is its decoded content, `source` the file's path, `seen` RFC 3339.

    The name gets the node's as a suffix, the uid is a hash of node, file and content unless the file says one. Raises ValueError that
    says what to correct.
    """
    if not isinstance(body, dict) or body.get("kind") != "Pod" or body.get("apiVersion") != "v1":
        raise ValueError("expected one object with apiVersion: v1 and kind: Pod")
    body = copy.deepcopy(body)
    metadata, spec = _part(body, "metadata"), _part(body, "spec")
    name = metadata.get("name")
    if not isinstance(name, str) or not NODE_NAME.fullmatch(name):
        raise ValueError(f"metadata.name: expected lower-case letters, digits, '-' and '.', not {name!r}")
    for field, form in (("namespace", NODE_NAME), ("uid", _UID)):
        value = metadata.get(field)
        if value is not None and (not isinstance(value, str) or not form.fullmatch(value)):
            raise ValueError(f"metadata.{field}: expected letters, digits, '-' and '.', not {value!r}")
    _check_life(spec)
    _check_containers(spec)
    uid = metadata.get("uid") or _hash(node, source, body)
    annotations = {**(metadata.get("annotations") or {}), CONFIG_SOURCE: "file", CONFIG_HASH: uid, CONFIG_SEEN: seen}
    metadata.update(name=f"{name}-{node.lower()}", namespace=metadata.get("namespace") or "default", uid=uid, annotations=annotations)
    metadata.setdefault("creationTimestamp", seen)
    spec["nodeName"] = node
    spec["tolerations"] = [*(spec.get("tolerations") or ()), {"operator": "Exists", "effect": "NoExecute"}]
    add_defaults(spec)
    body["status"] = {"phase": "Pending"}
    return Pod(body)


def add_defaults(spec: Object) -> None:
    """Into a pod's spec, what the API adds."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("securityContext", {})
    if (priority := _PRIORITIES.get(spec.get("priorityClassName", ""))) is not None:
        spec.setdefault("priority", priority)
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        _add_to_container(container, on_host=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        for kind in ("secret", "configMap", "projected", "downwardAPI"):
            if isinstance(volume.get(kind), dict):
                volume[kind].setdefault("defaultMode", _FILE_MODE)
        if isinstance(volume.get("hostPath"), dict):
            volume["hostPath"].setdefault("type", "")


def _add_to_container(container: Object, *, on_host: bool) -> None:
    container.setdefault("imagePullPolicy", pull_policy(Container(container, is_init=False)).value)
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if on_host:
            port.setdefault("hostPort", port.get("containerPort"))
    resources = container.get("resources") or {}
    if limits := resources.get("limits"):
        resources["requests"] = {**limits, **(resources.get("requests") or {})}
    for each in _PROBES:
        if isinstance(probe := container.get(each), dict):
            for key, value in _PROBE_DEFAULTS.items():
                probe.setdefault(key, value)
            if isinstance(probe.get("httpGet"), dict):
                probe["httpGet"].setdefault("path", "/")
                probe["httpGet"].setdefault("scheme", "HTTP")


def _check_life(spec: Object) -> None:
    """What the end of a pod is made of: a pod that could be started and not ended would be there for ever."""
    for field in ("terminationGracePeriodSeconds", "activeDeadlineSeconds", "priority"):
        value = spec.get(field)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or (value < 0 and field != "priority")):
            raise ValueError(f"spec.{field}: expected a whole number, not {value!r}")
    policy, policies = spec.get("restartPolicy"), [each.value for each in RestartPolicy]
    if policy is not None and policy not in policies:
        raise ValueError(f"spec.restartPolicy: expected {', '.join(policies)}, not {policy!r}")


def _check_containers(spec: Object) -> None:
    names = set()
    if not isinstance(spec.get("containers"), list) or not spec["containers"]:
        raise ValueError("spec.containers: expected at least one container")
    for field in ("initContainers", "containers"):
        for each in spec.get(field) or ():
            name = each.get("name") if isinstance(each, dict) else None
            if not isinstance(name, str) or not _CONTAINER_NAME.fullmatch(name) or name in names:
                raise ValueError(f"spec.{field}: each needs a name of its own of lower-case letters, digits and '-', not {name!r}")
            if not isinstance(each.get("image"), str) or not each["image"]:
                raise ValueError(f"spec.{field}: {name} needs an image")
            for hook, handler in _part(each, "lifecycle").items() if each.get("lifecycle") else ():
                if not isinstance(handler, dict) or not all(isinstance(action, dict) for action in handler.values()):
                    raise ValueError(
                        f"spec.{field}: {name}: lifecycle.{hook}: expected one of exec, httpGet, tcpSocket, sleep with its fields"
                    )
            names.add(name)


def _part(body: Object, key: str) -> Object:
    part = body.get(key)
    if isinstance(part, dict):
        return part
    raise ValueError(f"{key}: expected a mapping")


def _hash(node: NodeName, source: str, body: Object) -> str:
    content = orjson.dumps([node, source, body], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:32]
