"""PEM files: the certificates in them, and a sentence for each fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import pem

BLOCK = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"
OTHER = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nTUlJ\n-----END PRIVATE KEY-----\n"


@given(before=st.binary(max_size=80), between=st.binary(max_size=80), after=st.binary(max_size=80))
def test_anything_around_the_certificates_is_ignored(before: bytes, between: bytes, after: bytes) -> None:
    """The blocks are returned in their order, and nothing besides them."""
    assert pem.certificates(before + BLOCK.encode() + between + OTHER.encode() + after) == [BLOCK, OTHER]


@given(st.binary())
def test_any_content_has_an_answer(content: bytes) -> None:
    """No content raises an error."""
    assert pem.certificates(content) == []
    assert pem.certificate_fault(content)
    assert pem.key_fault(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BLOCK.encode(), None),
        ("# Schlüssel\n".encode() + BLOCK.encode(), None),
        ("# Schlüssel\n".encode("latin-1") + BLOCK.encode(), None),
        (pem.BYTE_ORDER_MARK + b"# comment\n" + BLOCK.encode(), None),
        (pem.BYTE_ORDER_MARK + BLOCK.encode(), "begins with a byte order mark"),
        (b"\x30\x82\x01\x00", "is in DER and not in PEM; convert it: openssl x509 -inform DER"),
        (KEY, "has no certificate in PEM"),
        (BLOCK.replace("TUlJ", "TUlé").encode(), "has no certificate in PEM"),
    ],
)
def test_a_fault_of_a_certificate_has_a_sentence(content: bytes, says: str | None) -> None:
    """Comments in any encoding are no fault."""
    found = pem.certificate_fault(content)
    assert found is None if says is None else says in str(found)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (KEY, None),
        (KEY.replace(b"PRIVATE", b"EC PRIVATE"), None),
        (BLOCK.encode() + KEY, None),
        (KEY.replace(b"PRIVATE", b"ENCRYPTED PRIVATE"), "has a passphrase; remove it: openssl pkey"),
        (KEY.replace(b"-----\nT", b"-----\nProc-Type: 4,ENCRYPTED\nT"), "has a passphrase; remove it: openssl pkey"),
        (b"\x30\x82\x01\x00", "is in DER and not in PEM; convert it: openssl pkey -inform DER"),
        (BLOCK.encode(), "has no private key in PEM"),
    ],
)
def test_a_fault_of_a_key_has_a_sentence(content: bytes, says: str | None) -> None:
    """A key without a passphrase has no fault."""
    found = pem.key_fault(content)
    assert found is None if says is None else says in str(found)


def test_a_pair_that_does_not_fit_is_named() -> None:
    """OpenSSL's reason decides; an unknown one is repeated."""
    assert "the key does not belong to the certificate" in pem.pair_fault("KEY_VALUES_MISMATCH")
    assert "damaged (ASN1 lib)" in pem.pair_fault("ASN1 lib")
