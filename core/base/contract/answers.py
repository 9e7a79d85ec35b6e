"""The cloud's answers to requests for objects (docs/protocol.md, Node, status, lease), in every form KubeEdge gives them."""

from __future__ import annotations

from typing import Any

from pinnace.core.base.contract.envelopes import Operation, body_text, load_body
from pinnace.core.base.errors import RemoteError
from pinnace.ext.records import Envelope

Object = dict[str, Any]


def object_of(answer: Envelope) -> Object:
    """The object an answer carries; {} for a bare "OK". Raises RemoteError for a refusal, whatever its form.

    `Err` counts before `Object`, an `Err` that says nothing is a failure all the same, and a bare Status too.
    """
    if answer.operation == Operation.ERROR:
        text = body_text(answer)[:300].decode(errors="replace")
        is_missing = "not found" in text
        raise RemoteError(text, reason="NotFound" if is_missing else "InternalError", code=404 if is_missing else 500)
    try:
        content = load_body(answer)
    except ValueError as error:
        raise RemoteError("the cloud's answer is no JSON", reason="InternalError") from error
    if content == "OK":
        return {}
    if not isinstance(content, dict):
        raise RemoteError(f"unexpected answer {str(content)[:100]!r}", reason="InternalError")
    if "ErrStatus" in content:
        raise _refusal(content)
    if "Err" in content or "Object" in content:
        if content.get("Err") is not None:
            raise _refusal(content["Err"])
        content = content.get("Object")
        if not isinstance(content, dict):
            raise RemoteError("the answer has neither object nor error", reason="InternalError")
    return content


def _refusal(error: Any) -> RemoteError:
    status = error.get("ErrStatus") if isinstance(error, dict) else None
    if not isinstance(status, dict):
        return RemoteError(f"the cloud could not do it: {str(error)[:200]}", reason="InternalError")
    message = str(status.get("message") or "the cloud gave no reason")
    code = status.get("code")
    return RemoteError(message, reason=str(status.get("reason") or "InternalError"), code=code if isinstance(code, int) else 500)
