"""What a mapper may know of its device's model: from deviceProfile.json as KubeEdge mounts it, or from a model in YAML or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pinnace.core.base.errors import ConfigError

MOUNTED = Path("/opt/kubeedge/deviceProfile.json")
"""Where a mapper's pod has the ConfigMap `device-profile-config-<node>` (docs/protocol.md, device profile)."""


@dataclass(frozen=True, slots=True)
class ModelProperty:
    """A property of a model. `default` is its defaultValue, None without one; `kind` is int, string, float, double, boolean or bytes;
    `settings` what a v1beta1 model says under visitors.configData."""

    name: str
    kind: str
    is_writable: bool
    default: str | int | float | bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    properties: tuple[ModelProperty, ...]


def find(name: str, path: Path | None = None) -> Model | None:
    """The model of that name in `path`, or in the mounted profile when no path is given and there is one. Raises ConfigError when a
    given file cannot be used."""
    source = path
    if source is None:
        if not MOUNTED.is_file():
            return None
        source = MOUNTED
    models = load(source)
    for each in models:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in models) or "none"
    raise ConfigError(f"{source}: holds no device model '{name}' (it holds: {known}); give another with --modelname or --profile")


def load(path: Path) -> list[Model]:
    """All models of a file: a deviceProfile.json, or DeviceModel objects in YAML or JSON. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--profile: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text: {error.reason}") from error
    documents = _documents(path, text)
    models: list[Model] = []
    try:
        for each in documents:
            if isinstance(each, dict) and "deviceModels" in each:
                models += [_from_profile(model) for model in each["deviceModels"] or []]
            elif isinstance(each, dict) and each.get("kind") == "DeviceModel":
                models.append(_from_object(each))
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: is no device profile: {type(error).__name__} {error}") from error
    return models


def _documents(path: Path, text: str) -> list[Any]:
    if path.suffix == ".json":
        try:
            return [json.loads(text)]
        except ValueError as error:
            raise ConfigError(f"{path}: is no valid JSON: {error}") from error
    import yaml  # only a mapper that is given a YAML file pays for it

    try:
        return list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is no valid YAML: {error}") from error


def _from_profile(model: dict[str, Any]) -> Model:
    """Layout A: dataType, accessMode and defaultValue beside the name."""
    return Model(
        str(model["name"]),
        tuple(
            ModelProperty(
                str(each["name"]), str(each.get("dataType", "string")), each.get("accessMode") == "ReadWrite", each.get("defaultValue")
            )
            for each in model.get("properties") or []
        ),
    )


def _from_object(model: dict[str, Any]) -> Model:
    declared = (model.get("spec") or {}).get("properties") or []
    return Model(str(model["metadata"]["name"]), tuple(_from_declaration(each) for each in declared))


def _from_declaration(declared: dict[str, Any]) -> ModelProperty:
    """v1alpha1 holds one key under `type`; v1beta1 has the type as a word, visitors, and no default value."""
    name, kind, details = str(declared["name"]), declared.get("type"), declared
    if isinstance(kind, dict):
        kind, given = next(iter(kind.items()), ("string", None))
        details = given or {}
    settings = (declared.get("visitors") or {}).get("configData") or {}
    return ModelProperty(
        name, str(kind or "string").lower(), details.get("accessMode") == "ReadWrite", details.get("defaultValue"), dict(settings)
    )
