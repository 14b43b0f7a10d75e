"""Tests of hosts and origins: what is parsed is what was written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.http.authority import Authority, WebOrigin, parse_authority, parse_origin
from tests.hub.http.hosts import addresses, names, ports


@given(names | addresses, ports)
def test_a_parsed_authority_is_the_written_one(name: str, port: int | None) -> None:
    """Name and port are unchanged; an IPv6 address has no brackets."""
    assert parse_authority(name if port is None else f"{name}:{port}") == Authority(name.strip("[]"), port)


@given(st.text(max_size=30))
def test_any_text_is_an_authority_or_none(text: str) -> None:
    """It never raises, and a name contains only characters of host names."""
    for found in (parse_authority(text), parse_origin(text), parse_origin(f"http://{text}")):
        assert found is None or not set(found.name) & set("/@?# \\\r\n\0[]")


def test_an_origin_has_its_scheme_s_port() -> None:
    """Unless it names another port."""
    assert parse_origin("HTTPS://Hub.example") == WebOrigin("https", "hub.example", 443)
    assert parse_origin("http://hub.example:81") == WebOrigin("http", "hub.example", 81)
