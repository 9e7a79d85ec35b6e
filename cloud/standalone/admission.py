"""What each kind asks of its objects: built-in kinds by their own rules, custom ones by the schema of their version."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pinnace.cloud.standalone import decoding, defaults, definitions, schema, serviceaccounts, validation
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import Cause

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


class KindRules:
    """Implements `objects.Admission`. `schemas` holds the compiled schema of each served custom version."""

    def __init__(self) -> None:
        self.schemas: dict[tuple[str, str, str], schema.Schema] = {}
        self.terminating: set[tuple[str, str]] = set()
        self.definition_stored: Callable[[Object], None] = lambda definition: None
        """Called after every write of a custom resource definition."""

        self.account_of: Callable[[str, str], Object | None] = lambda namespace, name: None
        """The ServiceAccount of a namespace by its name."""

    def schema_of(self, kind: Kind) -> schema.Schema | None:
        return self.schemas.get((kind.group, kind.version, kind.plural))

    def unknown_fields(self, kind: Kind, obj: Object) -> list[str]:
        if kind.is_custom:
            known = self.schema_of(kind)
            paths = decoding.unknown_fields(kind, obj)
            return [*paths, *(known.prune(obj) if known is not None else [])]
        return decoding.unknown_fields(kind, obj)

    def prepare(self, kind: Kind, obj: Object, old: Object | None, subresource: str) -> None:
        if kind.is_custom:
            known = self.schema_of(kind)
            if known is not None:
                known.default(obj)
            return
        defaults.apply(kind, obj, old)
        if kind.table == DEFINITIONS:
            _prepare_definition(obj, old)
        elif kind.table == "namespaces":
            _prepare_namespace(obj, old)
        elif kind.table == "pods" and old is None:
            name = obj["spec"].get("serviceAccountName") or serviceaccounts.DEFAULT
            serviceaccounts.admit(obj, self.account_of(obj["metadata"]["namespace"], name))

    def validate(self, kind: Kind, obj: Object, old: Object | None, subresource: str) -> list[Cause]:
        causes = validation.validate(kind, obj, old, subresource)
        if kind.is_custom:
            known = self.schema_of(kind)
            return causes if known is None else [*causes, *known.validate(obj, old, subresource)]
        if kind.table == DEFINITIONS and subresource != "status":
            causes += definitions.check_definition(obj, old)
        return causes

    def stored(self, kind: Kind, obj: Object) -> None:
        if kind.table == DEFINITIONS:
            self.definition_stored(obj)

    def is_terminating(self, kind: Kind) -> bool:
        return (kind.group, kind.plural) in self.terminating

    def finish(self, kind: Kind, obj: Object) -> None:
        """Prune and default a converted object by its new version's schema."""
        known = self.schema_of(kind)
        if known is not None:
            known.prune(obj)
            known.default(obj)


def _prepare_namespace(obj: Object, old: Object | None) -> None:
    metadata = obj["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    if old is not None:
        return
    obj["spec"] = {**(obj.get("spec") or {}), "finalizers": ["kubernetes"]}
    obj["status"] = {"phase": "Active"}


def _prepare_definition(obj: Object, old: Object | None) -> None:
    definitions.default_definition(obj)
    storage = storage_version(obj)
    if old is None:
        stored = [storage] if storage else []
        obj["status"] = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}
        return
    status = obj.get("status")
    if isinstance(status, dict) and storage and storage not in (status.get("storedVersions") or []):
        obj["status"] = {**status, "storedVersions": [*(status.get("storedVersions") or []), storage]}


def storage_version(definition: Mapping[str, object]) -> str:
    spec = definition.get("spec")
    versions = spec.get("versions") if isinstance(spec, dict) else None
    named = [each.get("name", "") for each in versions or () if isinstance(each, dict) and each.get("storage")]
    return str(named[0]) if named else ""
