"""Sections of the settings: bounds that depend on each other, as laws.

tests/docs/test_configuration.py has one wrong value of each setting.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub.config.sections import MAX_DAYS, JournalSettings, StoreSettings, TlsSettings, split_address

days = st.sampled_from([0.0, 0.5, 1.0, 7.0, float(MAX_DAYS)])


def is_valid(section: type[Any], **values: object) -> bool:
    try:
        section(**values)
    except ValidationError:
        return False
    return True


@given(days, days, days)
def test_coarser_data_stay_at_least_as_long(raw: float, minutes: float, hours: float) -> None:
    """0 is unlimited."""
    raw_days, minute_days, hour_days = (value or math.inf for value in (raw, minutes, hours))
    accepted = is_valid(StoreSettings, keep_raw=raw, keep_minutes=minutes, keep_hours=hours)
    assert accepted == (raw_days <= minute_days <= hour_days)


@given(st.integers(0, 1 << 40), st.integers(1 << 20, 1 << 40))
def test_the_kept_entries_leave_half_of_the_journal(keep: int, most: int) -> None:
    """The rest is for entries that the store does not have yet."""
    assert is_valid(JournalSettings, keep_bytes=keep, max_bytes=most) == (keep <= most // 2)


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        ({}, True),
        ({"url": ""}, True),
        ({"url": "http://i", "bucket": "b"}, True),
        ({"url": "http://i", "bucket": "b", "token": "t", "org": "o"}, True),
        ({"url": "http://i", "bucket": "b/policy", "user": "u", "password": "p"}, True),
        ({"url": "http://i", "bucket": "/policy"}, False),
        ({"url": "http://i", "bucket": "b", "token": "t", "org": "o", "user": "u", "password": "p"}, False),
        ({"url": "http://i", "bucket": "b", "password": "p"}, False),
        ({"user": "u", "password": "p"}, False),
        ({"url": "ftp://i", "bucket": "b"}, False),
        ({"url": "http://i?a", "bucket": "b"}, False),
        ({"url": "http://i:99999", "bucket": "b"}, False),
    ],
)
def test_the_settings_of_influxdb_belong_together(values: dict[str, str], accepted: bool) -> None:
    """Version 2 has a token and an organisation, version 1 a user and a password; without a url there are none."""
    assert is_valid(StoreSettings, **values) == accepted


@pytest.mark.parametrize("size", ["1GB", "1.5 GiB", "200mb", "3 TB", "1KB"])
def test_a_size_has_a_unit(size: str) -> None:
    """In any case, with a fraction or a space."""
    assert is_valid(StoreSettings, memory_limit=size)


@pytest.mark.parametrize("size", ["1", "GB", "1.GB", "-1GB", "1 PB", "1GB ", "1  GB", "1e3MB"])
def test_anything_else_is_no_size(size: str) -> None:
    """DuckDB would report it only when the hub starts."""
    assert not is_valid(StoreSettings, memory_limit=size)


def test_a_certificate_needs_its_key() -> None:
    """Both or neither."""
    assert is_valid(TlsSettings)
    assert is_valid(TlsSettings, certificate="a", key="b")
    assert not is_valid(TlsSettings, certificate="a")
    assert not is_valid(TlsSettings, key="b")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("http://a", "a", None), ("http://[::1]:5", "::1", 5), ("https://a", None, None), ("http://a:0", None, None),
     ("http://a:x", None, None), ("http://", None, None), ("a:5", None, None), ("http://[::1", None, None)],
)  # fmt: skip
def test_an_address_has_a_known_scheme_and_a_host(url: str, host: str | None, port: int | None) -> None:
    """Anything that cannot be parsed is no address."""
    parts = split_address(url, ("http",))
    assert (None if parts is None else (parts.hostname, parts.port)) == (None if host is None else (host, port))
