"""What the server offers, in the legacy and the aggregated form, with an ETag (Kubernetes API, API discovery)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.negotiation import AGGREGATED, Form, negotiate, rendered
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.requests import Answer, Request, split
from pinnace.cloud.standalone.status import PlainError, method_not_allowed, no_such_resource


class Discovery:
    """Answers /api, /apis and the lists below them from the registry."""

    def __init__(self, registry: Registry, address: str) -> None:
        self._registry = registry
        self._address = address

    def answer(self, request: Request) -> Answer | None:
        """The discovery document of this path, or None when the path is a resource."""
        parts = split(request.path)
        if not parts or parts[0] not in {"api", "apis"} or len(parts) > (2 if parts[0] == "api" else 3):
            return None
        if request.method != "GET":
            raise method_not_allowed()
        body, form = self._document(request, parts)
        answer = rendered(request, body)
        if form is Form.DISCOVERY:
            answer.content_type = AGGREGATED
            tag = f'"{hashlib.sha256(answer.body).hexdigest().upper()}"'
            answer.headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
            if request.headers.get("if-none-match") == tag:
                return Answer(304, content_type=AGGREGATED, headers=answer.headers)  # a cache takes over the type of a 304
        return answer

    def _document(self, request: Request, parts: list[str]) -> tuple[dict[str, Any], Form]:
        match parts:
            case ["api"]:
                form, _ = negotiate(request, Form.DISCOVERY)
                if form is Form.DISCOVERY:
                    return self._aggregated({"": ["v1"]}), form
                listed = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
                return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": listed}, form
            case ["apis"]:
                form, _ = negotiate(request, Form.DISCOVERY)
                if form is Form.DISCOVERY:
                    return self._aggregated(self._registry.groups()), form
                groups = [_group(group, versions) for group, versions in sorted(self._registry.groups().items())]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}, form
            case ["apis", group]:
                versions = self._registry.groups().get(group)
                if versions is None:
                    raise PlainError()
                form, _ = negotiate(request)
                return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}, form
            case ["api", version]:
                return self._resources(request, "", version)
            case ["apis", group, version]:
                return self._resources(request, group, version)
            case _:
                raise PlainError()

    def _resources(self, request: Request, group: str, version: str) -> tuple[dict[str, Any], Form]:
        kinds = self._registry.in_version(group, version)
        if not kinds:
            raise no_such_resource() if not group or self._registry.is_built_in_group(group) else PlainError()
        form, _ = negotiate(request)
        resources = [entry for kind in kinds for entry in _entries(kind)]
        named = f"{group}/{version}" if group else version
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": resources}, form

    def _aggregated(self, groups: dict[str, list[str]]) -> dict[str, Any]:
        items = []
        for group, versions in sorted(groups.items()):
            listed = [
                {
                    "version": version,
                    "resources": [_aggregated_entry(kind) for kind in self._registry.in_version(group, version)],
                    "freshness": "Current",
                }
                for version in versions
            ]
            items.append({"metadata": {"name": group} if group else {}, "versions": listed})
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _group(group: str, versions: list[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _names(kind: Kind, entry: dict[str, Any]) -> dict[str, Any]:
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    return entry


def _entries(kind: Kind) -> list[dict[str, Any]]:
    """The legacy list's entries of one resource: itself, then its subresources."""
    main = _names(kind, {
        "name": kind.plural, "singularName": kind.singular_name, "namespaced": kind.namespaced, "kind": kind.kind,
        "verbs": list(kind.verbs),
    })  # fmt: skip
    if "get" in kind.verbs and not kind.is_measured:
        main["storageVersionHash"] = base64.b64encode(hashlib.sha256(f"{kind.group}/{kind.kind}".encode()).digest()[:8]).decode()
    entries = [main]
    for sub in kind.subresources:
        entry: dict[str, Any] = {"name": f"{kind.plural}/{sub.name}", "singularName": "", "namespaced": kind.namespaced}
        if sub.group:
            entry |= {"group": sub.group, "version": sub.version}
        entries.append(entry | {"kind": sub.kind or kind.kind, "verbs": list(sub.verbs)})
    return entries


def _aggregated_entry(kind: Kind) -> dict[str, Any]:
    entry = _names(kind, {
        "resource": kind.plural,
        "responseKind": {"group": "", "version": "", "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular_name,
        "verbs": list(kind.verbs),
    })  # fmt: skip
    if kind.subresources:
        entry["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind or kind.kind},
                "verbs": list(sub.verbs),
            }
            for sub in kind.subresources
        ]
    return entry
