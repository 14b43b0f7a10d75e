"""Tests of the choice of a format: the named one, or the best accepted one."""

from __future__ import annotations

import pytest

from hub.http.problem import Refusal
from hub.http.routes.history import HISTORY_FORMATS, MEDIA_TYPES, choose_format


@pytest.mark.parametrize(
    ("named", "accept", "chosen"),
    [
        (None, None, "json"),
        (None, "*/*", "json"),
        (None, "text/csv", "csv"),
        (None, "text/*", "csv"),
        (None, "TEXT/CSV; charset=utf-8", "csv"),
        (None, f"application/json;q=0.5, {MEDIA_TYPES['arrow']}", "arrow"),
        (None, "text/csv;q=0.2, */*;q=0.1", "csv"),
        (None, "application/json;q=0, */*", "csv"),
        (None, "application/*;q=0.3, text/csv;q=0.3", "json"),
        ("csv", "application/json", "csv"),
        ("csv", "image/png", "csv"),
    ],
)
def test_the_best_format_is_chosen(named: str | None, accept: str | None, chosen: str) -> None:
    """A name decides first, then the weight of the most precise range, then the order of the offer."""
    assert choose_format(named, accept, HISTORY_FORMATS) == chosen


@pytest.mark.parametrize("accept", ["image/png", "text/html, image/*", "*/*;q=0", "text/csv;q=none", "", ";;,;q"])
def test_a_request_that_accepts_no_format_is_rejected(accept: str) -> None:
    """The 406 answer names the media types."""
    with pytest.raises(Refusal, match="there is application/json, text/csv") as refusal:
        choose_format(None, accept, HISTORY_FORMATS)
    assert refusal.value.status_code == 406
