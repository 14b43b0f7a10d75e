"""Checks of the settings as a whole, before anything is opened: addresses, certificates, decoders."""

from __future__ import annotations

import ssl
from pathlib import Path

from hub.app.errors import HubError
from hub.app.mqtt import check_bridges
from hub.config.settings import Settings
from hub.http.access import Access, check_listen, host_name, is_loopback, parse_authority
from hub.http.forwarded import RESERVED, TrustedProxies
from hub.model.identity import Identity


def check_settings(settings: Settings) -> None:
    """Check that a hub starts with these settings and accepts connections. Raises HubError."""
    certificate, key = settings.tls.certificate, settings.tls.key
    access = settings.access
    try:
        check_listen(settings.address[0], tls=certificate is not None, behind_proxy=access.behind_proxy)
        Access(_nobody, _nobody, hosts=access.allowed_hosts, origins=access.allowed_origins)
        trusted_proxies(settings)
        _check_public_url(settings)
    except ValueError as error:
        raise HubError(str(error)) from None
    if certificate is not None and key is not None:
        _check_certificate(certificate, key)
    check_bridges(settings.mqtt)


def trusted_proxies(settings: Settings) -> TrustedProxies:
    """Return the proxies of these settings. Raises ValueError for one that is neither an address nor a network."""
    access = settings.access
    return TrustedProxies.of_settings(access.trusted_proxies, behind_proxy=access.behind_proxy)


def _check_public_url(settings: Settings) -> None:
    """Raise ValueError if `public_url` contradicts another setting."""
    public, access = settings.public, settings.access
    if public is None:
        return
    host = parse_authority(public.authority)
    if host is None:
        raise ValueError(f"public_url: {public.authority!r} is not a host")
    if access.allowed_hosts and all(host.name != host_name(allowed) for allowed in access.allowed_hosts):
        raise ValueError(
            f"public_url is at {host.name!r}, but access.allowed_hosts has only {', '.join(access.allowed_hosts)}: add "
            f"{host.name!r} there, or remove access.allowed_hosts, without which the host of public_url is allowed"
        )
    has_tls = settings.tls.certificate is not None or access.behind_proxy
    if public.scheme == "https" and not has_tls:
        raise ValueError(
            f"public_url is {public}, but nothing states where TLS ends: set access.behind_proxy = true if a proxy "
            "does TLS, or set tls.certificate and tls.key"
        )
    if public.scheme == "http" and has_tls and not is_loopback(host.name.strip("[]")):
        name = "access.behind_proxy" if access.behind_proxy else "tls.certificate"
        raise ValueError(f"public_url is {public}, but {name} states that TLS is used: write https{str(public)[4:]}")
    segment = public.base_path.split("/")[1]
    if segment in RESERVED:
        raise ValueError(
            f"public_url: the hub itself has addresses below /{segment}/, so a proxy's path there would be ambiguous: "
            "choose another path, for example /telemetry/"
        )


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
