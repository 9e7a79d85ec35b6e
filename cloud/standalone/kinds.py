"""What a served kind is, and the table of those that are built in (names, verbs and categories as Kubernetes 1.36 lists them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_CHANGE = ("get", "patch", "update")


class Subresource(NamedTuple):
    """`pods/eviction` and the like. group, version, kind are "" when they are the parent's."""

    name: str
    verbs: tuple[str, ...]
    kind: str = ""
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind in one version, as it is served. `storage` names its table, shared by the versions and views of one resource."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    subresources: tuple[Subresource, ...] = ()
    has_generation: bool = False
    has_status: bool = False
    name_rule: str = "subdomain"
    singular: str = ""
    list_kind: str = ""
    storage: str = ""
    storage_version: str = ""
    is_custom: bool = False
    is_measured: bool = False
    """Nothing is stored: every answer is asked of the nodes."""
    definition: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """For custom kinds: the entry of spec.versions."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_name(self) -> str:
        return self.list_kind or f"{self.kind}List"

    @property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

    @property
    def table(self) -> str:
        return self.storage or (f"{self.plural}.{self.group}" if self.group else self.plural)

    def subresource(self, name: str) -> Subresource | None:
        return next((each for each in self.subresources if each.name == name), None)


STATUS = Subresource("status", _CHANGE)
SCALE = Subresource("scale", _CHANGE, "Scale", "autoscaling", "v1")
POD_SUBRESOURCES = (
    Subresource("attach", ("create", "get"), "PodAttachOptions"),
    Subresource("binding", ("create",), "Binding"),
    Subresource("ephemeralcontainers", _CHANGE),
    Subresource("eviction", ("create",), "Eviction", "policy", "v1"),
    Subresource("exec", ("create", "get"), "PodExecOptions"),
    Subresource("log", ("get",)),
    Subresource("portforward", ("create", "get"), "PodPortForwardOptions"),
    STATUS,
)


def _core(plural: str, kind: str, *short_names: str, **rest: Any) -> Kind:
    return Kind("", "v1", plural, kind, short_names=short_names, **rest)


def _review(group: str, plural: str, kind: str, *, namespaced: bool = False) -> Kind:
    return Kind(group, "v1", plural, kind, namespaced=namespaced, verbs=("create",))


_WORKLOAD: dict[str, Any] = {"categories": ("all",), "has_generation": True, "has_status": True}

BUILT_IN: tuple[Kind, ...] = (
    _core("bindings", "Binding", verbs=("create",)),
    _core("configmaps", "ConfigMap", "cm"),
    _core("endpoints", "Endpoints", "ep", singular="endpoints"),
    _core("events", "Event", "ev"),
    _core(
        "namespaces",
        "Namespace",
        "ns",
        namespaced=False,
        subresources=(Subresource("finalize", ("update",)), STATUS),
        has_status=True,
        name_rule="label",
        verbs=tuple(verb for verb in VERBS if verb != "deletecollection"),
    ),
    _core("nodes", "Node", "no", namespaced=False, subresources=(STATUS,), has_status=True),
    _core("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", subresources=(STATUS,), has_status=True),
    _core("persistentvolumes", "PersistentVolume", "pv", namespaced=False, subresources=(STATUS,), has_status=True),
    _core("pods", "Pod", "po", subresources=POD_SUBRESOURCES, categories=("all",), has_generation=True, has_status=True),
    _core("secrets", "Secret"),
    _core(
        "serviceaccounts",
        "ServiceAccount",
        "sa",
        subresources=(Subresource("token", ("create",), "TokenRequest", "authentication.k8s.io", "v1"),),
    ),
    _core("services", "Service", "svc", subresources=(STATUS,), categories=("all",), has_status=True, name_rule="label"),
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=(STATUS,),
        has_generation=True,
        has_status=True,
    ),
    Kind("apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), subresources=(STATUS,), **_WORKLOAD),
    Kind("apps", "v1", "deployments", "Deployment", short_names=("deploy",), subresources=(SCALE, STATUS), **_WORKLOAD),
    Kind("apps", "v1", "replicasets", "ReplicaSet", short_names=("rs",), subresources=(SCALE, STATUS), **_WORKLOAD),
    Kind("apps", "v1", "controllerrevisions", "ControllerRevision"),
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", namespaced=True),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    Kind("coordination.k8s.io", "v1", "leases", "Lease"),
    Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Kind("events.k8s.io", "v1", "events", "Event", short_names=("ev",), storage="events"),
    Kind("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics", namespaced=False, verbs=("get", "list"), is_measured=True),
    Kind("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", verbs=("get", "list"), is_measured=True),
    Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False, short_names=("sc",)),
)
