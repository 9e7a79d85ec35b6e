"""Which node a device belongs to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pinnace.cloud.admission.residue import V1ALPHA1, read_residue
from pinnace.cloud.ports import Object


def matches(expressions: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Whether all expressions of one node selector term hold (Kubernetes API, core/v1 NodeSelectorTerm). A term without expressions
    matches nothing."""
    is_empty = True
    for expression in expressions:
        is_empty = False
        key, operator, values = expression.get("key", ""), expression.get("operator", "In"), expression.get("values") or ()
        value = labels.get(key)
        match operator:
            case "In":
                holds = value in values
            case "NotIn":
                holds = value not in values
            case "Exists":
                holds = value is not None
            case "DoesNotExist":
                holds = value is None
            case "Gt" | "Lt":
                holds = _compares(operator, value, values)
            case _:
                holds = False
        if not holds:
            return False
    return not is_empty


def _compares(operator: str, value: str | None, values: Iterable[str]) -> bool:
    try:
        number, bound = int(value or ""), int(next(iter(values)))
    except (ValueError, StopIteration):
        return False
    return number > bound if operator == "Gt" else number < bound


def selector_of(device: Object) -> Mapping[str, Any] | None:
    """The v1alpha1 node selector of a stored device, None when it has none or its nodeName was changed since."""
    selector = read_residue(device, V1ALPHA1).get("nodeSelector")
    if not isinstance(selector, dict):
        return None
    return selector if first_value(selector) == (device.get("spec") or {}).get("nodeName", "") else None


def first_value(selector: Mapping[str, Any]) -> str:
    """The first value of a node selector: KubeEdge 1.1 takes it for the node's name."""
    for term in selector.get("nodeSelectorTerms") or ():
        for expression in term.get("matchExpressions") or ():
            for value in expression.get("values") or ():
                return str(value)
    return ""


def terms_of(device: Object) -> list[Any]:
    """The expressions of each term of the device's node selector, [] without one."""
    selector = selector_of(device) or {}
    return [term.get("matchExpressions") or () for term in selector.get("nodeSelectorTerms") or ()]


def selects(terms: Iterable[Any], labels: Mapping[str, str] | None) -> bool:
    """Whether one of the terms (`terms_of`) matches a node's labels; None stands for a node that is not there."""
    return labels is not None and any(matches(term, labels) for term in terms)


def node_of(device: Object, nodes: Mapping[str, Mapping[str, str]], *, current: str = "") -> str:
    """The name of the device's node, "" for none: spec.nodeName, or what the v1alpha1 node selector matches among `nodes` (name →
    labels). Of several matching nodes it is the one it is on (`current`), else the first by name; where none matches, the selector's
    first value is taken as a name."""
    terms = terms_of(device)
    if selects(terms, nodes.get(current)):
        return current
    found = min((name for name, labels in nodes.items() if selects(terms, labels)), default="") if terms else ""
    return found or str((device.get("spec") or {}).get("nodeName") or "")
