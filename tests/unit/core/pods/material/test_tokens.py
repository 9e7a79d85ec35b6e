"""Service-account tokens: fresh when they can be, old rather than none, and never another pod's."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fakes.clock import FakeClock, settle
from fakes.edgeports import FakeObjects
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.envelopes import Envelope, Operation, reply
from pinnace.core.base.errors import LinkError
from pinnace.core.base.pod import Pod
from pinnace.core.pods.material.sources import Queries, SourceMissing
from pinnace.core.pods.material.tokens import Claim, Tokens, claim_of

MINE = Claim("shop", "default", "", 3607, "web", "u-1")


class World:
    """A cloud that gives token-1, token-2, ... bound to who asks."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.objects = FakeObjects()
        self.uplink = FakeUplink(self.give)
        self.uplink.is_up = True
        self.given = 0
        self.seconds = 3607
        self.refusal: Any = None
        self.restart()

    def restart(self) -> None:
        self.queries = Queries(self.uplink, self.clock)
        self.tokens = Tokens(self.objects, self.queries, self.clock)

    def give(self, request: Envelope) -> Envelope:
        if isinstance(self.refusal, Exception):
            raise self.refusal
        if self.refusal is not None:
            return reply(request, self.refusal, group="resource")
        wanted = json.loads(request.body)
        self.given += 1
        spec = wanted["spec"] | {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": self.seconds}
        status = {"token": f"secret-{wanted['spec']['boundObjectRef']['uid']}-{self.given}", "expirationTimestamp": "2027-01-15T09:00:00Z"}
        return reply(request, {"kind": "TokenRequest", "spec": spec, "status": status}, group="resource")


@pytest.fixture
def world() -> World:
    return World()


async def test_the_first_time(world: World) -> None:
    assert await world.tokens.token(MINE) == "secret-u-1-1"
    (asked,) = world.uplink.asked
    assert asked.resource == "shop/serviceaccounttoken/default"
    assert json.loads(asked.body)["spec"] == {
        "audiences": None,
        "expirationSeconds": 3607,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "u-1"},
    }
    assert await world.tokens.token(MINE) == "secret-u-1-1"
    assert len(world.uplink.asked) == 1


async def test_it_survives_a_restart_and_is_not_asked_for_again(world: World) -> None:
    await world.tokens.token(MINE)
    world.restart()
    assert await world.tokens.token(MINE) == "secret-u-1-1"
    assert world.given == 1


@pytest.mark.parametrize(("seconds", "life"), [(3600, 2880.0), (10 * 86400, 86400.0)])
async def test_it_is_renewed_at_four_fifths_of_its_life_or_after_a_day(world: World, seconds: int, life: float) -> None:
    world.seconds = seconds
    await world.tokens.token(MINE)
    await world.clock.advance(life - 1)
    await world.tokens.token(MINE)
    assert world.given == 1
    await world.clock.advance(2)
    assert await world.tokens.token(MINE) == "secret-u-1-1"  # it is still good: nobody waits
    await settle()
    assert await world.tokens.token(MINE) == "secret-u-1-2"
    assert world.given == 2


async def test_an_expired_one_is_served_while_the_cloud_is_away(world: World) -> None:
    await world.tokens.token(MINE)
    world.uplink.disconnect()
    world.restart()
    await world.clock.advance(30 * 86400)
    assert await world.tokens.token(MINE) == "secret-u-1-1"


@pytest.mark.parametrize(
    "refusal",
    [
        LinkError("broken"),
        {"ErrStatus": {"message": "pods web not found", "reason": "NotFound", "code": 404}},
        {"spec": {}, "status": {"token": ""}},
        {"spec": {}},
        "OK",
    ],
)
async def test_an_expired_one_is_served_while_the_cloud_gives_none(world: World, refusal: Any) -> None:
    await world.tokens.token(MINE)
    await world.clock.advance(86400)
    world.refusal = refusal
    assert await world.tokens.token(MINE) == "secret-u-1-1"
    world.refusal = None
    world.queries.forgive()
    assert await world.tokens.token(MINE) == "secret-u-1-2"


async def test_a_fresh_one_takes_the_place_of_an_expired_one_at_once(world: World) -> None:
    await world.tokens.token(MINE)
    await world.clock.advance(86400)
    assert await world.tokens.token(MINE) == "secret-u-1-2"


async def test_a_pod_that_never_had_one_says_what_to_do(world: World) -> None:
    world.uplink.disconnect()
    with pytest.raises(SourceMissing, match=r'service account "shop/default".*cloud cannot be reached.*automountServiceAccountToken'):
        await world.tokens.token(MINE)
    await world.uplink.connect()
    assert await world.tokens.token(MINE) == "secret-u-1-1"


@pytest.mark.parametrize(
    "other",
    [
        MINE._replace(uid="u-2"),
        MINE._replace(uid="u-2", pod="other"),
        MINE._replace(pod="other"),
        MINE._replace(namespace="home"),
        MINE._replace(account="admin"),
        MINE._replace(audience="vault"),
        MINE._replace(seconds=600),
    ],
)
async def test_another_ones_is_never_served(world: World, other: Claim) -> None:
    await world.tokens.token(other)
    world.uplink.disconnect()
    world.restart()
    with pytest.raises(SourceMissing):
        await world.tokens.token(MINE)


async def test_a_clock_that_was_set_back_makes_it_due_but_not_useless(world: World) -> None:
    await world.tokens.token(MINE)
    world.clock.set_wall(world.clock.wall() - 10 * 86400)
    world.uplink.disconnect()
    assert await world.tokens.token(MINE) == "secret-u-1-1"
    await world.uplink.connect()
    await world.tokens.token(MINE)
    await settle()
    assert world.given == 2


async def test_they_go_with_their_pod(world: World) -> None:
    other = MINE._replace(uid="u-2")
    for claim in (MINE, MINE._replace(audience="vault"), other):
        await world.tokens.token(claim)
    assert world.tokens.uids() == {"u-1", "u-2"}
    await world.tokens.forget("u-1")
    assert world.tokens.uids() == {"u-2"}
    assert len(world.objects.stored) == 1
    await world.tokens.forget("u-1")


async def test_nothing_is_asked_at_every_look_while_the_cloud_refuses(world: World) -> None:
    await world.tokens.token(MINE)
    await world.clock.advance(86400)
    world.refusal = {"ErrStatus": {"message": "no", "reason": "Forbidden", "code": 403}}
    for _ in range(60):
        await world.tokens.token(MINE)
        await settle()
        await world.clock.advance(1)
    assert len(world.uplink.asked) < 10


async def test_a_damaged_row_is_asked_for_anew(world: World) -> None:
    await world.tokens.token(MINE)
    (key,) = world.objects.stored
    world.objects.stored[key] = world.objects.stored[key]._replace(body=b'{"token": "x"')
    assert await world.tokens.token(MINE) == "secret-u-1-2"


async def test_a_token_is_in_no_log_and_no_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.tokens.token(MINE)
    await world.clock.advance(86400)
    for refusal in (
        LinkError("broken"),
        {"ErrStatus": {"message": "no", "reason": "Forbidden"}},
        {"status": {"token": 5}, "spec": "secret-x"},
    ):
        world.refusal = refusal
        world.queries.forgive()
        await world.tokens.token(MINE)
        await settle()
    assert "pods.token.stale" in caplog.text
    assert "secret-" not in caplog.text


def test_claims() -> None:
    pod = Pod({"metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}, "spec": {}})
    assert claim_of(pod, {"path": "token", "expirationSeconds": 3607}) == MINE
    assert claim_of(pod, {"path": "t", "audience": "vault"}) == MINE._replace(audience="vault", seconds=3600)


async def test_the_error_operation_is_no_token(world: World) -> None:
    world.uplink.answer = lambda request: reply(request, "secret-text", operation=Operation.ERROR)
    with pytest.raises(SourceMissing):
        await world.tokens.token(MINE)
    assert world.objects.stored == {}
