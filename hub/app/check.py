"""Checks of the settings as a whole, before anything is opened: addresses, certificates, decoders."""

from __future__ import annotations

import ssl
from pathlib import Path

from hub.app.errors import HubError
from hub.app.mqtt import check_bridges
from hub.config.settings import Settings
from hub.http.access import Access, check_listen
from hub.model.identity import Identity


def check_settings(settings: Settings) -> None:
    """Check that a hub starts with these settings and accepts connections. Raises HubError."""
    certificate, key = settings.tls.certificate, settings.tls.key
    access = settings.access
    try:
        check_listen(settings.address[0], tls=certificate is not None, behind_proxy=access.behind_proxy)
        Access(_nobody, _nobody, hosts=access.allowed_hosts, origins=access.allowed_origins)
    except ValueError as error:
        raise HubError(str(error)) from None
    if certificate is not None and key is not None:
        _check_certificate(certificate, key)
    check_bridges(settings.mqtt)


def _check_certificate(certificate: Path, key: Path) -> None:
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise HubError(f"tls.{name}: {path}: {error.strerror}") from None
    try:
        # Without the callback OpenSSL asks the terminal for the passphrase of an encrypted key.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, lambda: "")
    except ssl.SSLError as error:
        raise HubError(
            f"tls: {certificate} and {key} are not a certificate and its key in PEM without a passphrase "
            f"({error.reason or error})"
        ) from None


def _nobody(_: str) -> Identity | None:
    return None
