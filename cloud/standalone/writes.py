"""create, update and patch as requests: body formats, options, field validation, the three kinds of patch."""

from __future__ import annotations

import json
from typing import Any

import orjson

from pinnace.cloud.standalone import patching
from pinnace.cloud.standalone.bodies import cannot_handle, decode_patch, duplicate_keys, typed_object
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import JSON, Form, content_type, negotiate, rendered, unknown_format
from pinnace.cloud.standalone.objects import Make, Objects
from pinnace.cloud.standalone.requests import Answer, Request, Target
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError, Cause, bad_request, go_word, invalid, invalid_option
from pinnace.cloud.standalone.views import shaped

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCHES = frozenset({"application/apply-patch+yaml", "application/apply-patch+cbor"})
_LEVELS = ("", "Ignore", "Strict", "Warn")


class Options:
    """The query parameters of a write: dryRun, fieldValidation, fieldManager. `kind` names them in messages."""

    def __init__(self, request: Request, kind: str) -> None:
        dry_run = request.query.get("dryRun", "")
        if dry_run not in {"", "All"}:
            why = f'Unsupported value: ["{dry_run}"]: supported values: "All"'
            raise invalid_option(kind, Cause("FieldValueNotSupported", why, "dryRun"))
        level = request.query.get("fieldValidation", "")
        if level not in _LEVELS:
            why = f'Unsupported value: "{level}": supported values: "", "Ignore", "Strict", "Warn"'
            raise invalid_option(kind, Cause("FieldValueNotSupported", why, "fieldValidation"))
        manager = request.query.get("fieldManager", "")
        if len(manager) > 128:
            raise invalid_option(kind, Cause("FieldValueTooLong", "Too long: may not be more than 128 bytes", "fieldManager"))
        self.dry_run = dry_run == "All"
        self.level = level or "Warn"


class Writes:
    """Answers create, update and patch of objects and of their status."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def create(self, request: Request, target: Target) -> Answer:
        form, as_yaml = negotiate(request, Form.TABLE, Form.PARTIAL)
        kind, options = target.kind, Options(request, "CreateOptions")
        obj = self.decode(request, kind, options)
        created = await self._objects.create(kind, obj, target.scope, dry_run=options.dry_run)
        return self._shown(request, kind, created, form, as_yaml=as_yaml, status=201)

    async def update(self, request: Request, target: Target) -> Answer:
        form, as_yaml = negotiate(request, Form.TABLE, Form.PARTIAL)
        kind, options = target.kind, Options(request, "UpdateOptions")
        obj = self.decode(request, kind, options)
        written = await self._objects.change(
            kind, target.name, target.scope, lambda old: orjson.loads(orjson.dumps(obj)), subresource=_sub(target), dry_run=options.dry_run,
            is_patch=False,
        )  # fmt: skip
        return self._shown(request, kind, written.obj, form, as_yaml=as_yaml)

    async def patch(self, request: Request, target: Target) -> Answer:
        form, as_yaml = negotiate(request, Form.TABLE, Form.PARTIAL)
        kind, options = target.kind, Options(request, "PatchOptions")
        make = self.patcher(request, kind, options)
        written = await self._objects.change(kind, target.name, target.scope, make, subresource=_sub(target), dry_run=options.dry_run)
        return self._shown(request, kind, written.obj, form, as_yaml=as_yaml)

    def _shown(self, request: Request, kind: Kind, obj: Object, form: Form, *, as_yaml: bool, status: int = 200) -> Answer:
        body = shaped(kind, orjson.dumps(obj), form, request.query.get("includeObject", ""))
        return rendered(request, body, status=status, as_yaml=as_yaml)

    def decode(self, request: Request, kind: Kind, options: Options) -> Object:
        """The object in a POST or PUT body, its type checked and its unknown fields refused, told or dropped."""
        obj = typed_object(request, kind)
        duplicates = duplicate_keys(request.body) if options.level == "Strict" and content_type(request) in {"", JSON} else []
        self._unknown(request, kind, obj, options, duplicates)
        return obj

    def _unknown(self, request: Request, kind: Kind, obj: Object, options: Options, duplicates: list[str]) -> None:
        unknown = self._objects.admission.unknown_fields(kind, obj)
        texts = [*(f'duplicate field "{path}"' for path in duplicates), *(f'unknown field "{path}"' for path in unknown)]
        if texts and options.level == "Strict":
            raise cannot_handle(kind, f"strict decoding error: {', '.join(texts)}")
        if options.level == "Warn":
            request.warnings += texts

    def patcher(self, request: Request, kind: Kind, options: Options) -> Make:
        """The function that applies the request's patch. Raises 400 and 415."""
        media = content_type(request)
        if media in APPLY_PATCHES:
            raise ApiError(
                415, "server-side apply is not supported by this server; use client-side apply (kubectl apply without --server-side)"
            )
        if media not in {JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH}:
            raise ApiError(415, "415: Unsupported Media Type", details={})
        if request.query.get("force"):
            why = "Forbidden: may not be specified for non-apply patch"
            raise invalid_option("PatchOptions", Cause("FieldValueForbidden", why, "force"))
        if media == STRATEGIC_PATCH and kind.is_custom:
            raise unknown_format(JSON_PATCH, MERGE_PATCH, "application/apply-patch+yaml")
        patch = decode_patch(request.body)
        wanted = "[]handlers.jsonPatchOp" if media == JSON_PATCH else "map[string]interface {}"
        if not isinstance(patch, list if media == JSON_PATCH else dict):
            raise bad_request(f"error decoding patch: json: cannot unmarshal {go_word(patch)} into Go value of type {wanted}")

        def make(old: Object) -> Object:
            new: Any
            if isinstance(patch, list):
                new = patching.apply_json(old, patch)
            elif media == MERGE_PATCH:
                new = patching.apply_merge(old, patch)
            else:
                new = patching.apply_strategic(old, patch, kind)
            return self._patched(request, kind, new, options)

        return make

    def _patched(self, request: Request, kind: Kind, new: Any, options: Options) -> Object:
        """A patch's result must decode like a body; what does not is told as 422 on `patch`."""
        shown = orjson.dumps(new).decode()
        try:
            if not isinstance(new, dict):
                raise bad_request(f"json: cannot unmarshal {go_word(new)} into Go value of type {kind.kind}")
            unknown = self._objects.admission.unknown_fields(kind, new)
        except ApiError as error:
            if error.code != 400:
                raise
            why = error.message.partition(f"cannot be handled as a {kind.kind}: ")[2] or error.message
            raise _bad_patch(shown, why) from error
        texts = [f'unknown field "{path}"' for path in unknown]
        if texts and options.level == "Strict":
            raise _bad_patch(shown, f"strict decoding error: {', '.join(texts)}")
        if options.level == "Warn":
            request.warnings += [text for text in texts if text not in request.warnings]
        return new


def _bad_patch(shown: str, why: str) -> ApiError:
    return invalid("", "", "", [Cause("FieldValueInvalid", f"Invalid value: {json.dumps(shown)}: {why}", "patch")])


def _sub(target: Target) -> str:
    return target.subresource.name if target.subresource is not None else ""
