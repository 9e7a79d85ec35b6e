"""What the API says when it does not do what was asked: the meta/v1 Status object as an exception (Kubernetes API, meta/v1 Status)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

CONFLICT_TEXT = "the object has been modified; please apply your changes to the latest version and try again"

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    504: "Timeout",
}


class Cause(NamedTuple):
    """One reason for a 422: what is wrong (FieldValueInvalid, FieldValueRequired, ...), in words, and where (`spec.oars`)."""

    reason: str
    message: str
    field: str


class ApiError(Exception):
    """A Status of kind Failure. `details` is None where the API leaves it out; `headers` go into the answer."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = _REASONS.get(code, "") if reason is None else reason
        self.details = details
        self.headers = dict(headers or {})

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


class PlainError(Exception):
    """An answer that is text, not a Status: `404 page not found` for what the API does not know at all."""

    def __init__(self, code: int = 404, text: str = "404 page not found\n") -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def details_of(name: str, group: str, kind: str, causes: Iterable[Cause] = ()) -> dict[str, Any]:
    """The `details` of a Status; empty parts are left out."""
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    listed = [cause_body(cause) for cause in causes]
    if listed:
        details["causes"] = listed
    return details


def cause_body(cause: Cause) -> dict[str, str]:
    body = {"reason": cause.reason, "message": cause.message}
    if cause.field:
        body["field"] = cause.field
    return body


def qualified(group: str, plural: str) -> str:
    """`deployments.apps`, or `pods` in the core group."""
    return f"{plural}.{group}" if group else plural


def success(name: str = "", group: str = "", plural: str = "", uid: str = "", *, code: int = 0) -> dict[str, Any]:
    """A Status of kind Success, as deletes, bindings and evictions answer."""
    body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    details = details_of(name, group, plural)
    if uid:
        details["uid"] = uid
    if details:
        body["details"] = details
    if code:
        body["code"] = code
    return body


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def not_found(group: str, plural: str, name: str) -> ApiError:
    return ApiError(404, f'{qualified(group, plural)} "{name}" not found', details=details_of(name, group, plural))


def no_such_resource() -> ApiError:
    return ApiError(404, "the server could not find the requested resource", details={})


def method_not_allowed() -> ApiError:
    return ApiError(405, "the server does not allow this method on the requested resource", details={})


def already_exists(group: str, plural: str, name: str, *, is_being_deleted: bool = False) -> ApiError:
    message = f'{qualified(group, plural)} "{name}" already exists'
    if is_being_deleted:
        message = f"object is being deleted: {message}"
    return ApiError(409, message, reason="AlreadyExists", details=details_of(name, group, plural))


def conflict(group: str, plural: str, name: str, why: str = CONFLICT_TEXT) -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}'
    return ApiError(409, message, details=details_of(name, group, plural))


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 in the API's words: one cause bare, several in brackets."""
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in dict.fromkeys(causes)]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return ApiError(422, f'{qualified(group, kind)} "{name}" is invalid: {listed}', details=details_of(name, group, kind, causes))


def invalid_option(kind: str, cause: Cause) -> ApiError:
    """422 about a query parameter or an options body: CreateOptions, PatchOptions, DeleteOptions, ListOptions."""
    return invalid("meta.k8s.io", kind, "", [cause])


def forbidden(group: str, plural: str, name: str, why: str, causes: Iterable[Cause] = ()) -> ApiError:
    return ApiError(403, f'{qualified(group, plural)} "{name}" is forbidden: {why}', details=details_of(name, group, plural, causes))


def too_large_version(wanted: int, current: int) -> ApiError:
    details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1}
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    return ApiError(504, message, details=details, headers={"Retry-After": "1"})


def expired(message: str = "The resourceVersion for the provided list is too old.") -> ApiError:
    return ApiError(410, message)


def internal(message: str) -> ApiError:
    """500 without a reason, as the API answers some bad values."""
    return ApiError(500, message, reason="")


def go_word(value: Any) -> str:
    """What Go's JSON decoder calls a value."""
    match value:
        case list():
            return "array"
        case dict():
            return "object"
        case str():
            return "string"
        case bool():
            return "bool"
        case None:
            return "null"
        case _:
            return "number"
