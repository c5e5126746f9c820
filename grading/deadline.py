"""Lateness: times from platforms, with a time zone or without one, and the deadline, all compared in one zone.

The rule: a deadline without a zone is in the zone of this computer. A platform's time without a zone is in the deadline's zone
(the platform and the instructor live by the same clock); one with a zone, such as nbgrader's, is converted into it.
"""

import re
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo


def read_deadline(text: str) -> datetime:
    """A deadline as it is given on the command line, with a zone.

    Parameters
    ----------
    text : str
        ISO 8601: `2026-11-30T23:59`, `2026-11-30T23:59+01:00`, `2026-11-30T22:59Z`; a name may stand for the zone:
        `2026-11-30T23:59 Europe/Berlin`.

    Raises
    ------
    ValueError
        When it is no time, or a day without a time.
    """
    text = text.strip()
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text):
        raise ValueError(f"{text} is a day without a time. Say until when: {text}T23:59")
    day, _, name = text.rpartition(" ")
    try:
        if re.match(r"[A-Za-z]+(/\w+)*$", name) and day:
            return datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(name))
        found = datetime.fromisoformat(text)
    except (ValueError, OSError) as error:
        raise ValueError(f"{text} is no time ({error}). Write it like 2026-11-30T23:59 or 2026-11-30T23:59+01:00") from None
    return found if found.tzinfo else found.astimezone()


def in_zone(time: datetime, zone: tzinfo | None) -> datetime:
    """A time in this zone; one that names none is in it already."""
    if zone is None:
        return time.astimezone() if time.tzinfo else time
    return time.astimezone(zone) if time.tzinfo else time.replace(tzinfo=zone)


def is_late(time: datetime | None, deadline: datetime | None) -> bool:
    """Whether a submission came after the deadline."""
    if time is None or deadline is None:
        return False
    deadline = deadline if deadline.tzinfo else deadline.astimezone()
    return in_zone(time, deadline.tzinfo) > deadline


def rule(deadline: datetime) -> str:
    """The deadline and how it is compared, for people."""
    deadline = deadline if deadline.tzinfo else deadline.astimezone()
    return f"{deadline:%Y-%m-%d %H:%M} ({deadline:%Z}); times that name no zone are taken to be in this one"
