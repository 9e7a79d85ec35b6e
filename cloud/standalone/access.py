"""Who may do what. The rules are few, fixed, and written down in SCOPE.md; the first that allows decides."""

from __future__ import annotations

from dataclasses import dataclass

from pinnace.cloud.standalone.requests import User
from pinnace.cloud.standalone.state import Object, State
from pinnace.cloud.standalone.status import ApiError, details_of, qualified

ADMINS = "system:masters"
NODES = "system:nodes"
CLOUDCORE = "pinnace:cloudcore"
KUBELET_CLIENT = "pinnace:kubelet-client"
"""This server itself, where it asks nodes; it may do nothing else."""
OPEN_PATHS = frozenset({"/version", "/healthz", "/livez", "/readyz"})
_DISCOVERY = ("/api", "/apis", "/openapi", "/.well-known/openid-configuration")
_READ = frozenset({"get", "list", "watch"})
_KUBELET_PARTS = frozenset({"proxy", "log", "stats", "metrics"})
_SELF_REVIEWS = frozenset({"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"})
_NODE_NAMED_READS = frozenset({"configmaps", "secrets", "serviceaccounts", "persistentvolumeclaims"})
_NODE_OPEN_READS = frozenset({"services", "endpoints", "endpointslices", "namespaces", "persistentvolumes", "nodes", "pods"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody wants to do: a verb on a resource, or on a plain path."""

    verb: str
    group: str = ""
    version: str = ""
    plural: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""

    @property
    def resource(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


def node_of(user: User) -> str:
    """The node that a user is, "" for who is none."""
    is_node = NODES in user.groups and user.name.startswith("system:node:")
    return user.name.removeprefix("system:node:") if is_node else ""


def unbound(user: User, bound: Object, pod: Object | None) -> str:
    """Why a node may not have a token of an account it may ask for, "" if it may (Kubernetes API, NodeRestriction): `pod` is the one that
    the request's `boundObjectRef` names."""
    node = node_of(user)
    if not node or ADMINS in user.groups:
        return ""
    if pod is None:
        return "node requested token not bound to a pod"
    if not bound.get("uid"):
        return "node requested token with a pod binding without a uid"
    if pod["spec"].get("nodeName") != node:
        return "node requested token bound to a pod scheduled on a different node"
    return ""


class Access:
    """The rules, with the rows they look at: a node reaches what its pods use."""

    def __init__(self, state: State) -> None:
        self._state = state

    def check(self, user: User, attempt: Attempt) -> None:
        """Raise 403 in the API's words unless the user may."""
        if not self.allows(user, attempt):
            raise refusal(user, attempt)

    def allows(self, user: User, attempt: Attempt) -> bool:
        if ADMINS in user.groups:
            return True
        if attempt.path:
            return attempt.verb == "get" and self._reads_path(user, attempt.path)
        if "system:authenticated" not in user.groups:
            return False
        if attempt.plural in _SELF_REVIEWS and attempt.verb == "create":
            return True
        if node := node_of(user):
            return self._node(node, attempt)
        if CLOUDCORE in user.groups:
            return _cloudcore(attempt)
        if KUBELET_CLIENT in user.groups:
            return attempt.group == "" and attempt.plural == "nodes" and attempt.subresource in _KUBELET_PARTS
        if user.name.startswith("system:serviceaccount:"):
            namespace = user.name.split(":")[2]
            in_own = attempt.namespace == namespace and attempt.plural != "secrets" and not attempt.subresource
            return attempt.verb in _READ and in_own
        return False

    def _reads_path(self, user: User, path: str) -> bool:
        base = path.rstrip("/") or "/"
        if base in OPEN_PATHS or base.startswith(("/healthz/", "/livez/", "/readyz/")):
            return True
        return "system:authenticated" in user.groups and (base == "/" or base.startswith(_DISCOVERY) or base == "/openid/v1/jwks")

    def _node(self, node: str, attempt: Attempt) -> bool:
        """A node: its Node, lease, pods and their status, what its pods mount, events; nothing of another node."""
        match attempt.resource, attempt.verb:
            case "nodes" | "nodes/status", "create" | "update" | "patch" | "delete":
                return attempt.name == node
            case "leases", _ if attempt.namespace == "kube-node-lease":
                return attempt.name == node
            case "events", "create" | "patch" | "update":
                return True
            case "pods", "list" | "watch":
                return f"spec.nodeName={node}" in attempt.field_selector.split(",")
            case "pods" | "pods/status", "get" | "update" | "patch" | "delete" if attempt.resource == "pods/status" or attempt.verb in {
                "get",
                "delete",
            }:
                return self._runs(node, attempt.namespace, attempt.name)
            case "serviceaccounts/token", "create":
                return any(_uses(pod, "serviceaccounts", attempt.name) for pod in self._pods(node, attempt.namespace))
            case "tokenreviews" | "subjectaccessreviews", "create":
                return True
            case plural, "get" if plural in _NODE_NAMED_READS:
                return any(_uses(pod, plural, attempt.name) for pod in self._pods(node, attempt.namespace))
            case plural, verb if plural in _NODE_OPEN_READS - {"pods"} and verb in _READ:
                return True
            case _:
                return False

    def _pods(self, node: str, namespace: str) -> list[Object]:
        pods = (item.decode() for item in self._state.table("pods").items(namespace))
        return [pod for pod in pods if pod.get("spec", {}).get("nodeName") == node]

    def _runs(self, node: str, namespace: str, name: str) -> bool:
        item = self._state.table("pods").get(namespace, name)
        return item is not None and item.decode().get("spec", {}).get("nodeName") == node


def _uses(pod: Object, plural: str, name: str) -> bool:
    """Whether a pod refers to the named ConfigMap, Secret, ServiceAccount or PersistentVolumeClaim."""
    spec = pod["spec"]
    if plural == "serviceaccounts":
        return bool(spec.get("serviceAccountName", "default") == name)
    if plural == "persistentvolumeclaims":
        ephemeral = {f"{pod['metadata']['name']}-{each['name']}" for each in spec.get("volumes") or () if each.get("ephemeral")}
        claimed = ((each.get("persistentVolumeClaim") or {}).get("claimName") for each in spec.get("volumes") or ())
        return name in ephemeral or name in claimed
    short, source, label = (
        ("configMap", "configMapRef", "configMapKeyRef") if plural == "configmaps" else ("secret", "secretRef", "secretKeyRef")
    )
    for volume in spec.get("volumes") or ():
        parts = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        if any((part.get(short) or {}).get("name", (part.get(short) or {}).get("secretName")) == name for part in parts):
            return True
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    if any((each.get(source) or {}).get("name") == name for container in containers for each in container.get("envFrom") or ()):
        return True
    env = (each.get("valueFrom") or {} for container in containers for each in container.get("env") or ())
    if any((each.get(label) or {}).get("name") == name for each in env):
        return True
    return plural == "secrets" and any(each.get("name") == name for each in spec.get("imagePullSecrets") or ())


_CLOUDCORE_READS = frozenset({"configmaps", "secrets", "services", "endpoints", "endpointslices", "namespaces", "serviceaccounts",
                              "persistentvolumes", "persistentvolumeclaims"})  # fmt: skip
_CLOUDCORE_OWNS = frozenset({"nodes", "nodes/status", "pods/status", "leases", "events", "customresourcedefinitions"})
_CLOUDCORE_GROUPS = frozenset({"devices.kubeedge.io", "reliablesyncs.kubeedge.io", "rules.kubeedge.io", "apps.kubeedge.io",
                               "operations.kubeedge.io", "policy.kubeedge.io"})  # fmt: skip


def _cloudcore(attempt: Attempt) -> bool:
    """cloudcore: nodes, leases, events, pods' state, their end and mirror pods, the KubeEdge groups; what nodes need to read; its own
    namespace `kubeedge`; the profiles it makes for nodes' devices."""
    resource, verb = attempt.resource, attempt.verb
    if attempt.group in _CLOUDCORE_GROUPS or resource in _CLOUDCORE_OWNS or attempt.namespace == "kubeedge":
        return True
    if resource == "pods":
        return verb in _READ or verb in {"create", "delete"}
    if resource in {"serviceaccounts/token", "tokenreviews", "subjectaccessreviews"}:
        return verb == "create"
    if resource == "namespaces" and verb == "create":
        return attempt.name == "kubeedge"
    if resource == "configmaps" and verb in {"create", "patch", "delete"}:
        return attempt.name.startswith("device-profile-config-")
    return resource in _CLOUDCORE_READS and verb in _READ


def refusal(user: User, attempt: Attempt) -> ApiError:
    if attempt.path:
        return ApiError(403, f'forbidden: User "{user.name}" cannot {attempt.verb} path "{attempt.path}"', details={})
    where = f'in the namespace "{attempt.namespace}"' if attempt.namespace else "at the cluster scope"
    message = f'User "{user.name}" cannot {attempt.verb} resource "{attempt.resource}" in API group "{attempt.group}" {where}'
    name = "" if attempt.verb == "create" and not attempt.subresource else attempt.name
    named = f'{qualified(attempt.group, attempt.plural)} "{name}"' if name else qualified(attempt.group, attempt.plural)
    return ApiError(403, f"{named} is forbidden: {message}", details=details_of(name, attempt.group, attempt.plural))
