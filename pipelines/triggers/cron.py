"""Cron expressions for KFP's scheduler, which reads six fields, seconds first, all in one time zone of its own.

KFP 2.17 parses with robfig/cron 1.2: it knows no time zone in an expression. The scheduler's is CRON_SCHEDULE_TIMEZONE.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Mapping

from pipelines.settings import SettingsError

_MONTHS = dict(
    zip(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], range(1, 13), strict=True)
)
_DAYS = dict(zip(["sun", "mon", "tue", "wed", "thu", "fri", "sat"], range(7), strict=True))
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days, by month
_DAY = 24 * 60  # minutes


def six_fields(expression: str) -> tuple[str, ...]:
    """The expression's six fields; five, as in a crontab, get a second of 0. Raises SettingsError for a wrong one.

    KFP itself would read five fields as ones that begin with the second and lack the day of the week.
    """
    fields = expression.split()
    if len(fields) not in (5, 6):
        raise SettingsError(
            f"--cron: got {expression!r}; five fields as in a crontab (minute hour day month weekday), or six with the"
            " second first"
        )
    fields = ["0", *fields] if len(fields) == 5 else fields
    found = [values(fields, index) for index in range(6)]
    any_weekday = any(
        part.startswith(("*", "?")) for part in fields[5].split(",")
    )  # else either of both days is enough
    if any_weekday and min(found[3]) > max(_LONGEST[month - 1] for month in found[4]):
        raise SettingsError(
            f"--cron: {expression!r} is never due: no month of {fields[4]!r} has a day {min(found[3])}; give another"
            " day of month, or other months"
        )
    return tuple(fields)


def values(fields: tuple[str, ...] | list[str], index: int) -> frozenset[int]:
    """The values that the field at `index` names. Raises SettingsError, naming the field, for what the scheduler refuses."""
    name, low, high, names = _FIELDS[index]
    found: set[int] = set()
    try:
        for part in fields[index].lower().split(","):
            span, slash, step = part.partition("/")
            first, dash, last = span.partition("-")
            if first in ("*", "?") and not dash:
                start, end = low, high
            else:
                start = names[first] if first in names else int(first)
                end = (names[last] if last in names else int(last)) if dash else high if slash else start
            if not low <= start <= end <= high or (slash and int(step) < 1):
                raise ValueError
            found |= set(range(start, end + 1, int(step) if slash else 1))
    except ValueError:
        known = f" or {', '.join(names)}" if names else ""
        raise SettingsError(
            f"--cron: {name} {fields[index]!r}: {low} to {high}{known}, as 1, 1-5, 1,3, * or */2"
        ) from None
    return frozenset(found)


def zone_of(name: str, option: str) -> zoneinfo.ZoneInfo:
    """The time zone of an IANA name. Raises SettingsError."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(f"{option}: there is no time zone {name!r}; give a name such as Europe/Berlin") from None


def in_zone(
    expression: str, zone: zoneinfo.ZoneInfo, scheduler: zoneinfo.ZoneInfo, now: datetime.datetime
) -> tuple[str, datetime.date | None]:
    """The expression, meant in `zone`, as it must be written for the scheduler's zone.

    Also the day from which on it is wrong by an hour, as one of the zones changes its clocks; None if within a year
    neither does. Raises SettingsError for one that cannot be said in the scheduler's zone.
    """
    fields = six_fields(expression)
    shift = _ahead(scheduler, zone, now)
    hours_ahead = (now + datetime.timedelta(hours=hours) for hours in range(365 * 24))
    until = next((moment.date() for moment in hours_ahead if _ahead(scheduler, zone, moment) != shift), None)
    if not shift:
        return " ".join(fields), until
    times = {hour * 60 + minute + shift for hour in values(fields, 2) for minute in values(fields, 1)}
    hours, minutes = {time % _DAY // 60 for time in times}, {time % 60 for time in times}
    if len(times) != len(hours) * len(minutes):
        raise SettingsError(_inexpressible(expression, zone, scheduler))
    every_day = len(values(fields, 3)) == 31 and len(values(fields, 4)) == 12
    days, carried = values(fields, 5), {time // _DAY for time in times}
    if not (every_day and len(days) == 7) and carried != {0}:
        if not every_day or len(carried) != 1:
            raise SettingsError(_inexpressible(expression, zone, scheduler))
        (carry,) = carried
        days = frozenset((day + carry) % 7 for day in days)
    written = [fields[0], _text(minutes, 60), _text(hours, 24), fields[3], fields[4]]
    return " ".join([*written, fields[5] if days == values(fields, 5) else _text(days, 7)]), until


def _ahead(one: zoneinfo.ZoneInfo, other: zoneinfo.ZoneInfo, moment: datetime.datetime) -> int:
    """Minutes that the clocks of `one` are ahead of those of `other`."""
    offsets = [moment.astimezone(zone).utcoffset() or datetime.timedelta() for zone in (one, other)]
    return int((offsets[0] - offsets[1]).total_seconds()) // 60


def _text(found: set[int] | frozenset[int], size: int) -> str:
    return "*" if len(found) == size else ",".join(map(str, sorted(found)))


def _inexpressible(expression: str, zone: zoneinfo.ZoneInfo, scheduler: zoneinfo.ZoneInfo) -> str:
    return (
        f"--cron: {expression!r} in {zone} cannot be written for a scheduler in {scheduler}, where its days begin at"
        " another hour; set the scheduler's zone (CRON_SCHEDULE_TIMEZONE) and give it as --scheduler-time-zone"
    )
