"""Remedies for refused values: parameters of a URL, settings of the hub, commands."""

from __future__ import annotations

import pytest

from formats.record import RefusedInput
from hub.ingest.remedy import remedy
from wire.model import MetricType

HUB = "in [influx_write] of the hub's settings"
RETYPED = "run `hub metric retype d 'a b' string` and add types=a%20b%3Dstring to the URL"


@pytest.mark.parametrize(
    ("setting", "known", "by_url", "by_section"),
    [
        ("", None, "", ""),
        (
            'types."a b" = "string"', None,
            "add types=a%20b%3Dstring to the URL", f'set types."a b" = "string" {HUB}',
        ),
        (
            'types."a b" = "integer" or types."a b" = "string"', "float",
            f"run `hub metric retype d 'a b' integer`, or {RETYPED}", None,
        ),
        (
            'no_value = ["x or \\"y\\""] or run `hub metric retype d "a b" string`', "float",
            f"add no_value=x%20or%20%22y%22 to the URL, or {RETYPED}", None,
        ),
        (
            'no_value = ["x"] or run `hub metric retype d "a b" string`', "float", None,
            (
                f'set no_value = ["x"] {HUB}, or run `hub metric retype d '
                f"'a b' string` and " f'set types."a b" = "string" {HUB}'
            ),
        ),
        ('decimal = "," or thousands = ","', None, "add decimal=%2C or thousands=%2C to the URL", None),
        ('payload = "csv"', None, "add format=csv to the URL", None),
        ("encoding", None, "add encoding=… to the URL", f"set encoding {HUB}"),
        ("run hub token create", None, "run hub token create", "run hub token create"),
    ],
)  # fmt: skip
def test_a_remedy_is_in_the_words_of_the_door(
    setting: str, known: MetricType | None, by_url: str | None, by_section: str | None
) -> None:
    """A type that the hub has is changed by a command, because no parameter changes it."""
    refusal = RefusedInput(1, b"", "type", "no", "a b", "", setting, "d")
    if by_url is not None:
        assert remedy(refusal, "plain", known) == remedy(refusal, "http", known) == by_url
    if by_section is not None:
        assert remedy(refusal, "influxdb", known) == by_section
