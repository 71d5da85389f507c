"""When a request is repeated, and after how long: pure, the clock and the dice come in as arguments."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LONGEST_RETRY_AFTER_S = 3600.0
RETRIED_STATUS = frozenset({429, 502, 503, 504})


def backoff(attempt: int, jitter: float) -> float:
    """Seconds before the repetition after `attempt` (from 0); `jitter` from 0 to 1 takes up to half of it away."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempt, 16)) * (1 - jitter / 2))


def read_retry_after(text: str | None, now: datetime) -> float:
    """`Retry-After` (RFC 9110, 10.2.3: seconds or an HTTP date) in seconds, an hour at the most; 0 without one."""
    text = (text or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max((when - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)
