"""What every mapper does, whatever is behind it: the sdk's promises, against a real broker."""

from __future__ import annotations

import pytest
from integration.mosquitto import Mosquitto

from pinnace.mappers.sdk import Dialect

from .conftest import Bench, Sample, bench

pytestmark = pytest.mark.mosquitto


async def shown(each: Bench, value: str) -> None:
    """The device has the value and the edge knows it."""
    await each.edge.shows(**{each.sample.name: value})
    assert each.sample.shown() == value


@pytest.mark.parametrize("identity", ["light", "default/light"])
async def test_desired_is_applied_and_reported_in_both_dialects(sample: Sample, shared_broker: Mosquitto, identity: str) -> None:
    async with bench(sample, shared_broker.port, identity=identity) as each:
        for value in sample.values:
            each.edge.desire(**{sample.name: value})
            await shown(each, value)


@pytest.mark.parametrize(("dialect", "identity"), [(Dialect.ONE_LEVEL, "light"), (Dialect.TWO_LEVEL, "default/light")])
async def test_a_given_dialect_is_spoken(sample: Sample, shared_broker: Mosquitto, dialect: Dialect, identity: str) -> None:
    async with bench(sample, shared_broker.port, identity=identity, dialect=dialect, desired={sample.name: sample.values[0]}) as each:
        await shown(each, sample.values[0])


async def test_everything_that_can_be_read_is_reported_after_a_connect(sample: Sample, shared_broker: Mosquitto) -> None:
    async with bench(sample, shared_broker.port) as each:
        readable = {item.name for item in sample.device if item.read is not None}
        await each.edge.until(lambda: readable <= each.edge.reported.keys())
        assert each.edge.states[-1] == "online"


async def test_what_was_desired_before_the_mapper_came_is_applied(sample: Sample, shared_broker: Mosquitto) -> None:
    async with bench(sample, shared_broker.port, desired={sample.name: sample.values[0]}) as each:
        await shown(each, sample.values[0])


async def test_of_many_desired_values_the_last_one_stays(sample: Sample, shared_broker: Mosquitto) -> None:
    async with bench(sample, shared_broker.port) as each:
        for number in range(101):
            each.edge.desire(**{sample.name: sample.values[number % 2]})
        await each.edge.until(lambda: each.edge.reported.get(sample.name) == sample.values[0] == sample.shown())
        each.edge.desire(**{sample.name: sample.values[1]})
        await shown(each, sample.values[1])


async def test_only_changes_are_reported(sample: Sample, shared_broker: Mosquitto) -> None:
    async with bench(sample, shared_broker.port) as each:
        for value in (*sample.values, *sample.values):
            await each.edge.until(lambda: sample.name in each.edge.reported)
            first = len(each.edge.reports)
            sample.by_hand(value)  # read back in a cycle many times
            await each.edge.shows(**{sample.name: value})
            said = [report[sample.name] for report in each.edge.reports[first:] if sample.name in report]
            assert said == [value]


async def test_a_value_the_device_does_not_have_is_refused_once(sample: Sample, shared_broker: Mosquitto,
                                                                caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    async with bench(sample, shared_broker.port, desired={sample.name: sample.values[0]}) as each:
        await shown(each, sample.values[0])
        each.edge.desire(**{sample.name: sample.bad})
        await each.edge.until(lambda: each.edge.states[-1] == "unhealthy")
        assert sample.shown() == sample.values[0]
        each.edge.desire(**{sample.name: sample.values[1]})
        await shown(each, sample.values[1])
        await each.edge.until(lambda: each.edge.states[-1] == "online")
    lines = [record.getMessage() for record in caplog.records if "bad-value" in record.message]
    assert len(lines) == 1
    assert sample.bad in lines[0]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"twin":7}',
        b'{"twin":{"red":null},"delta":[1]}',
        b'{"delta":{"no-such":"ON"}}',
        b'{"twin":{"x":{"expected":3}}}',
    ],
)
@pytest.mark.parametrize("suffix", ["twin/update/delta", "twin/get/result", "twin/update/result", "twin/update/document"])
@pytest.mark.parametrize("sample", ["gpio"], indirect=True)  # parsing is the sdk's: one mapper shows it
async def test_garbage_changes_nothing(shared_broker: Mosquitto, sample: Sample, suffix: str, payload: bytes) -> None:
    async with bench(sample, shared_broker.port, desired={sample.name: sample.values[0]}) as each:
        await shown(each, sample.values[0])
        each.edge.raw(suffix, payload)
        each.edge.desire(**{sample.name: sample.values[1]})
        await shown(each, sample.values[1])


@pytest.mark.parametrize("sample", ["plain functions", "coroutines"], indirect=True)
async def test_a_failing_device_is_tried_again(sample: Sample, shared_broker: Mosquitto) -> None:
    assert sample.fail_next is not None
    sample.fail_next(3)
    async with bench(sample, shared_broker.port, desired={sample.name: sample.values[0]}) as each:
        await shown(each, sample.values[0])
        assert "unhealthy" in each.edge.states
        await each.edge.until(lambda: each.edge.states[-1] == "online")


async def test_a_report_is_repeated_until_the_edge_answers(sample: Sample, shared_broker: Mosquitto) -> None:
    async with bench(sample, shared_broker.port, desired={sample.name: sample.values[0]}) as each:
        await shown(each, sample.values[0])
        each.edge.answers = False
        before = each.edge.seen
        sample.by_hand(sample.values[1])
        await each.edge.until(lambda: each.edge.seen > before)
        each.edge.answers = True
        each.edge.desire(**{sample.name: sample.values[1]})
        await shown(each, sample.values[1])


async def test_a_device_the_edge_does_not_know_yet_is_asked_for_again(sample: Sample, shared_broker: Mosquitto) -> None:
    async with bench(sample, shared_broker.port, desired={sample.name: sample.values[0]}, edge_answers=False) as each:
        await each.edge.until(lambda: bool(each.edge.states))
        each.edge.answers = True
        await shown(each, sample.values[0])
        each.edge.refuse_next = 404
        sample.by_hand(sample.values[1])
        each.edge.desire(**{sample.name: sample.values[1]})
        await shown(each, sample.values[1])


async def test_what_changed_while_the_broker_was_away_is_caught_up(sample: Sample, broker: Mosquitto) -> None:
    async with bench(sample, broker.port, desired={sample.name: sample.values[0]}) as each:
        await shown(each, sample.values[0])
        each.edge.lost()
        broker.stop()
        each.edge.desire(**{sample.name: sample.values[1]})
        assert sample.shown() == sample.values[0]
        broker.start()
        await shown(each, sample.values[1])


@pytest.mark.parametrize("sample", ["gpio", "plain functions", "coroutines"], indirect=True)  # nothing changes there by itself
async def test_what_the_edge_knows_is_not_said_again_after_a_reconnect(sample: Sample, broker: Mosquitto) -> None:
    async with bench(sample, broker.port) as each:
        sample.by_hand(sample.values[0])
        await shown(each, sample.values[0])
        await each.edge.until(lambda: {item.name for item in sample.device} <= each.edge.reported.keys())
        reports, states = len(each.edge.reports), len(each.edge.states)
        each.edge.lost()
        broker.stop()
        broker.start()
        await each.edge.connected()
        await each.edge.until(lambda: "online" in each.edge.states[states:])
        sample.by_hand(sample.values[1])
        await shown(each, sample.values[1])
        assert each.edge.reports[reports:] == [{sample.name: sample.values[1]}]


async def test_the_state_follows_the_mapper(sample: Sample, shared_broker: Mosquitto) -> None:
    async with bench(sample, shared_broker.port) as each:
        await each.edge.until(lambda: each.edge.states[-1:] == ["online"])
        each.mapper.connection.break_off()  # the broker speaks the last will
        await each.edge.until(lambda: "offline" in each.edge.states and each.edge.states[-1] == "online")
