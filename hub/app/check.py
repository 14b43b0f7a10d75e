"""Checks of the settings as a whole, before anything is opened: addresses, certificates, decoders."""

from __future__ import annotations

import time

from hub.app.errors import HubError
from hub.app.mqtt import check_bridges
from hub.config.settings import Settings
from hub.http.access import Access, check_listen
from hub.http.authority import EVERY_ADDRESS, host_name, is_loopback, parse_authority
from hub.http.certificate import CertificateError, TlsFiles, certificate_problems, load_tls
from hub.http.forwarded import RESERVED, TrustedProxies
from hub.model.identity import Identity


def check_settings(settings: Settings) -> list[str]:
    """Check that a hub starts with these settings and accepts connections; return warnings. Raises HubError."""
    files = tls_files(settings)
    access = settings.access
    warnings: list[str] = []
    try:
        check_listen(settings.address[0], tls=files is not None, behind_proxy=access.behind_proxy)
        Access(_nobody, _nobody, hosts=access.allowed_hosts, origins=access.allowed_origins)
        trusted_proxies(settings)
        _check_public_url(settings)
        if files is not None:
            warnings = certificate_problems(load_tls(files).certificate, expected_hosts(settings), time.time())
    except (ValueError, CertificateError) as error:
        raise HubError(str(error)) from None
    check_bridges(settings.mqtt)
    return warnings


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
    if public.scheme == "http" and has_tls and not is_loopback(host.name):
        name = "access.behind_proxy" if access.behind_proxy else "tls.certificate"
        raise ValueError(f"public_url is {public}, but {name} states that TLS is used: write https{str(public)[4:]}")
    segment = public.base_path.split("/")[1]
    if segment in RESERVED:
        raise ValueError(
            f"public_url: the hub itself has addresses below /{segment}/, so a proxy's path there would be ambiguous: "
            "choose another path, for example /telemetry/"
        )


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return the files of TLS, None for a hub without it."""
    certificate, key = settings.tls.certificate, settings.tls.key
    return None if certificate is None or key is None else TlsFiles(certificate, key, settings.tls.client_ca)


def expected_hosts(settings: Settings) -> list[str]:
    """Return the names and addresses that the hub's certificate has to cover.

    They are the host of `public_url`, `access.allowed_hosts`, and the address to listen on, unless that is a loopback
    or every address. A proxy in front of the hub presents its own certificate.
    """
    if settings.access.behind_proxy:
        return []
    host, public = settings.address[0], settings.public
    own = [] if is_loopback(host) or host in EVERY_ADDRESS else [host]
    hosts = [*([] if public is None else [public.authority]), *settings.access.allowed_hosts, *own]
    return [name for name in map(host_name, hosts) if name is not None]


def _nobody(_: str) -> Identity | None:
    return None
