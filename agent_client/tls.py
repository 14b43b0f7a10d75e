"""TLS of a hub's clients: the authorities that they trust, their own certificate, and a sentence for each failure."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any
from urllib.parse import urlsplit

from wire import pem

CA_VARIABLE = "HUB_CA"
CA_HELP = "PEM file with the authorities that may sign the hub's certificate, instead of the system's."
CERTIFICATE_VARIABLE = "HUB_CLIENT_CERTIFICATE"
CERTIFICATE_HELP = "PEM file with the certificate of this client, for a hub that requires one."
KEY_VARIABLE = "HUB_CLIENT_KEY"
KEY_HELP = "PEM file with the private key of --client-certificate."
"""Variables and help texts of the options --ca, --client-certificate and --client-key, the same for every command."""

NAMES_SECONDS = 5.0
"""Longest time to read the names in a certificate for an error message."""

HTTPS_PORT = 443

MAX_NAMES = 5
"""Names in an error message."""

_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64
"""Verification errors of OpenSSL (X509_V_ERR_…)."""

_Signature = tuple[tuple[int, int, int], ...]


class TlsFileError(ValueError):
    """A file of an authority, a certificate or a key cannot be used. The message names the option and the problem."""


class ClientTls:
    """TLS settings of the connections to one hub, shared by all its devices. Raises TlsFileError.

    `ca` replaces the authorities of the system. `certificate` and `key` belong together. `pinned` is the hub's own
    certificate: then only it is accepted, for any name. Files that change are read again for the next connection; while
    the new ones cannot be used, the old ones stay in use.
    """

    def __init__(
        self,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        *,
        pinned: Path | None = None,
    ) -> None:
        if (certificate is None) != (key is None):
            missing = "--client-key" if key is None else "--client-certificate"
            raise TlsFileError(f"{missing} is missing: the certificate and its key belong together")
        self._files = {
            "--ca": ca,
            "--client-certificate": certificate,
            "--client-key": key,
            "the hub's certificate": pinned,
        }
        self._signature = self._sign()
        self._context = self.load()

    @property
    def context(self) -> ssl.SSLContext:
        """The settings for the next connection."""
        with suppress(OSError, TlsFileError):
            signature = self._sign()
            if signature != self._signature:
                self._context = self.load()
                self._signature = signature
        return self._context

    def _sign(self) -> _Signature:
        """Return the modification time, size and inode of each file."""
        found = []
        for option, path in self._files.items():
            if path is not None:
                try:
                    status = path.stat()
                except OSError as error:
                    raise TlsFileError(f"{option} {path}: {error.strerror}") from None
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def load(self) -> ssl.SSLContext:
        """Return new settings from the files as they are now. Raises TlsFileError."""
        ca, certificate, key, pinned = self._files.values()
        content = {option: _read(option, path) for option, path in self._files.items() if path is not None}
        authorities = content.get("the hub's certificate")
        try:
            context = ssl.create_default_context(cafile=ca) if authorities is None else _pinned_context(authorities)
        except ssl.SSLError:
            raise TlsFileError(f"--ca {ca or pinned}: a certificate in the file is damaged") from None
        # A file with the hub's own certificate, or with an intermediate authority, is then enough, as it is by default
        # from Python 3.13 on.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if certificate is not None:
            try:
                # Without the callback OpenSSL asks the terminal for the passphrase of an encrypted key.
                context.load_cert_chain(certificate, key, lambda: "")
            except ssl.SSLError as error:
                raise TlsFileError(
                    f"--client-certificate {certificate} and --client-key {key} are not a certificate and its key: "
                    f"{pem.pair_fault(error.reason)}"
                ) from None
        return context


def client_tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ClientTls | None:
    """Return the settings for the options of a command, None without options. Raises TlsFileError."""
    return None if ca is certificate is key is None else ClientTls(ca, certificate, key)


@cache
def system_tls() -> ClientTls:
    """Return the settings with the authorities of the system. Reading those takes 45 ms, once for all connections."""
    return ClientTls()


def describe_tls_failure(error: BaseException, url: str, names: Sequence[str] = ()) -> str | None:
    """Return a sentence with the cause and a remedy for a connection that TLS ended, or None for other errors. Pure.

    `names` are the names in the hub's certificate, for a certificate with another name.
    """
    found = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if found is None:
        return None
    if isinstance(found, ssl.SSLCertVerificationError):
        return _describe_rejected_certificate(found, url, names)
    reason = (found.reason or str(found)).upper().replace(" ", "_")
    return _describe_alert(reason, url) or f"TLS with {url} failed ({found.reason or found}); check the hub's log"


def is_wrong_name(error: BaseException) -> bool:
    """Return whether the connection failed because the hub's certificate has another name."""
    codes = {cause.verify_code for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)}
    return bool(codes & {_WRONG_NAME, _WRONG_ADDRESS})


def read_certificate_names(url: str, tls: ClientTls, *, timeout_s: float = NAMES_SECONDS) -> list[str]:
    """Return the names in the certificate of the hub, for an error message; [] if they cannot be read.

    The certificate has to be of a trusted authority. Nothing is sent over this connection.
    """
    parts = urlsplit(url)
    try:
        context = tls.load()
        context.check_hostname = False
        address = (parts.hostname or "", parts.port or HTTPS_PORT)
        with (
            socket.create_connection(address, timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=parts.hostname) as secured,
        ):
            certificate = secured.getpeercert() or {}
    except (OSError, TlsFileError):
        return []
    alternatives: Any = certificate.get("subjectAltName", ())
    return [name for kind, name in alternatives if kind in ("DNS", "IP Address")]


def _pinned_context(content: bytes) -> ssl.SSLContext:
    """Return settings that accept the first certificate of the file, and no authority above it. Raises SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=pem.certificates(content)[0])
    return context


def _describe_rejected_certificate(error: ssl.SSLCertVerificationError, url: str, names: Sequence[str]) -> str:
    code = error.verify_code
    if code in _UNKNOWN_AUTHORITY:
        return (
            f"{url}: the hub's certificate is signed by an unknown authority; give --ca FILE (or {CA_VARIABLE}) with "
            "the certificate of that authority"
        )
    if code == _EXPIRED:
        return f"{url}: the hub's certificate has expired; renew it on the hub, or correct the clock of this machine"
    if code == _NOT_YET_VALID:
        return f"{url}: the hub's certificate is not valid yet; correct the clock of this machine or of the authority"
    if code in (_WRONG_NAME, _WRONG_ADDRESS):
        shown = ", ".join([*names[:MAX_NAMES], *(["…"] if len(names) > MAX_NAMES else [])])
        return (
            f"{url}: the hub's certificate is for {shown or 'other names'} and not for {urlsplit(url).hostname}; use "
            "one of its names in the URL, or add this name to the certificate"
        )
    return f"{url}: the hub's certificate is not accepted ({error.verify_message}); check tls.certificate of the hub"


def _describe_alert(reason: str, url: str) -> str | None:
    """Return a sentence for the reason that OpenSSL gives: an alert of the hub, or an answer that is not TLS."""
    if "CERTIFICATE_REQUIRED" in reason or "ALERT_HANDSHAKE_FAILURE" in reason:
        return (
            f"{url} requires a client certificate; give --client-certificate FILE and --client-key FILE with one that "
            "the authority in the hub's tls.client_ca has signed"
        )
    if "ALERT_CERTIFICATE_EXPIRED" in reason:
        return f"{url}: the hub rejected the client certificate because it has expired; renew it"
    if any(
        name in reason for name in ("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_", "DECRYPT_ERROR")
    ):
        return (
            f"{url}: the hub rejected the client certificate; give --client-certificate FILE with one that the "
            "authority in the hub's tls.client_ca has signed"
        )
    if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason or "NO_SHARED" in reason:
        return f"{url}: the hub and this machine have no version of TLS in common; update the older one"
    if any(
        name in reason for name in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH")
    ):
        plain = url.replace("wss://", "ws://", 1).replace("https://", "http://", 1)
        return f"{url}: this port does not speak TLS; use {plain}, or set tls.certificate and tls.key on the hub"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _read(option: str, path: Path) -> bytes:
    """Return the content of a file. Raises TlsFileError, also for a pipe, which would block, or a device."""
    try:
        status = path.stat()
        if not (S_ISREG(status.st_mode) or S_ISDIR(status.st_mode)):
            raise TlsFileError(f"{option} {path}: not a regular file")
        if status.st_size > pem.MAX_FILE_BYTES:
            raise TlsFileError(f"{option} {path}: larger than {pem.MAX_FILE_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise TlsFileError(f"{option} {path}: {error.strerror}") from None
    fault = pem.key_fault(content) if option == "--client-key" else pem.certificate_fault(content)
    if fault is not None:
        raise TlsFileError(f"{option} {path}: {fault if content else 'the file is empty'}")
    return content
