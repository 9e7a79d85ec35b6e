"""What is asked: the parts of a request below HTTP, and the parsing of its path (Kubernetes API, resource URIs)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from pinnace.cloud.standalone.kinds import Kind, Subresource
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.status import PlainError, bad_request, method_not_allowed, no_such_resource
from pinnace.core.base.tunnel.duplex import Duplex


@dataclass(frozen=True, slots=True)
class User:
    """Who asks, as the certificate or token says."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict)


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(slots=True)
class Request:
    """One request. Header names are lower case; the path is decoded, the query's first value of each name wins."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: User = ANONYMOUS
    warnings: list[str] = field(default_factory=list)
    raw_headers: tuple[tuple[str, str], ...] = ()
    """As they came, for requests that are passed on."""
    arguments: tuple[tuple[str, str], ...] = ()
    """The whole query, in order, with names that come more than once."""

    def flag(self, name: str) -> bool:
        return self.query.get(name, "") in {"true", "1", "True", "TRUE", "t", "T"}


@dataclass(slots=True)
class Answer:
    """A whole answer; `stream` yields the chunks of a watch in place of `body`."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None
    abandon: Callable[[], None] = lambda: None
    """Set by the HTTP layer: cut the connection of a stream whose client cannot keep up."""
    is_patient: bool = False
    """A stream whose client may be slow: it slows its source and is not cut off."""
    upgraded: Duplex | None = None
    """With status 101: `body` is the whole head as the other side wrote it, and from then on bytes are only carried."""


@dataclass(frozen=True, slots=True)
class Target:
    """The resource part of a path: a collection when `name` is "", all namespaces when `namespace` is None for a namespaced kind."""

    kind: Kind
    namespace: str | None
    name: str
    subresource: Subresource | None
    verb: str

    @property
    def scope(self) -> str:
        """The namespace objects of this target live in, "" at cluster scope."""
        return self.namespace or ""


def split(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def target_of(request: Request, registry: Registry) -> Target:
    """Read `/api/v1/...` or `/apis/G/V/...`. Raises PlainError for what no group serves, ApiError 404 and 405 within a known one."""
    parts = split(request.path)
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    is_old_watch = rest[0] == "watch" and len(rest) > 1
    if is_old_watch:
        rest = rest[1:]
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) > 2 and not (len(rest) == 3 and rest[2] in {"status", "finalize"} and not group):
        namespace, rest = rest[1], rest[2:]
    plural, name, sub = rest[0], rest[1] if len(rest) > 1 else "", "/".join(rest[2:])
    kind = registry.get(group, version, plural)
    is_open = group == "" or registry.is_built_in_group(group)
    if kind is None or (namespace is not None and not kind.namespaced):
        raise no_such_resource() if is_open and (group or version == "v1") else PlainError()
    if kind.namespaced and namespace is None and (name or request.method == "POST") and "get" in kind.verbs:
        raise PlainError() if kind.is_custom else (method_not_allowed() if not name else no_such_resource())
    subresource = kind.subresource(sub) if sub else None
    if sub and subresource is None:
        if kind.table == "pods" and sub.split("/")[0] == "proxy":
            subresource = Subresource("proxy", ("get", "create"))
        else:
            raise PlainError() if kind.is_custom else no_such_resource()
    if request.method == "POST" and name and subresource is None:
        raise method_not_allowed()
    verb = _verb(request, name, is_watch=is_old_watch or (request.flag("watch") and not name))
    if verb not in (subresource.verbs if subresource is not None else kind.verbs):
        raise method_not_allowed()
    if verb == "watch" and name:
        request.query = {**request.query, "fieldSelector": f"metadata.name={name}"}
        name = ""
    return Target(kind, namespace, name, subresource, verb)


def _verb(request: Request, name: str, *, is_watch: bool) -> str:
    match request.method:
        case "GET":
            return "watch" if is_watch else "get" if name else "list"
        case "POST":
            return "create"
        case "PUT" if name:
            return "update"
        case "PATCH" if name:
            return "patch"
        case "DELETE":
            return "delete" if name else "deletecollection"
        case _:
            raise method_not_allowed()


def integer(request: Request, name: str) -> int | None:
    """A whole number among the query parameters; None when it is absent."""
    text = request.query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
