"""How secrets look and what is kept of them."""

from __future__ import annotations

import hashlib
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.identity import Role
from hub.registry.secret import digest, new_code, new_token, token_id
from wire.limits import MAX_TOKEN


@pytest.mark.parametrize("role", list(Role))
def test_a_token_says_what_it_is_and_hides_its_secret(role: Role) -> None:
    """Prefix, role and id can be read off a token; the secret has at least 128 bits and only its SHA-256 is kept."""
    secret = new_token(role)
    prefix, named, id, text = secret.text.split("_")
    assert (prefix, named, id) == ("hub", role.value, secret.id)
    assert re.fullmatch(r"[a-z2-7]+", text)
    assert len(text) * math.log2(32) >= 128
    assert text not in secret.id
    assert secret.digest == hashlib.sha256(secret.text.encode()).digest()
    assert len(secret.text) <= MAX_TOKEN


def test_no_two_secrets_are_alike() -> None:
    """Tokens, their ids and codes are random."""
    tokens = [new_token(Role.DEVICE) for _ in range(100)]
    assert len({token.text for token in tokens}) == len({token.id for token in tokens}) == 100
    assert len({new_code().text for _ in range(100)}) == 100


@given(st.sampled_from(list(Role)))
def test_the_id_of_a_token_is_found_in_it(role: Role) -> None:
    """Judging a token begins with its id."""
    secret = new_token(role)
    assert token_id(secret.text) == secret.id


@given(st.text(st.characters(), max_size=300) | st.from_regex(r"hub_[a-z]*_[a-z]*_.*"))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    """What comes over the network may be anything, lone surrogates too."""
    assert len(digest(text)) == 32
    found = token_id(text)
    assert found is None or found in text


def test_a_text_longer_than_any_token_has_no_id() -> None:
    """Nothing is hashed that is too long to be a token."""
    assert token_id(f"hub_device_a_{'b' * MAX_TOKEN}") is None
