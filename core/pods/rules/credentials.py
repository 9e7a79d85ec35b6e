"""Registry credentials in secrets, and which of them are for an image (Kubernetes API, imagePullSecrets; docker's config.json)."""

from __future__ import annotations

import base64
import binascii
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from pinnace.core.base.runtime import Credential

CONFIG_JSON: Final = ".dockerconfigjson"
CONFIG: Final = ".dockercfg"
DOCKER_HUB: Final = "docker.io"
_HUB_HOSTS: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.docker.io", "registry.hub.docker.com"})
_API_PREFIXES: Final = ("/v1", "/v2")


def credentials_in(data: Mapping[str, bytes]) -> list[Credential]:
    """Those of a secret of type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg. Raises ValueError, without saying what the
    secret holds."""
    if CONFIG_JSON in data:
        entries = _object(data[CONFIG_JSON], CONFIG_JSON).get("auths")
    elif CONFIG in data:
        entries = _object(data[CONFIG], CONFIG)
    else:
        raise ValueError(f"it has neither {CONFIG_JSON} nor {CONFIG}")
    if not isinstance(entries, dict):
        raise ValueError("it names no registries")  # noqa: TRY004 - what is wrong is the text, not the caller
    return [_credential(str(server), entry) for server, entry in entries.items() if isinstance(entry, dict)]


def matching(credentials: Iterable[Credential], registry: str, repository: str, *, is_mirror: bool = False) -> list[Credential]:
    """Those for a repository of a registry (host[:port], docker.io for Docker Hub), the most particular first. A server's host may have *
    in its parts, and its path must begin the repository's. One without a server is for any registry, but never for a mirror."""
    host = _address(registry)
    found = [each for each in credentials if (_is_for(_address(each.server), host, repository) if each.server else not is_mirror)]
    return sorted(found, key=lambda each: each.server, reverse=True)


def _is_for(server: str, host: str, path: str) -> bool:
    own_host, _, own_path = server.partition("/")
    if not _hosts_match(own_host, host):
        return False
    return not own_path or path == own_path or path.startswith(own_path + "/")


def _hosts_match(pattern: str, host: str) -> bool:
    name, _, port = pattern.partition(":")
    other_name, _, other_port = host.partition(":")
    parts, other_parts = name.split("."), other_name.split(".")
    return (
        port == other_port
        and len(parts) == len(other_parts)
        and all(fnmatch.fnmatchcase(other, each) for each, other in zip(parts, other_parts, strict=True))
    )


def _address(server: str) -> str:
    """host[:port][/path] of a key in the file, which may be written as an address of a registry's API."""
    address = server.partition("://")[2] or server
    host, slash, path = address.strip("/").partition("/")
    if host.lower() in _HUB_HOSTS:
        host = DOCKER_HUB
    for prefix in _API_PREFIXES:
        if f"/{path}" == prefix or f"/{path}".startswith(prefix + "/"):
            path = path[len(prefix) :].strip("/")
    return f"{host.lower()}{slash if path else ''}{path}"


def _credential(server: str, entry: Mapping[str, Any]) -> Credential:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            username, _, password = base64.b64decode(str(entry["auth"])).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError(f"its entry for {server} has no readable auth") from None
    return Credential(_address(server), username, password, str(entry.get("identitytoken") or ""))


def _object(text: bytes, key: str) -> dict[str, Any]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError(f"its {key} is no JSON") from None
    if not isinstance(content, dict):
        raise ValueError(f"its {key} is no JSON object")  # noqa: TRY004
    return content
