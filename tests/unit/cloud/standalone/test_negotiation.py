"""Accept headers and bodies."""

from __future__ import annotations

import pytest

from pinnace.cloud.standalone.negotiation import Form, negotiate, parse
from pinnace.cloud.standalone.requests import Request
from pinnace.cloud.standalone.status import ApiError

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
V1BETA1 = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"


def asking(accept: str) -> Request:
    return Request("GET", "/", {}, {"accept": accept}, b"")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", (Form.OBJECT, False)),
        ("*/*", (Form.OBJECT, False)),
        ("application/yaml", (Form.OBJECT, True)),
        ("application/vnd.kubernetes.protobuf,application/json", (Form.OBJECT, False)),
        (f"{TABLE},{V1BETA1},application/json", (Form.TABLE, False)),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", (Form.OBJECT, False)),
        ("text/html,application/xhtml+xml,*/*;q=0.8", (Form.OBJECT, False)),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", (Form.PARTIAL, False)),
        ("application/yaml;q=0.5, application/json;q=0.9", (Form.OBJECT, False)),
    ],
)
def test_accept(accept: str, wanted: tuple[Form, bool]) -> None:
    assert negotiate(asking(accept), Form.TABLE, Form.PARTIAL) == wanted


@pytest.mark.parametrize("accept", ["text/html", "application/vnd.kubernetes.protobuf", "application/json;as=Table;v=v9;g=meta.k8s.io"])
def test_nothing_fits(accept: str) -> None:
    with pytest.raises(ApiError) as refused:
        negotiate(asking(accept), Form.TABLE)
    assert refused.value.code == 406


def test_yaml_keeps_dates_as_text() -> None:
    assert parse(b"a: 2026-01-01\nb: yes\n", "application/yaml", "X") == {"a": "2026-01-01", "b": True}


@pytest.mark.parametrize(
    ("body", "media"), [(b"", ""), (b"{", "application/json"), (b"a: [", "application/yaml"), (b"!!python/none", "application/yaml")]
)
def test_bad_bodies(body: bytes, media: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse(body, media, "ConfigMap")
    assert refused.value.code == 400
