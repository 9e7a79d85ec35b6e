"""The tunnel's messages, byte for byte as KubeEdge's."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.tunnel import frames, heads
from pinnace.core.base.tunnel.frames import Frame, Opening


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(300, frames.DATA, b"hello\n"), bytes.fromhex("ac020368656c6c6f0a")),
        (Frame(300, frames.REMOVE, b""), bytes.fromhex("ac0204")),
        (Frame(0, frames.CLOSE, b"x"), b"\x00\x05x"),
        (Frame(1, frames.LOGS, b"{"), b"\x01\x00{"),
    ],
)
def test_known_messages(frame: Frame, message: bytes) -> None:
    assert frames.encode(*frame) == message
    assert frames.decode(message) == frame


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 7), st.binary(max_size=50))
def test_every_message_comes_back(channel: int, kind: int, data: bytes) -> None:
    assert frames.decode(frames.encode(channel, kind, data)) == Frame(channel, kind, data)


@pytest.mark.parametrize("message", [b"", b"\x01", b"\xff" * 12, b"\x80" * 9 + b"\x02\x01", b"\x01\x80"])
def test_no_messages(message: bytes) -> None:
    with pytest.raises(ValueError):
        frames.decode(message)


@given(st.binary(max_size=60))
def test_anything_is_a_message_or_refused(message: bytes) -> None:
    try:
        frame = frames.decode(message)
    except ValueError:
        return
    assert 0 <= frame.channel < 1 << 64


def test_an_opening_is_gos_url() -> None:
    opening = Opening("GET", "/containerLogs/default/nginx/nginx", "follow=true", (("Accept-Encoding", "gzip"),))
    message = frames.encode_opening(1, frames.LOGS, opening)
    assert message.startswith(b'\x01\x00{"MessID":1,"url":{"Scheme":"http"')
    body = orjson.loads(message[2:])
    assert body["header"] == {"Accept-Encoding": ["gzip"]}
    assert "method" not in body
    assert frames.decode_opening(message[2:]) == opening
    assert b'"method":"POST"' in frames.encode_opening(1, frames.EXEC, Opening("POST", "/exec/a/b/c", "", ()))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"url":{}}', b'{"url":{"Path":"x"}}', b'{"url":{"Path":"/a b"}}', b'{"url":{"Path":"/a\\r\\nX: y"}}',
        b'{"url":{"Path":"/"},"header":["x"]}', b'{"url":{"Path":"/"},"header":{"a":["b\\r\\nc"]}}',
        b'{"url":{"Path":"/"},"method":"GET / HTTP/1.1\\r\\n"}',
    ],
)  # fmt: skip
def test_no_openings(data: bytes) -> None:
    with pytest.raises(ValueError):
        frames.decode_opening(data)


def test_heads() -> None:
    data = b"GET /a%20b?x=1&x=2 HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nX: \xe9\r\n\r\n"
    head = heads.parse(data)
    assert head.is_upgrade
    assert head.opening.path == "/a b"
    assert head.opening.arguments == [("x", "1"), ("x", "2")]
    assert head.all("connection") == ["keep-alive", "Upgrade"]
    assert heads.encode(head) == data
    assert heads.parse(b"HTTP/1.1 404 Not Found\r\n\r\n").status == 404


@pytest.mark.parametrize(
    "data", [b"", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"HTTP/1.1 x y\r\n\r\n"]
)
def test_no_heads(data: bytes) -> None:
    with pytest.raises(ValueError):
        heads.parse(data)
