"""Cron expressions in another time zone: against the wall clocks themselves, hour by hour."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.settings import SettingsError
from pipelines.triggers.cron import in_zone, six_fields, values

UTC = ZoneInfo("UTC")
WINTER = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def due(expression: str, clock: datetime.datetime) -> bool:
    """Whether a cron expression with a free day of month or week is due at a wall clock's minute."""
    fields = six_fields(expression)
    shown = (0, clock.minute, clock.hour, clock.day, clock.month, clock.isoweekday() % 7)
    return all(value in values(fields, index) for index, value in enumerate(shown))


def test_five_fields_are_a_crontabs_and_get_their_second() -> None:
    assert six_fields("0 3 * * mon") == ("0", "0", "3", "*", "*", "mon")
    assert six_fields("30 0 3 ? * 1-5") == ("30", "0", "3", "?", "*", "1-5")
    assert values(six_fields("*/20 8-18/5 1 jan,mar fri"), 1) == {0, 20, 40}
    assert values(six_fields("0 8-18/5 * * *"), 2) == {8, 13, 18}
    assert values(six_fields("50/5 * * * *"), 1) == {50, 55}  # as robfig/cron has it: from there on


@pytest.mark.parametrize(
    "wrong", ["", "0 3 * *", "0 24 * * *", "0 3 * * 7", "0 3 0 * *", "x 3 * * *", "0 5-3 * * *", "0 3/0 * * *"]
)
def test_a_wrong_expression_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="--cron"):
        six_fields(wrong)


@pytest.mark.parametrize("never", ["0 3 31 2 *", "0 3 30-31 feb ?", "0 3 31 4,jun,9,11 *", "0 0 3 31 2 */2"])
def test_an_expression_that_is_never_due_is_refused(never: str) -> None:
    with pytest.raises(SettingsError, match="is never due: no month of '.*' has a day 3[01]"):
        six_fields(never)


@pytest.mark.parametrize("due_once", ["0 3 29 2 *", "0 3 31 2 mon", "0 3 31 2,3 *", "0 3 28-31 2 *"])
def test_one_that_is_due_seldom_is_not(due_once: str) -> None:
    assert six_fields(due_once)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 59),
    st.lists(st.integers(0, 23), min_size=1, max_size=3, unique=True),
    st.sampled_from(["*", "1", "mon-fri", "0,6"]),
    st.sampled_from(["Asia/Kolkata", "America/Phoenix", "Asia/Tokyo", "UTC", "Europe/Berlin"]),
    st.sampled_from(["UTC", "Asia/Tokyo"]),
)
def test_in_another_zone_it_is_due_at_the_same_moments(
    minute: int, hours: list[int], days: str, zone: str, scheduler: str
) -> None:
    expression = f"{minute} {','.join(map(str, hours))} * * {days}"
    here, there = ZoneInfo(zone), ZoneInfo(scheduler)
    try:
        written, _ = in_zone(expression, here, there, WINTER)
    except SettingsError:
        assert days != "*"  # hours that lie in two of the scheduler's days
        return
    for half_hour in range(48 * 8):
        moment = WINTER + datetime.timedelta(minutes=30 * half_hour + minute)
        assert due(expression, moment.astimezone(here)) == due(written, moment.astimezone(there)), written


def test_it_says_from_when_on_the_clocks_differ() -> None:
    assert in_zone("0 3 * * 1", ZoneInfo("Europe/Berlin"), UTC, WINTER) == (
        "0 0 2 * * 1",
        datetime.date(2027, 3, 28),  # the last Sunday of March: summer time begins in the European Union
    )
    assert in_zone("0 3 * * 1", ZoneInfo("Asia/Tokyo"), UTC, WINTER) == ("0 0 18 * * 0", None)
    assert in_zone("0 3 * * 1", ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Berlin"), WINTER) == ("0 0 3 * * 1", None)


def test_what_cannot_be_said_in_the_schedulers_zone_is_refused() -> None:
    with pytest.raises(SettingsError, match="--scheduler-time-zone"):
        in_zone("0 3 1 * *", ZoneInfo("Asia/Tokyo"), UTC, WINTER)
