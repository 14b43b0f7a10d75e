"""PEM files (RFC 7468) of certificates and keys: what is in them, and what is wrong with one. Pure.

Programs and people write comments between the blocks, in any encoding. The blocks alone are ASCII.
"""

from __future__ import annotations

import re

MAX_FILE_BYTES = 1024 * 1024
"""Largest file that is read: a thousand certificates. The authorities of a system take 200 kB."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_CERTIFICATE = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[A-Za-z0-9+/=\s]*-----END \1-----", re.MULTILINE
)
_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----\s*(Proc-Type: 4,ENCRYPTED)?")


def certificates(content: bytes) -> list[str]:
    """Return the certificates of a file, each as a block of ASCII."""
    return [found.group().decode("ascii") + "\n" for found in _CERTIFICATE.finditer(content)]


def certificate_fault(content: bytes) -> str | None:
    """Return what is wrong with the content of a file of certificates; None if there is one in PEM."""
    if certificates(content) and not content.startswith(BYTE_ORDER_MARK + b"-----BEGIN"):
        return None
    return _no_block(content, "certificate", "x509")


def key_fault(content: bytes) -> str | None:
    """Return what is wrong with the content of a file of a private key; None if there is one without a passphrase."""
    found = _KEY.search(content)
    if found is None or content.startswith(BYTE_ORDER_MARK + b"-----BEGIN"):
        return _no_block(content, "private key", "pkey")
    if found[1].startswith(b"ENCRYPTED") or found[2]:
        return "the key has a passphrase; remove it: openssl pkey -in FILE -out NEW"
    return None


def pair_fault(reason: str | None) -> str:
    """Return why OpenSSL refuses a certificate and its key, by the reason that it gives."""
    # The second one: the key is of another algorithm than the certificate.
    if reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return "the key does not belong to the certificate; give the key with which the certificate was requested"
    return f"one of them is damaged ({reason or 'not valid'}); copy it again"


def _no_block(content: bytes, name: str, command: str) -> str:
    if content.startswith(BYTE_ORDER_MARK):
        return "the file begins with a byte order mark of UTF-8; save it without one"
    if content.startswith(b"\x30"):
        return f"the file is in DER and not in PEM; convert it: openssl {command} -inform DER -in FILE -out NEW"
    return f"the file has no {name} in PEM"
