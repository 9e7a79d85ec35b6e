"""What files a config map, secret, projected or downward-API volume has. Pure (Kubernetes API, core/v1 Volume)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.pods.material.atomic import File, checked
from pinnace.core.pods.material.tokens import Claim, claim_of
from pinnace.core.pods.rules.env import Surroundings, field_value, resource_value

DEFAULT_MODE: Final = 0o644
TOKEN_MODE: Final = 0o600
KINDS: Final = ("configMap", "secret", "downwardAPI", "projected")
_SOURCES: Final = ("configMap", "secret", "downwardAPI", "serviceAccountToken")


class Needed(NamedTuple):
    """A config map or secret that something is made from."""

    key: ResourceKey
    optional: bool


class Held(NamedTuple):
    """What a volume's files are made from: objects by key (absent: there is none, and it is optional) and tokens. `owner` is the user all
    containers run as, `is_grouped` says that the pod has an fsGroup; both narrow who may read a token."""

    objects: Mapping[ResourceKey, Object]
    tokens: Mapping[Claim, str]
    around: Surroundings
    owner: int | None = None
    is_grouped: bool = False


def needs(pod: Pod, volume: Object) -> Iterator[Needed]:
    """The objects a volume of one of these kinds is made from."""
    for kind, source in _parts(volume):
        if kind in ("configMap", "secret"):
            yield Needed(_key(pod, kind, source), bool(source.get("optional")))


def claims(pod: Pod, volume: Object) -> Iterator[Claim]:
    """The tokens it is made from."""
    for kind, source in _parts(volume):
        if kind == "serviceAccountToken":
            yield claim_of(pod, source)


def files_of(pod: Pod, volume: Object, held: Held) -> dict[str, File]:
    """By path within the volume. Raises ValueError with what is wrong: a key that is not there, a path that leads out, a source no node
    of this kind has."""
    settings = volume.get("projected") or next(volume[kind] for kind in KINDS if kind in volume)
    mode = _mode(settings.get("defaultMode"), DEFAULT_MODE)
    found: dict[str, File] = {}
    for kind, source in _parts(volume):
        match kind:
            case "configMap" | "secret":
                found.update(_object_files(pod, kind, source, held, mode))
            case "downwardAPI":
                found.update(_downward_files(pod, source, held, mode))
            case _:
                found[checked(str(source.get("path", "")))] = _token_file(held, claim_of(pod, source), mode)
    return found


def data_of(obj: Object, kind: str) -> dict[str, bytes]:
    """The `data` of a `configmap` or `secret`, by key. Raises ValueError, without saying what it holds."""
    data = obj.get("data") or {}
    if kind == "secret":
        return {key: _decoded(text, key) for key, text in data.items()}
    return {key: str(text).encode() for key, text in data.items()}


def _parts(volume: Object) -> Iterator[tuple[str, Object]]:
    if "projected" in volume:
        for each in (volume["projected"] or {}).get("sources") or ():
            kind = next((name for name in _SOURCES if each.get(name) is not None), None)
            if kind is None:
                raise ValueError(f"projected source {', '.join(each) or '{}'} is not supported by this node")
            yield kind, each[kind]
        return
    kind = next(name for name in KINDS if name in volume)
    yield kind, volume[kind] or {}


def _key(pod: Pod, kind: str, source: Object) -> ResourceKey:
    return ResourceKey(kind.lower(), pod.namespace, str(source.get("secretName") or source.get("name") or ""))


def _object_files(pod: Pod, kind: str, source: Object, held: Held, mode: int) -> dict[str, File]:
    key = _key(pod, kind, source)
    obj = held.objects.get(key)
    data: dict[str, bytes] = {}
    if obj is not None:
        data = data_of(obj, key.kind)
        data.update({name: _decoded(text, name) for name, text in (obj.get("binaryData") or {}).items()})
    items = source.get("items")
    if not items:
        return {checked(name): File(value, mode) for name, value in data.items()}
    found = {}
    for each in items:
        name = str(each.get("key", ""))
        if name in data:
            found[checked(str(each.get("path", "")))] = File(data[name], _mode(each.get("mode"), mode))
        elif not source.get("optional"):
            raise ValueError(f'{key.kind} "{key.namespace}/{key.name}" has no key {name!r}')
    return found


def _downward_files(pod: Pod, source: Object, held: Held, mode: int) -> dict[str, File]:
    found = {}
    for each in source.get("items") or ():
        if field := each.get("fieldRef"):
            text = field_value(pod, str(field.get("fieldPath", "")), held.around)
        else:
            text = resource_value(pod, Container({}, is_init=False), each.get("resourceFieldRef") or {}, held.around)
        found[checked(str(each.get("path", "")))] = File(text.encode(), _mode(each.get("mode"), mode))
    return found


def _token_file(held: Held, claim: Claim, mode: int) -> File:
    """Only the user the pod runs as may read it, or its group."""
    if held.owner is not None or held.is_grouped:
        mode = TOKEN_MODE
    return File(held.tokens[claim].encode(), mode, held.owner)


def _mode(value: object, otherwise: int) -> int:
    if value is None:
        return otherwise
    if not isinstance(value, int) or not 0 <= value <= 0o777:
        raise ValueError(f"mode: expected a number from 0 to 511 (octal 0777), not {value!r}")
    return value


def _decoded(text: object, key: str) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except binascii.Error:
        raise ValueError(f"key {key!r} is no base64") from None
