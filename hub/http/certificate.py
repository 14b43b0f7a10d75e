"""The certificate of the hub's port: load it with its key, and report what clients will refuse.

Python's public interface decodes no certificate from a file, but the one that a peer presented. The hub therefore
performs a handshake with itself in memory. This also shows that the certificate, the key and the chain work together
before a client uses them, and needs no further library.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, NamedTuple

from hub.http.tls_listener import BoundedContext
from wire import pem

WARNING_DAYS = 14
"""A certificate that ends sooner is reported. Programs that renew do so 30 days before the end: then renewal failed."""

MAX_NAMES = 5
"""Names of a certificate in one sentence."""

_DAY_S = 86_400

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: an expired certificate can be read, too."""

_FLIGHTS = 3
"""Messages from each end in the longest handshake, that of TLS 1.2."""

_UNSUITABLE_PURPOSE = 26
"""X509_V_ERR_INVALID_PURPOSE of OpenSSL."""


class CertificateError(Exception):
    """The files cannot be used for TLS. The message names the setting or the files, and the problem."""


class TlsFiles(NamedTuple):
    """PEM files of the port: the certificate chain, its key, and the authority that signs certificates of devices."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class Certificate(NamedTuple):
    """A certificate: its names (DNS names in lower case, and addresses), its validity, and its serial number."""

    names: tuple[str, ...]
    not_before_s: float
    not_after_s: float
    serial: str

    def covers(self, host: str) -> bool:
        """Return whether clients accept the certificate for this name or address (RFC 9525, section 6)."""
        address = _address(host)
        if address is not None:
            return address in self.names
        labels = host.lower().rstrip(".").split(".")
        wildcard = ".".join(["*", *labels[1:]])
        return ".".join(labels) in self.names or (len(labels) > 2 and wildcard in self.names)


class LoadedTls(NamedTuple):
    """Files that were checked together: the settings for handshakes, and the certificate."""

    context: ssl.SSLContext
    certificate: Certificate


def load_tls(files: TlsFiles) -> LoadedTls:
    """Load the files and perform a handshake with them. Raises CertificateError."""
    certificate_file = _read("certificate", files.certificate, pem.certificate_fault)
    _read("key", files.key, pem.key_fault)
    if files.client_ca is not None:
        _read("client_ca", files.client_ca, pem.certificate_fault)
    context = BoundedContext(ssl.PROTOCOL_TLS_SERVER)
    # A client that also offers HTTP/2 then knows that it is not spoken here.
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without the callback OpenSSL asks the terminal for the passphrase of an encrypted key.
        context.load_cert_chain(files.certificate, files.key, lambda: "")
        certificate = _decode(_present(context, pem.certificates(certificate_file)))
    except ssl.SSLCertVerificationError as error:
        why = "it may not be used by a server" if error.verify_code == _UNSUITABLE_PURPOSE else error.verify_message
        raise CertificateError(f"tls.certificate: {files.certificate}: clients cannot accept it ({why})") from None
    except ssl.SSLError as error:
        fault = pem.pair_fault(error.reason)
        raise CertificateError(
            f"tls: {files.certificate} and {files.key} are not a certificate and its key: {fault}"
        ) from None
    if files.client_ca is not None:
        _verify_clients(context, files.client_ca)
    return LoadedTls(context, certificate)


def _read(name: str, path: Path, fault: Callable[[bytes], str | None]) -> bytes:
    """Return the content of a file. Raises CertificateError, also for a pipe, which would block, or a device."""
    try:
        status = path.stat()
        if not (S_ISREG(status.st_mode) or S_ISDIR(status.st_mode)):
            raise CertificateError(f"tls.{name}: {path}: not a regular file")
        if status.st_size > pem.MAX_FILE_BYTES:
            raise CertificateError(f"tls.{name}: {path}: larger than {pem.MAX_FILE_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise CertificateError(f"tls.{name}: {path}: {error.strerror}") from None
    found = fault(content)
    if found is not None:
        raise CertificateError(f"tls.{name}: {path}: {found}")
    return content


def certificate_problems(certificate: Certificate, hosts: Iterable[str], now_s: float) -> list[str]:
    """Return a sentence for each reason why clients refuse the certificate now or soon. Pure.

    `hosts` are the names and addresses under which clients reach the hub.
    """
    return [*_time_problem(certificate, now_s), *_name_problem(certificate, hosts)]


def _time_problem(certificate: Certificate, now_s: float) -> Iterator[str]:
    starts, ends = (_time_text(time_s) for time_s in (certificate.not_before_s, certificate.not_after_s))
    left_s = certificate.not_after_s - now_s
    if certificate.not_before_s > now_s:
        yield (
            f"the certificate is not valid before {starts}: clients refuse it until then. Check the clock of this "
            "machine, or create the certificate again"
        )
    elif left_s <= 0:
        yield (
            f"the certificate expired on {ends}: clients refuse it, and agents keep their readings until it is "
            "replaced. Renew the files of tls.certificate and tls.key; a restart is not necessary"
        )
    elif left_s < WARNING_DAYS * _DAY_S:
        yield (
            f"the certificate ends in {_duration_text(left_s)} ({ends}): clients refuse it after that. Renew the "
            "files of tls.certificate and tls.key; a restart is not necessary"
        )


def _name_problem(certificate: Certificate, hosts: Iterable[str]) -> Iterator[str]:
    missing = [host for host in dict.fromkeys(hosts) if not certificate.covers(host)]
    if missing:
        names = certificate.names
        shown = ", ".join([*names[:MAX_NAMES], *(["…"] if len(names) > MAX_NAMES else [])]) or "no name"
        yield (
            f"the certificate is for {shown} and not for {', '.join(missing)}: clients refuse it under that name. Add "
            "the name to the certificate (subjectAltName), or remove it from the settings"
        )


def _verify_clients(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError:
        raise CertificateError(f"tls.client_ca: {authority}: a certificate in the file is damaged") from None
    # Browsers and scripts need no certificate. The endpoint of devices requires one.
    context.verify_mode = ssl.CERT_OPTIONAL


def _present(server: ssl.SSLContext, chain: Iterable[str]) -> dict[str, Any]:
    """Perform a handshake in memory, and return the certificate that the client received. Raises SSLError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    client.load_verify_locations(cadata="".join(chain))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    for _ in range(_FLIGHTS):
        for end in (theirs, ours):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return theirs.getpeercert() or {}


def _decode(decoded: dict[str, Any]) -> Certificate:
    names = [name for kind, name in decoded.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return Certificate(
        tuple(_address(name.strip()) or name.lower() for name in names),
        ssl.cert_time_to_seconds(decoded["notBefore"]),
        ssl.cert_time_to_seconds(decoded["notAfter"]),
        decoded["serialNumber"],
    )


def _address(text: str) -> str | None:
    """Return an IP address in its shortest form, None for a name."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _time_text(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration_text(seconds: float) -> str:
    days = int(seconds // _DAY_S)
    if days:
        return f"{days} day{'s' if days > 1 else ''}"
    hours = max(1, int(seconds // 3600))
    return f"{hours} hour{'s' if hours > 1 else ''}"
