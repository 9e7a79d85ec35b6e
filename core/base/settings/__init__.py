"""KubeEdge-shaped YAML read into frozen dataclasses, with errors that name file, line, key and what was expected."""

from pinnace.core.base.settings.loader import load

__all__ = ["load"]
