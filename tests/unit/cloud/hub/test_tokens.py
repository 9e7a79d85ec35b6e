"""Join tokens: the worked example of the protocol, and every way to be wrong."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cloud.hub import tokens
from pinnace.core.base.errors import RefusedError

CA, KEY, EXPIRES = b"CADER", b"CAKEYDER", 1_760_086_400
TOKEN = (
    "d372eb4c46ef2c1ff883e04394105176b7e6e2505ad3b6ce30a4565c06cfa3ac.eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    "eyJleHAiOjE3NjAwODY0MDB9.wlD0vjoe0h4XdD1IB91sY89VFkcvEWz3H7GeQflX990"
)
JWT = TOKEN.partition(".")[2]


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(header: object, claims: object, key: bytes = KEY) -> str:
    text = f"{encoded(header)}.{encoded(claims)}"
    return f"{text}.{base64.urlsafe_b64encode(tokens._signature(text.encode(), key)).rstrip(b'=').decode()}"


def test_mints_the_worked_example() -> None:
    assert tokens.mint(CA, KEY, EXPIRES) == TOKEN
    assert tokens.expiry(TOKEN) == EXPIRES


def test_is_good_until_the_second_it_names() -> None:
    tokens.check(JWT, KEY, EXPIRES - 0.001)
    with pytest.raises(RefusedError, match="token is expired"):
        tokens.check(JWT, KEY, EXPIRES)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "token is empty"),
        ("Bearer", "token cannot be split"),
        (f"Bearer  {JWT}", "token cannot be split"),
        (f"Bearer {TOKEN}", "err: token is malformed: token contains an invalid number of segments"),
        (f"Bearer {JWT[:-4]}AAAA", "err: token signature is invalid: signature is invalid"),
        ("Bearer a.b.c", "err: token is malformed"),
        (f"Bearer {'x' * 5000}", "err: token is malformed"),
    ],
)
def test_refuses_in_kubeedges_words(header: str, reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        tokens.check_authorization(header, KEY, 0)
    assert str(caught.value).startswith(reason)


def test_any_first_word_is_accepted_as_upstream_does() -> None:
    tokens.check_authorization(f"Whatever {JWT}", KEY, 0)


@pytest.mark.parametrize(
    "jwt",
    [
        signed({"alg": "none"}, {"exp": EXPIRES}),
        signed({"alg": "RS256"}, {"exp": EXPIRES}),
        signed({"alg": "HS256"}, {"exp": EXPIRES}, b"another key"),
        signed({"alg": "HS256"}, {}),
        signed({"alg": "HS256"}, {"exp": True}),
        signed({"alg": "HS256"}, {"exp": "9999999999"}),
        signed([], {"exp": EXPIRES}),
        signed({"alg": "HS256"}, [EXPIRES]),
    ],
)
def test_forgeries_are_refused(jwt: str) -> None:
    with pytest.raises(RefusedError):
        tokens.check(jwt, KEY, 0)


@given(st.text(max_size=200))
def test_garbage_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(RefusedError):
        tokens.check(text, KEY, 0)
    assert tokens.expiry(text) == 0.0


@given(st.integers(0, len(JWT) - 1), st.characters(codec="ascii"))
def test_one_wrong_character_is_enough(position: int, character: str) -> None:
    if JWT[position] == character:
        return
    changed = JWT[:position] + character + JWT[position + 1 :]
    if position == len(JWT) - 1 and _same_signature(changed):
        return  # the last character of the text carries bits that are no part of the signature
    with pytest.raises(RefusedError):
        tokens.check(changed, KEY, 0)


def _same_signature(jwt: str) -> bool:
    try:
        return tokens._decode(jwt.rpartition(".")[2].encode()) == tokens._decode(JWT.rpartition(".")[2].encode())
    except ValueError:
        return False
