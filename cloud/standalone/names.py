"""What Kubernetes accepts as names, label keys and values, the words it refuses them with, and the ends of names that are made up.

Source: RFC 1035, RFC 1123; Kubernetes API, object names and labels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, Final

NAME_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Of names that are made up: without vowels and what looks like one, so that they never are a word."""
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_ENDS = "and must start and end with an alphanumeric character"


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} characters"


def _checked(text: str, pattern: str, limit: int, why: str, *examples: str) -> list[str]:
    problems = [_too_long(limit)] if len(text) > limit else []
    if not re.fullmatch(pattern, text):
        shown = "".join(f"'{each}',  or " for each in examples[:-1]) + f"'{examples[-1]}'"
        problems.append(f"{why} (e.g. {shown}, regex used for validation is '{pattern}')")
    return problems


def subdomain(text: str) -> list[str]:
    """What is wrong with a DNS subdomain (most objects' names); nothing when it is right."""
    why = f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ENDS}"
    return _checked(text, _SUBDOMAIN, 253, why, "example.com")


def label(text: str) -> list[str]:
    """What is wrong with a DNS label (namespaces, services, containers)."""
    why = f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ENDS}"
    return _checked(text, _LABEL, 63, why, "my-name", "123-abc")


def dns1035(text: str) -> list[str]:
    """What is wrong with an RFC 1035 label (the names in a custom resource definition)."""
    why = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    return _checked(text, _DNS1035, 63, f"{why}and end with an alphanumeric character", "my-name", "abc-123")


def qualified_name(text: str) -> list[str]:
    """What is wrong with a label's or annotation's key: an optional DNS prefix and a slash, then a name."""
    prefix, slash, name = text.rpartition("/")
    problems: list[str] = []
    if "/" in prefix:
        shape = "must consist of alphanumeric characters, '-', '_' or '.', "
        return [
            f"a qualified name {shape}{_ENDS} (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME_PART}')"
            " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    if slash:
        problems += [f"prefix part {each}" for each in (subdomain(prefix) if prefix else ["must be non-empty"])]
    if not name:
        problems.append("name part must be non-empty")
    why = f"must consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
    return problems + [f"name part {each}" for each in _checked(name, _NAME_PART, 63, why, "MyName", "my.name", "123-abc")]


def label_value(text: str) -> list[str]:
    """What is wrong with a label's value."""
    why = f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
    return _checked(text, _VALUE, 63, why, "MyValue", "my_value", "12345")


def config_key(text: str) -> list[str]:
    """What is wrong with a key in a ConfigMap or Secret."""
    if text in {".", ".."}:
        return [f"must not be '{text}'"]
    why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    return _checked(text, _CONFIG_KEY, 253, why, "key.name", "KEY_NAME", "key-name")


def env_name(text: str) -> list[str]:
    """What is wrong with an environment variable's name."""
    why = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
    why += "and must not start with a digit"
    return _checked(text, _ENV_NAME, 1 << 20, why, "my.env-name", "MY_ENV.NAME", "MyEnvName1")


RULES = {"subdomain": subdomain, "label": label}
"""A kind's `name_rule` → its check."""


def asked_name(metadata: Mapping[str, Any]) -> str:
    """What the maker of a new object calls it. In a refusal a made up name would be another one each time, for an object there never is."""
    return str(metadata.get("generateName") or metadata["name"])


def random_suffix() -> str:
    """The end of a generated name."""
    return "".join(random.choices(NAME_LETTERS, k=5))  # noqa: S311 - a name, not a secret
