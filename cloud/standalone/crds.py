"""Custom resource definitions at work: names accepted or refused, versions served, objects deleted with their definition."""

from __future__ import annotations

import logging
from typing import Any

from pinnace.cloud.standalone import schema
from pinnace.cloud.standalone.admission import CLEANUP, DEFINITIONS, KindRules, storage_version
from pinnace.cloud.standalone.controllers.podfacts import condition
from pinnace.cloud.standalone.controllers.rounds import Rounds
from pinnace.cloud.standalone.deletion import DeleteOptions, Deletion
from pinnace.cloud.standalone.kinds import SCALE, STATUS, Kind
from pinnace.cloud.standalone.objects import Objects, equal, now_text
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)

EMPTIED_SECONDS = 1.0
"""Between two looks at a definition that ends and of which objects are left."""
_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


def kinds_of(definition: Object) -> list[Kind]:
    """The served versions of a definition."""
    spec = definition["spec"]
    names = spec["names"]
    kinds = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        subs = version.get("subresources") or {}
        kinds.append(Kind(
            spec["group"], version["name"], names["plural"], names["kind"], namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames") or ()), categories=tuple(names.get("categories") or ()), verbs=_VERBS,
            subresources=tuple(sub for sub, is_on in ((STATUS, "status" in subs), (SCALE, "scale" in subs)) if is_on),
            has_generation=True, has_status="status" in subs, singular=names.get("singular", ""), list_kind=names.get("listKind", ""),
            storage=f"{names['plural']}.{spec['group']}", storage_version=storage_version(definition), is_custom=True, definition=version,
        ))  # fmt: skip
    return kinds


class Definitions:
    """Keeps the registry equal to the definitions; `run` does what takes longer: conditions and clean-up."""

    def __init__(self, objects: Objects, registry: Registry, rules: KindRules, deletion: Deletion) -> None:
        self._objects = objects
        self._registry = registry
        self._rules = rules
        self._deletion = deletion
        self._rounds: Rounds[str] = Rounds("crd", self._reconcile)
        kind = registry.get("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert kind is not None
        self._kind = kind
        rules.definition_stored = self._stored
        for item in objects.state.table(DEFINITIONS).items(""):
            self._stored(item.decode())

    def _stored(self, definition: Object) -> None:
        name = definition["metadata"]["name"]
        self._objects.views.forget()
        if self._objects.state.table(DEFINITIONS).latest("", name) is None:
            self._unserve(definition)
            self._touch_refused()
            return
        self._serve(definition)
        self._rounds.touch(name)

    def _touch_refused(self) -> None:
        """A name may have become free."""
        for item in self._objects.state.table(DEFINITIONS).items(""):
            if condition(item.decode(), "NamesAccepted").get("status") != "True":
                self._rounds.touch(item.name)

    def _serve(self, definition: Object) -> None:
        spec = definition["spec"]
        key = (spec["group"], spec["names"]["plural"])
        if condition(definition, "Established").get("status") != "True":
            return
        kinds = kinds_of(definition)
        for version in spec["versions"]:
            compiled = schema.compile(version)
            self._rules.schemas[spec["group"], version["name"], spec["names"]["plural"]] = compiled
        self._registry.set_custom(definition["metadata"]["name"], kinds)
        if "deletionTimestamp" in definition["metadata"]:
            self._rules.terminating.add(key)
        else:
            self._rules.terminating.discard(key)

    def _unserve(self, definition: Object) -> None:
        spec = definition["spec"]
        self._registry.set_custom(definition["metadata"]["name"], [])
        self._rules.terminating.discard((spec["group"], spec["names"]["plural"]))
        for version in spec["versions"]:
            self._rules.schemas.pop((spec["group"], version["name"], spec["names"]["plural"]), None)
        logger.info("api.crd.removed name=%s", definition["metadata"]["name"])

    async def run(self) -> None:
        await self._rounds.run()

    async def _reconcile(self, name: str) -> float | None:
        item = self._objects.state.table(DEFINITIONS).latest("", name)
        if item is None:
            return None
        definition = item.decode()
        if "deletionTimestamp" in definition["metadata"]:
            return await self._terminate(definition)
        status = self._wanted_status(definition)
        if not equal(status, definition.get("status")):
            await self._objects.change(self._kind, name, "", lambda obj: {**obj, "status": self._wanted_status(obj)}, subresource="status")
            logger.info("api.crd.reconciled name=%s established=%s", name, condition({"status": status}, "Established").get("status"))
        return None

    def _wanted_status(self, definition: Object) -> Object:
        names = definition["spec"]["names"]
        refusal = self._refusal(definition)
        status: Object = dict(definition.get("status") or {})
        was_established = condition(definition, "Established").get("status") == "True"
        if refusal:
            accepted = {"type": "NamesAccepted", "status": "False", **refusal}
            established: Any = {"type": "Established", "status": "False", "reason": "NotAccepted", "message": "not all names are accepted"}
        else:
            accepted = {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found"}
            message = "the initial names have been accepted"
            established = {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": message}
            status["acceptedNames"] = dict(names)
        if was_established and refusal:
            established = condition(definition, "Established")
        status["conditions"] = [_kept(definition, each) for each in (accepted, established)]
        status.setdefault("acceptedNames", {"plural": "", "kind": ""})
        return status

    def _refusal(self, definition: Object) -> Object:
        """Why the names cannot be had; {} when they can. The group's kind, list kind, singular, plural and short names are one space."""
        name, spec = definition["metadata"]["name"], definition["spec"]
        kinds: set[str] = set()
        resources: set[str] = set()
        for item in self._objects.state.table(DEFINITIONS).items(""):
            other = item.decode()
            if item.name == name or other["spec"]["group"] != spec["group"] or condition(other, "NamesAccepted").get("status") != "True":
                continue
            accepted = other["status"]["acceptedNames"]
            kinds |= {accepted["kind"], accepted.get("listKind", "")}
            resources |= {accepted["plural"], accepted.get("singular", ""), *(accepted.get("shortNames") or ())}
        names = spec["names"]
        checks = [("PluralConflict", names["plural"], resources), ("SingularConflict", names.get("singular", ""), resources)]
        checks += [("ShortNamesConflict", each, resources) for each in names.get("shortNames") or ()]
        checks += [("KindConflict", names["kind"], kinds), ("ListKindConflict", names.get("listKind", ""), kinds)]
        found: Object = {}
        for reason, word, taken in checks:
            if word and word in taken:
                found = {"reason": reason, "message": f'"{word}" is already in use'}
        return found

    async def _terminate(self, definition: Object) -> float | None:
        """Delete the objects; when none is left, let the definition go. When to look again."""
        name = definition["metadata"]["name"]
        if condition(definition, "Terminating").get("status") != "True":
            ending = {"type": "Terminating", "status": "True", "reason": "InstanceDeletionInProgress",
                      "message": "CustomResource deletion is in progress"}  # fmt: skip
            await self._objects.change(self._kind, name, "", lambda obj: _with_condition(obj, ending), subresource="status")
            return None
        kinds = kinds_of(definition)
        table = self._objects.state.table(f"{definition['spec']['names']['plural']}.{definition['spec']['group']}")
        if kinds:
            for item in list(table.items(None)):
                try:
                    await self._deletion.delete(kinds[0], item.name, item.namespace, DeleteOptions())
                except ApiError as error:
                    if error.code != 404:
                        raise
        if table.count():
            return EMPTIED_SECONDS

        def released(obj: Object) -> Object:
            obj["metadata"]["finalizers"] = [each for each in obj["metadata"].get("finalizers", []) if each != CLEANUP]
            return obj

        await self._objects.change(self._kind, name, "", released)
        return None


def _kept(definition: Object, wanted: Object) -> Object:
    """The condition, with its transition time kept while its status is the same."""
    before = condition(definition, wanted["type"])
    is_same = before.get("status") == wanted["status"]
    return {
        "type": wanted["type"],
        "status": wanted["status"],
        "lastTransitionTime": before["lastTransitionTime"] if is_same else now_text(),
        "reason": wanted["reason"],
        "message": wanted["message"],
    }


def _with_condition(obj: Object, wanted: Object) -> Object:
    status = dict(obj.get("status") or {})
    others = [each for each in status.get("conditions") or () if each["type"] != wanted["type"]]
    return {**obj, "status": {**status, "conditions": [*others, _kept(obj, wanted)]}}
