"""Namespaces: each gets its default service account and the root certificate; one that ends is emptied, then removed."""

from __future__ import annotations

from pinnace.cloud.standalone.controllers.rounds import Rounds
from pinnace.cloud.standalone.deletion import DeleteOptions, Deletion
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.state import Change, Object, Table
from pinnace.cloud.standalone.status import ApiError

EMPTIED_SECONDS = 2.0
"""Between two looks at a namespace in which something is left."""
ROOT_CA = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or "
    "kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)
_WATCHED = frozenset({"namespaces", "serviceaccounts", "configmaps"})


class Namespaces:
    def __init__(self, objects: Objects, deletion: Deletion, ca_pem: bytes) -> None:
        self._objects = objects
        self._deletion = deletion
        self._ca_pem = ca_pem.decode()
        self._rounds: Rounds[str] = Rounds("namespace", self._reconcile)
        for item in objects.state.table("namespaces").items(""):
            self._rounds.touch(item.name)
        objects.state.subscribe_all(self._changed)

    def _changed(self, table: Table, change: Change) -> None:
        item = change.item
        if table.resource == "namespaces":
            self._rounds.touch(item.name)
        elif table.resource in _WATCHED and item.name in {"default", ROOT_CA} and change.type != "ADDED":
            self._rounds.touch(item.namespace)
        elif change.type == "DELETED":
            namespace = self._objects.state.table("namespaces").get("", item.namespace)
            if namespace is not None and b'"deletionTimestamp"' in namespace.body:
                self._rounds.touch(item.namespace)

    async def run(self) -> None:
        await self._rounds.run()

    def _kind(self, plural: str) -> Kind:
        kind = self._objects.registry.get("", "v1", plural)
        assert kind is not None
        return kind

    async def _reconcile(self, name: str) -> float | None:
        item = self._objects.state.table("namespaces").latest("", name)
        if item is None:
            return None
        obj = item.decode()
        if "deletionTimestamp" in obj["metadata"]:
            return await self._empty(name)
        await self._ensure("serviceaccounts", name, "default", {})
        content = {"data": {"ca.crt": self._ca_pem}}
        await self._ensure("configmaps", name, ROOT_CA, content, {"kubernetes.io/description": DESCRIPTION})
        return None

    async def _ensure(self, plural: str, namespace: str, name: str, content: Object, annotations: dict[str, str] | None = None) -> None:
        item = self._objects.state.table(plural).latest(namespace, name)
        kind = self._kind(plural)
        if item is None:
            metadata: Object = {"name": name}
            if annotations:
                metadata["annotations"] = annotations
            await self._objects.create(kind, {"metadata": metadata, **content}, namespace)
        elif content and any(item.decode().get(key) != value for key, value in content.items()):
            await self._objects.change(kind, name, namespace, lambda old: {**old, **content})

    async def _empty(self, name: str) -> float | None:
        """Delete what is inside; with nothing left, take away the namespace's own finalizer. When to look again."""
        left: dict[str, int] = {}
        finalizers: dict[str, int] = {}
        for kind in self._objects.registry.stored():
            if not kind.namespaced:
                continue
            table = self._objects.state.table(kind.table)
            for item in list(table.items(name)):
                try:
                    grace = DeleteOptions(policy="Background")
                    await self._deletion.delete(kind, item.name, name, grace)
                except ApiError as error:
                    if error.code != 404:
                        raise
            remaining = [item.decode()["metadata"] for item in table.items(name)]
            if remaining:
                left[f"{kind.plural}.{kind.group}" if kind.group else f"{kind.plural}."] = len(remaining)
            for metadata in remaining:
                for each in metadata.get("finalizers", ()):
                    finalizers[each] = finalizers.get(each, 0) + 1
        kind = self._kind("namespaces")
        if left:
            conditions = _conditions(left, finalizers)
            await self._objects.change(kind, name, "", lambda obj: _with_conditions(obj, conditions), subresource="status")
            return EMPTIED_SECONDS

        def emptied(obj: Object) -> Object:
            obj["spec"] = {
                **(obj.get("spec") or {}),
                "finalizers": [each for each in obj["spec"].get("finalizers", ()) if each != "kubernetes"],
            }
            return obj

        await self._objects.change(kind, name, "", emptied, subresource="finalize")
        return None


def _conditions(left: dict[str, int], finalizers: dict[str, int]) -> list[Object]:
    resources = ", ".join(f"{plural} has {count} resource instances" for plural, count in sorted(left.items()))
    held = ", ".join(f"{each} in {count} resource instances" for each, count in sorted(finalizers.items()))
    rows = [
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain", f"Some resources are remaining: {resources}"),
    ]
    if held:
        rows.append(
            (
                "NamespaceFinalizersRemaining",
                "True",
                "SomeFinalizersRemain",
                f"Some content in the namespace has finalizers remaining: {held}",
            )
        )
    else:
        rows.append(("NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", "All content-preserving finalizers finished"))
    return [{"type": kind, "status": status, "reason": reason, "message": message} for kind, status, reason, message in rows]


def _with_conditions(obj: Object, wanted: list[Object]) -> Object:
    before = {each["type"]: each for each in (obj.get("status") or {}).get("conditions") or ()}
    listed = []
    for each in wanted:
        old = before.get(each["type"], {})
        since = old.get("lastTransitionTime") if old.get("status") == each["status"] else None
        listed.append({"type": each["type"], "status": each["status"], "lastTransitionTime": since or now_text(),
                       "reason": each["reason"], "message": each["message"]})  # fmt: skip
    return {**obj, "status": {**(obj.get("status") or {}), "conditions": listed}}
