"""Checks of the configurations in deploy/proxies: time-outs, the files for Traefik, and their copies in the document.

tests/end_to_end/test_proxies.py runs nginx, Caddy and HAProxy with them.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from hub.http.http1 import KEEP_ALIVE_SECONDS
from hub.http.server import PING_INTERVAL_S
from tests.deploy.compose import ROOT
from tests.services.proxy import TIMEOUT, Caddy, Haproxy, Nginx, Proxy

FILES = sorted((ROOT / "deploy" / "proxies").iterdir())
DOCUMENT = (ROOT / "docs" / "proxies.md").read_text()
SHOWN = re.compile(r"\[`deploy/proxies/([\w.-]+)`\]\(\.\./deploy/proxies/\1\):\n\n```\w+\n(.*?)```\n", re.DOTALL)
DURATION = re.compile(r"timeout (?:tunnel |client |server )?(\d+)s")


class Strict(Struct, forbid_unknown_fields=True, rename="camel"):
    """A table of Traefik in which every key is known."""


class EntryPoint(Strict):
    """Table entryPoints.NAME, as far as it is used."""

    address: str


class FileProvider(Strict):
    """Table providers.file."""

    filename: str


class Providers(Strict):
    """Table providers."""

    file: FileProvider


class ForwardingTimeouts(Strict):
    """Table serversTransport.forwardingTimeouts."""

    idle_conn_timeout: str


class ServersTransport(Strict):
    """Table serversTransport."""

    forwarding_timeouts: ForwardingTimeouts


class Static(Strict):
    """The static configuration (Traefik 3 documentation, "Install configuration")."""

    entry_points: dict[str, EntryPoint]
    providers: Providers
    servers_transport: ServersTransport


class Router(Strict):
    """Table http.routers.NAME."""

    entry_points: list[str]
    rule: str
    service: str
    tls: dict[str, str]
    middlewares: list[str] = []


class StripPrefix(Strict):
    """Table http.middlewares.NAME.stripPrefix."""

    prefixes: list[str]


class Middleware(Strict):
    """Table http.middlewares.NAME."""

    strip_prefix: StripPrefix


class UpstreamServer(Strict):
    """One of http.services.NAME.loadBalancer.servers."""

    url: str


class LoadBalancer(Strict):
    """Table http.services.NAME.loadBalancer."""

    servers: list[UpstreamServer]


class Upstream(Strict):
    """Table http.services.NAME."""

    load_balancer: LoadBalancer


class Http(Strict):
    """Table http."""

    routers: dict[str, Router]
    services: dict[str, Upstream]
    middlewares: dict[str, Middleware] = {}


class CertificateFiles(Strict):
    """One of tls.certificates."""

    cert_file: str
    key_file: str


class Tls(Strict):
    """Table tls."""

    certificates: list[CertificateFiles]


class Dynamic(Strict):
    """The file of the file provider (Traefik 3 documentation, "File routing configuration")."""

    http: Http
    tls: Tls


def test_the_document_contains_the_very_files() -> None:
    """docs/proxies.md shows each file as it is, and no other."""
    shown = dict(SHOWN.findall(DOCUMENT))
    assert shown == {file.name: file.read_text() for file in FILES}
    assert DOCUMENT.count("](../deploy/proxies/") == len(FILES)


@pytest.mark.parametrize("kind", [Nginx, Caddy, Haproxy], ids=lambda kind: kind.name)
def test_a_time_out_is_longer_than_three_pings(kind: type[Proxy]) -> None:
    """The hub may be late for two pings before a proxy closes a connection. Every time-out of a silent connection has
    this value."""
    assert int(TIMEOUT.removesuffix("s")) > 3 * PING_INTERVAL_S
    for name in kind.shipped.values():
        text = (ROOT / "deploy" / "proxies" / name).read_text()
        assert f" {TIMEOUT}" in text
        assert all(f"{seconds}s" == TIMEOUT for seconds in DURATION.findall(text))


def test_a_proxy_closes_an_idle_connection_to_the_hub_before_the_hub_does() -> None:
    """Otherwise it may send a request into a connection that is being closed. nginx and HAProxy keep none."""
    for name, pattern in (
        ("Caddyfile", r"\bkeepalive (\d+)s"),
        ("Caddyfile-subpath", r"\bkeepalive (\d+)s"),
        ("traefik.toml", r'idleConnTimeout = "(\d+)s"'),
    ):
        (seconds,) = re.findall(pattern, (ROOT / "deploy" / "proxies" / name).read_text())
        assert int(seconds) < KEEP_ALIVE_SECONDS
    for name in ("haproxy.cfg", "haproxy-subpath.cfg"):
        assert "option http-server-close" in (ROOT / "deploy" / "proxies" / name).read_text()


@pytest.mark.parametrize("name", ["traefik-hub.toml", "traefik-hub-subpath.toml"])
def test_the_files_of_traefik_have_its_documented_structure(name: str) -> None:
    """Every key exists in the documented structure, and every name that a table refers to is defined. Traefik itself
    does not read them here."""
    folder = ROOT / "deploy" / "proxies"
    static = msgspec.toml.decode((folder / "traefik.toml").read_text(), type=Static)
    dynamic = msgspec.toml.decode((folder / name).read_text(), type=Dynamic)
    assert Path(static.providers.file.filename).name in (folder / name).read_text().partition("\n")[0]
    (router,) = dynamic.http.routers.values()
    assert set(router.entry_points) == set(static.entry_points)
    assert {router.service} == set(dynamic.http.services)
    assert set(router.middlewares) == set(dynamic.http.middlewares)
    (upstream,) = dynamic.http.services[router.service].load_balancer.servers
    assert upstream.url == "http://127.0.0.1:8600"
    for middleware in dynamic.http.middlewares.values():
        (prefix,) = middleware.strip_prefix.prefixes
        assert f"PathPrefix(`{prefix}`)" in router.rule


def test_a_misspelt_key_of_traefik_is_found() -> None:
    """The check above rejects a key that Traefik does not have."""
    text = (ROOT / "deploy" / "proxies" / "traefik-hub-subpath.toml").read_text()
    with pytest.raises(msgspec.ValidationError, match="stripPrefixes"):
        msgspec.toml.decode(text.replace("stripPrefix]", "stripPrefixes]"), type=Dynamic)
