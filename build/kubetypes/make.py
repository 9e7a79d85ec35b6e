"""Makes cloud/standalone/data/types.json: the fields of the built-in kinds that the embedded API serves, as the Python client knows them.

`python build/kubetypes/make.py` prints the table; `--write` puts it in its place. Run it after raising the version of the
`kubernetes` client. The exact integer widths, int-or-string fields and protobuf numbers come from cloud/standalone/data/protobuf.json,
which is kept by hand.

One line per type: `{"core.v1.ConfigMap": {"data": "{}string", "immutable": "bool", ...}}`. A name that ends with `!` is required.
Types: string, bytes, bool, int32, int64, double, time, microtime, quantity, int-or-string, any, another type's name; `[]T` a list,
`{}T` a map.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from kubernetes.client import models

DATA = Path(__file__).resolve().parents[2] / "cloud" / "standalone" / "data"
ROOTS = {
    "core.v1": [
        "Binding", "ConfigMap", "Endpoints", "CoreV1Event", "Namespace", "Node", "PersistentVolumeClaim", "PersistentVolume", "Pod",
        "Secret", "ServiceAccount", "Service",
    ],
    "apiextensions.v1": ["CustomResourceDefinition"],
    "apps.v1": ["DaemonSet", "Deployment", "ReplicaSet", "ControllerRevision"],
    "authentication.v1": ["SelfSubjectReview", "TokenReview", "AuthenticationV1TokenRequest"],
    "authorization.v1": ["LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"],
    "autoscaling.v1": ["Scale"],
    "coordination.v1": ["Lease"],
    "discovery.v1": ["EndpointSlice"],
    "events.v1": ["EventsV1Event"],
    "policy.v1": ["Eviction"],
    "storage.v1": ["StorageClass"],
}  # fmt: skip
MEASURED = {
    "metrics.v1beta1.ContainerMetrics": {"name!": "string", "usage!": "{}quantity"},
    "metrics.v1beta1.NodeMetrics": {
        "apiVersion": "string", "kind": "string", "metadata": "meta.v1.ObjectMeta", "timestamp!": "time", "window!": "string",
        "usage!": "{}quantity",
    },
    "metrics.v1beta1.PodMetrics": {
        "apiVersion": "string", "kind": "string", "metadata": "meta.v1.ObjectMeta", "timestamp!": "time", "window!": "string",
        "containers!": "[]metrics.v1beta1.ContainerMetrics",
    },
}  # fmt: skip
"""The client has none of metrics.k8s.io."""
META = {
    "ObjectMeta", "OwnerReference", "ManagedFieldsEntry", "LabelSelector", "LabelSelectorRequirement", "Condition", "DeleteOptions",
    "Preconditions", "FieldSelectorRequirement", "ListMeta",
}  # fmt: skip
CORE = {"ObjectReference", "LocalObjectReference", "PodTemplateSpec", "NodeSelector", "TopologySelectorTerm", "TypedLocalObjectReference"}
PREFIXES = {"Core": "core.v1", "Discovery": "discovery.v1", "Events": "events.v1", "Apiextensions": "apiextensions.v1",
            "Authentication": "authentication.v1", "Storage": "core.v1"}  # fmt: skip
PRIMITIVES = {"str": "string", "int": "int32", "float": "double", "bool": "bool", "bytes": "bytes", "datetime": "time", "object": "any"}
WIDE = {"observedGeneration", "generation", "deletionGracePeriodSeconds", "revision", "gracePeriodSeconds"}
QUANTITIES = {"capacity", "allocatable", "limits", "requests", "hard", "used", "overhead", "divisor", "sizeLimit", "allocatedResources"}
MICRO = {"renewTime", "acquireTime", "eventTime", "lastObservedTime"}
EITHER = {"maxSurge", "maxUnavailable", "targetPort"}


def model_of(name: str) -> Any:
    for candidate in (name, f"V1{name}"):
        if hasattr(models, candidate):
            return getattr(models, candidate)
    raise LookupError(name)


def bare(name: str) -> tuple[str, str]:
    """`DiscoveryV1EndpointPort` → (`EndpointPort`, `discovery.v1`); `V1Pod` → (`Pod`, "")."""
    found = re.fullmatch(r"(?P<group>[A-Z][a-z]+)?V1(?P<rest>.*)", name)
    if found is None:
        return name, ""
    return found["rest"], PREFIXES.get(found["group"] or "", "")


class Table:
    def __init__(self) -> None:
        self.numbers: dict[str, dict[str, list[str]]] = json.loads((DATA / "protobuf.json").read_text())
        self.types: dict[str, dict[str, str]] = {}

    def add(self, model_name: str, group: str) -> str:
        model = model_of(model_name)
        name, own = bare(model.__name__)
        if name in META:
            group = "meta.v1"
        elif own:
            group = own
        elif f"core.v1.{name}" in self.numbers or name in CORE:
            group = "core.v1"
        full = f"{group}.{name}"
        if full in self.types:
            return full
        fields = self.types[full] = {}
        known = {json_name: kind for json_name, kind in self.numbers.get(full, {}).values()}
        for field, annotation in model.openapi_types.items():
            key = model.attribute_map[field]
            kind = self.kind(key, annotation, group)
            if known.get(key, "").endswith(("int32", "int64", "IntOrString", "Quantity")):
                kind = known[key].replace("util.intstr.IntOrString", "int-or-string").replace("api.resource.Quantity", "quantity")
            required = model.model_fields[field].is_required() if field in model.model_fields else False
            fields[key + "!" * required] = kind
        return full

    def kind(self, key: str, annotation: str, group: str) -> str:
        if found := re.fullmatch(r"[Ll]ist\[(.*)\]", annotation):
            return "[]" + self.kind(key, found[1], group)
        if found := re.fullmatch(r"[Dd]ict(?:\[str, |\(str, )(.*)[\])]", annotation):
            return "{}" + self.kind(key, found[1], group)
        kind = PRIMITIVES.get(annotation)
        if kind is None:
            return self.add(annotation, group)
        if kind == "string" and key in QUANTITIES:
            return "quantity"
        if kind == "time" and key in MICRO:
            return "microtime"
        if kind == "any" and key in EITHER:
            return "int-or-string"
        return "int64" if kind == "int32" and key in WIDE else kind


def table() -> str:
    made = Table()
    for group, names in ROOTS.items():
        for name in names:
            made.add(name, group)
    made.types |= MEASURED
    lines = [f"{json.dumps(name)}:{json.dumps(made.types[name], separators=(',', ':'))}" for name in sorted(made.types)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write data/types.json in place of printing it")
    if parser.parse_args().write:
        (DATA / "types.json").write_text(table())
    else:
        sys.stdout.write(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
