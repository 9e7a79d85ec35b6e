"""What representation a client wants and what its body is written in (RFC 9110 section 12; Kubernetes API, alternate representations)."""

from __future__ import annotations

import enum
from typing import Any

import orjson
import yaml

from pinnace.cloud.standalone.requests import Answer, Request
from pinnace.cloud.standalone.status import ApiError, bad_request

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_OFFERED = f"{JSON}, {YAML}, {PROTOBUF}"
MAX_BODY = 3 << 20


class Form(enum.Enum):
    """The shapes an object can be asked for in."""

    OBJECT = "object"
    TABLE = "Table"
    PARTIAL = "PartialObjectMetadata"
    PARTIAL_LIST = "PartialObjectMetadataList"
    DISCOVERY = "APIGroupDiscoveryList"


def _parts(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Media ranges in the client's order of preference, with their parameters."""
    ranged: list[tuple[float, str, dict[str, str]]] = []
    for part in accept.split(","):
        media, *rest = [each.strip() for each in part.split(";")]
        parameters = dict(each.split("=", 1) for each in rest if "=" in each)
        try:
            weight = float(parameters.pop("q", "1"))
        except ValueError:
            weight = 0.0
        if media and weight > 0:
            ranged.append((-weight, media, parameters))
    ranged.sort(key=lambda each: each[0])
    return [(media, parameters) for _, media, parameters in ranged]


def negotiate(request: Request, *offered: Form) -> tuple[Form, bool]:
    """The form to answer in, and whether as YAML. `offered` names what is possible beside plain objects. Raises 406."""
    accept = request.headers.get("accept", "")
    if not accept or accept == JSON:
        return Form.OBJECT, False
    is_known = False
    for media, parameters in _parts(accept):
        is_yaml = media in {YAML, "application/x-yaml"}
        if not is_yaml and media not in {JSON, "*/*", "application/*"}:
            is_known = is_known or media == PROTOBUF
            continue
        wanted = parameters.get("as")
        if wanted is None:
            return Form.OBJECT, is_yaml
        is_known = True
        if wanted in {form.value for form in offered} and _is_served(wanted, parameters):
            return Form(wanted), is_yaml
    if is_known:
        raise ApiError(406, f"only the following media types are accepted: {_OFFERED}")
    raise ApiError(406, f"406: Not Acceptable\n\nAvailable representations: {_OFFERED}", details={})


def _is_served(form: str, parameters: dict[str, str]) -> bool:
    if form == Form.DISCOVERY.value:
        return parameters.get("g") == "apidiscovery.k8s.io" and parameters.get("v") == "v2"
    return parameters.get("g") == "meta.k8s.io" and (parameters.get("v") == "v1" or (parameters.get("v") == "v1beta1" and form != "Table"))


def is_pretty(request: Request) -> bool:
    if "pretty" in request.query:
        return request.query["pretty"] not in {"", "0", "false"}
    return request.headers.get("user-agent", "").startswith(("curl", "Wget", "Mozilla/5.0"))


def rendered(request: Request, body: Any, *, status: int = 200, as_yaml: bool = False, headers: dict[str, str] | None = None) -> Answer:
    """An answer with an object (decoded, or its JSON bytes) in it."""
    if as_yaml:
        text = yaml.safe_dump(orjson.loads(body) if isinstance(body, bytes) else body, sort_keys=False, allow_unicode=True)
        return Answer(status, text.encode(), YAML, headers or {})
    if is_pretty(request):
        decoded = orjson.loads(body) if isinstance(body, bytes) else body
        return Answer(status, orjson.dumps(decoded, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), headers=headers or {})
    encoded = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(status, encoded + b"\n", headers=headers or {})


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def unknown_format(*accepted: str) -> ApiError:
    listed = ", ".join(accepted)
    return ApiError(415, f"the body of the request was in an unknown format - accepted media types include: {listed}")


class _Loader(yaml.SafeLoader):
    """YAML in which dates stay text, as Kubernetes reads it."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(body: bytes, media: str, what: str) -> Any:
    """A JSON or YAML body; `what` is the kind the message names. Raises 400."""
    if media in {"", JSON} or media.endswith("+json"):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            shown = body[:64].decode("utf-8", "replace") if body else "<empty>"
            why = "unexpected end of JSON input" if not body or error.pos >= len(body.rstrip()) else str(error)
            prefix = f"the object provided is unrecognized (must be of type {what}): couldn't get version/kind; json parse error"
            raise bad_request(f"{prefix}: {why} ({shown})") from None
    try:
        loaded = yaml.load(body, Loader=_Loader)  # noqa: S506 - the loader derives from SafeLoader
        return orjson.loads(orjson.dumps(loaded, option=orjson.OPT_NON_STR_KEYS))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise bad_request(f"error converting YAML to JSON: {str(error)[:300]}") from None
