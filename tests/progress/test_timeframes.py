"""Calendar periods: they tile time in every zone, and what people write is read as they mean it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attunement.errors import DataError
from attunement.progress.timeframes import LABELS, first_instant, parse, periods, timeframe
from attunement.records import to_dict

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia",
        "Africa/Cairo", "America/Havana", "Asia/Beirut", "Pacific/Kiritimati", "America/St_Johns", "America/Scoresbysund",
    )
]  # fmt: skip
"""Among them some whose clocks change at midnight, by half an hour, or by a whole day."""
MOMENTS = st.datetimes(datetime(1985, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


@settings(max_examples=150, deadline=None)
@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from(LABELS), st.integers(1, 3), st.integers(1, 9))
def test_periods_tile_without_gap_or_overlap(start: datetime, zone: ZoneInfo, label: str, years: int, weeks: int) -> None:
    end = start + timedelta(days=800)
    found = list(islice(periods(start, end, label, zone, years=years, weeks=weeks), 60))
    assert found[0].start <= start < found[0].end
    assert all(a.end == b.start and a.start < a.end for a, b in pairwise(found))
    assert len(found) == 60 or found[-1].start < end <= found[-1].end
    for frame in found:  # each begins and ends where the local date changes, also by the clock on the wall
        for edge in (frame.start, frame.end):
            local, before = edge.astimezone(zone), (edge - timedelta(microseconds=1)).astimezone(zone)
            assert before.date() < local.date()
            assert local.replace(tzinfo=None) == edge.replace(tzinfo=None), "the offset is the zone's at that instant"


@settings(max_examples=150, deadline=None)
@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from(LABELS))
def test_a_period_holds_its_moment_and_comes_again_for_every_moment_in_it(at: datetime, zone: ZoneInfo, label: str) -> None:
    frame = timeframe(label, at, zone)
    assert frame.start <= at < frame.end and frame.label == label
    assert timeframe(label, frame.end - timedelta(microseconds=1), zone) == frame
    first, last = frame.start.astimezone(zone).date(), (frame.end - timedelta(microseconds=1)).astimezone(zone).date()
    local = at.astimezone(zone).date()
    if label == "weekly":
        assert first.isocalendar()[:2] == last.isocalendar()[:2] == local.isocalendar()[:2]
        assert first.isoweekday() == 1 and last.isoweekday() == 7
    elif label in ("monthly", "quarterly", "yearly"):
        months = {"monthly": 1, "quarterly": 3, "yearly": 12}[label]
        assert first.day == 1 and (first.month - 1) % months == 0
        after = frame.end.astimezone(zone).date()  # not the day after the last: Kiritimati had no 31 December 1994
        assert (after.year * 12 + after.month) - (first.year * 12 + first.month) == months and after.day == 1


def test_lengths_are_those_of_the_clock_changes() -> None:
    hours = {
        day: timeframe("daily", datetime(*day, 12, tzinfo=UTC), BERLIN).length / timedelta(hours=1)
        for day in ((2026, 3, 28), (2026, 3, 29), (2026, 10, 25))
    }
    assert hours == {(2026, 3, 28): 24, (2026, 3, 29): 23, (2026, 10, 25): 25}
    assert timeframe("monthly", datetime(2028, 2, 10, tzinfo=UTC), UTC_ZONE).length == timedelta(29)
    assert timeframe("yearly", datetime(2028, 2, 10, tzinfo=UTC), UTC_ZONE).length == timedelta(366)
    assert timeframe("weekly", datetime(2026, 12, 31, tzinfo=UTC), UTC_ZONE) == timeframe(
        "weekly", datetime(2027, 1, 3, 23, tzinfo=UTC), UTC_ZONE
    )
    frame = timeframe("multi_year", datetime(2026, 5, 1, tzinfo=UTC), UTC_ZONE, years=5)
    assert (frame.start.year, frame.end.year) == (2022, 2027)


def test_a_day_that_is_skipped_and_a_midnight_that_is_not_there() -> None:
    apia, paulo = ZoneInfo("Pacific/Apia"), ZoneInfo("America/Sao_Paulo")
    days = list(periods(datetime(2011, 12, 29, 12, tzinfo=apia), datetime(2011, 12, 31, 12, tzinfo=apia), "daily", apia))
    assert [frame.start.day for frame in days] == [29, 31]
    assert first_instant(date(2018, 11, 4), paulo).isoformat() == "2018-11-04T01:00:00-02:00"
    assert timeframe("daily", datetime(2018, 11, 4, 12, tzinfo=UTC), paulo).length == timedelta(hours=23)


@pytest.mark.parametrize(
    ("text", "start", "end", "label"),
    [
        ("90d", "2026-01-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "custom"),
        ("12w", "2026-01-07T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "custom"),
        ("1m", "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "custom"),
        ("10y", "2016-04-01T00:00:00+02:00", "2026-04-01T00:00:00+02:00", "custom"),
        ("this year", "2026-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00", "yearly"),
        ("2y", "2024-04-01T00:00:00+02:00", "2026-04-01T00:00:00+02:00", "custom"),
        ("today", "2026-03-31T00:00:00+02:00", "2026-04-01T00:00:00+02:00", "daily"),
        ("Last month", "2026-02-01T00:00:00+01:00", "2026-03-01T00:00:00+01:00", "monthly"),
        ("this week", "2026-03-30T00:00:00+02:00", "2026-04-06T00:00:00+02:00", "weekly"),
        ("last year", "2025-01-01T00:00:00+01:00", "2026-01-01T00:00:00+01:00", "yearly"),
        ("2026-Q1", "2026-01-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "quarterly"),
        ("2026-02", "2026-02-01T00:00:00+01:00", "2026-03-01T00:00:00+01:00", "monthly"),
        ("2026-W53", "2026-12-28T00:00:00+01:00", "2027-01-04T00:00:00+01:00", "weekly"),
        ("2024-02-29", "2024-02-29T00:00:00+01:00", "2024-03-01T00:00:00+01:00", "daily"),
        ("2026", "2026-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00", "yearly"),
        ("2024..2026", "2024-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00", "multi_year"),
        ("2026-01-01..2026-03-01", "2026-01-01T00:00:00+01:00", "2026-03-02T00:00:00+01:00", "custom"),
        ("2025-Q4..last month", "2025-10-01T00:00:00+02:00", "2026-03-01T00:00:00+01:00", "custom"),
    ],
)
def test_what_people_write(text: str, start: str, end: str, label: str) -> None:
    frame = parse(text, NOW, BERLIN)
    assert (frame.start.isoformat(), frame.end.isoformat(), frame.label) == (start, end, label)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0d",
        "99999y",
        "99999d",
        "2026-13",
        "2025-W53",
        "2026-02-30",
        "2026..2024",
        "soon",
        "..",
        "0001",
        "9999",
        "2026-Q5",
        "²d",
        "5000y",
    ],
)
def test_what_is_none_is_told_in_one_line(text: str) -> None:
    with pytest.raises(DataError, match="is no timeframe: give one such as 90d") as told:
        parse(text, NOW, BERLIN)
    assert "\n" not in str(told.value)


def test_a_time_without_a_zone_or_a_wrong_label_is_refused() -> None:
    with pytest.raises(DataError, match="has no time zone"):
        timeframe("daily", datetime(2026, 1, 1), BERLIN)
    with pytest.raises(DataError, match="there is no timeframe 'fortnightly'"):
        timeframe("fortnightly", NOW, BERLIN)
    with pytest.raises(DataError, match="0 weeks"):
        timeframe("custom", NOW, BERLIN, weeks=0)
    assert to_dict(timeframe("daily", NOW, BERLIN))["start"] == "2026-03-31T00:00:00+02:00"
