from datetime import UTC, datetime

import pytest

from gateway.cli.retry import backoff, read_retry_after

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempt", "jitter", "pause_s"),
    [(0, 0, 0.5), (1, 0, 1), (5, 0, 16), (6, 0, 30), (10_000, 0, 30), (0, 1, 0.25), (6, 0.5, 22.5)],
)
def test_backoff_doubles_up_to_its_cap(attempt: int, jitter: float, pause_s: float) -> None:
    assert backoff(attempt, jitter) == pause_s


@pytest.mark.parametrize(
    ("text", "pause_s"),
    [
        (None, 0),
        ("7", 7),
        (" 7 ", 7),
        ("-1", 0),
        ("soon", 0),
        ("99999999", 3600),
        ("9" * 400, 0),
        ("Sun, 01 Nov 2026 12:00:05 GMT", 5),
        ("Sun, 01 Nov 2026 12:00:05 -0000", 5),
        ("Sun, 01 Nov 2026 11:00:00 GMT", 0),
        ("Mon, 02 Nov 2026 12:00:00 GMT", 3600),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(text: str | None, pause_s: float) -> None:
    assert read_retry_after(text, NOW) == pause_s
