"""Tests of access control: credentials, Host and Origin, the cookie, and the addresses to listen on."""

from __future__ import annotations

import base64
from http.cookies import SimpleCookie
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.access import (
    SESSION_COOKIE,
    Access,
    Credential,
    check_listen,
    find_credential,
    offered_subprotocols,
)
from hub.http.authority import is_loopback
from hub.http.refusals import RefusalCause, RequestRefused
from hub.model.identity import Identity, Role
from tests.hub.http.hosts import addresses, names, ports
from wire.errors import Code, WireError

DEVICE = Identity("d", Role.DEVICE, "boiler")
ADMIN = Identity("a", Role.ADMIN)
COOKIE = f"{SESSION_COOKIE}=page"


def scope(*headers: tuple[str, str], method: str = "GET", scheme: str = "http", **more: Any) -> dict[str, Any]:
    """Return the scope of a request, or of an upgrade with the method "websocket"."""
    kind: dict[str, Any] = {"type": "websocket"} if method == "websocket" else {"type": "http", "method": method}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {**kind, "scheme": scheme, "headers": encoded, **more}


def access(**settings: Any) -> Access:
    return Access({"token": DEVICE}.get, {"page": ADMIN}.get, **settings)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("authorization", "Bearer token")], Credential("token", "token")),
        ([("authorization", "bearer  token ")], Credential("token", "token")),
        ([("authorization", "Token token")], Credential("token", "token")),
        ([("authorization", basic("anyone", "token"))], Credential("token", "token")),
        ([("authorization", basic("", "with:colon"))], Credential("token", "with:colon")),
        ([("authorization", "Basic !!!")], None),
        ([("authorization", "Basic " + base64.b64encode(b"\xff\xfe").decode())], None),
        ([("authorization", basic("anyone", ""))], None),
        ([("authorization", "Digest token")], None),
        ([("authorization", "token")], None),
        ([("authorization", "")], None),
        ([("cookie", COOKIE)], Credential("session", "page")),
        ([("cookie", f"other=1; {COOKIE}; x={COOKIE}")], Credential("session", "page")),
        ([("cookie", "other=1"), ("cookie", COOKIE)], Credential("session", "page")),
        ([("cookie", f"{SESSION_COOKIE}=")], None),
        ([("cookie", f"x{COOKIE}")], None),
        ([("cookie", "")], None),
        ([("cookie", COOKIE), ("authorization", "Bearer token")], Credential("token", "token")),
        ([("cookie", COOKIE), ("authorization", "Bearer")], None),
        ([("authorization", "Bearer token"), ("authorization", "Bearer other")], None),
        ([], None),
    ],
)
def test_the_credential_is_found(headers: list[tuple[str, str]], found: Credential | None) -> None:
    """One Authorization header of three kinds, else the cookie. Text that cannot be parsed is no credential."""
    assert find_credential(scope(*headers)) == found


@pytest.mark.parametrize(
    ("subprotocols", "headers", "found"),
    [
        (["telemetry.live.v1", "token.token"], [], Credential("token", "token")),
        (["token.token"], [("cookie", COOKIE)], Credential("token", "token")),
        (["token.x"], [("authorization", "Bearer token")], Credential("token", "token")),
        (["token."], [("cookie", COOKIE)], None),
        (["token.a", "token.b"], [("cookie", COOKIE)], None),
        (["telemetry.live.v1"], [("cookie", COOKIE)], Credential("session", "page")),
        ([], [], None),
    ],
)
def test_a_token_among_the_subprotocols_counts_before_the_cookie(
    subprotocols: list[str], headers: list[tuple[str, str]], found: Credential | None
) -> None:
    """A browser can set no header of a handshake, and sends the cookie to every port of the host."""
    upgrade = scope(*headers, method="websocket", subprotocols=subprotocols)
    assert find_credential(upgrade) == found
    assert offered_subprotocols(upgrade) == [name for name in subprotocols if name == "telemetry.live.v1"]


@pytest.mark.parametrize("query", [b"token=token", b"u=a&p=token", b"access_token=token"])
def test_a_token_in_the_url_is_ignored(query: bytes) -> None:
    """Logs and browser histories contain URLs."""
    assert access().authenticate(scope(query_string=query, path="/?token=token")) is None


@given(st.lists(st.tuples(st.sampled_from(["authorization", "cookie"]), st.text(st.characters(max_codepoint=255)))))
def test_any_headers_are_parsed_without_an_error(headers: list[tuple[str, str]]) -> None:
    """Any bytes are a credential or none."""
    found = find_credential(scope(*headers))
    assert found is None or found.value


@given(st.text(st.characters(max_codepoint=255)))
def test_any_authorization_header_disables_the_cookie(value: str) -> None:
    """Even a broken one."""
    found = find_credential(scope(("authorization", value), ("cookie", COOKIE)))
    assert found is None or found.kind == "token"


def test_a_token_and_a_cookie_have_their_identities() -> None:
    """Each is verified by its own function; a token is no cookie, and a cookie is no token."""
    assert access().authenticate(scope(("authorization", "Bearer token"))) == DEVICE
    assert access().authenticate(scope(("cookie", COOKIE))) == ADMIN
    assert access().authenticate(scope(("authorization", "Bearer page"))) is None
    assert access().authenticate(scope(("cookie", f"{SESSION_COOKIE}=token"))) is None


# Origin: the site that started the request.

SAME = [
    ("127.0.0.1:8600", "http://127.0.0.1:8600", "http"),
    ("localhost:8600", "http://localhost:8600", "http"),
    ("LocalHost:8600", "http://localhost:8600", "http"),
    ("[::1]:8600", "http://[::1]:8600", "http"),
    ("[0:0::1]:8600", "http://[::1]:8600", "http"),
    ("hub.example", "http://hub.example", "http"),
    ("hub.example", "https://hub.example", "https"),
    ("hub.example:443", "https://hub.example", "https"),
    ("hub.example", "https://hub.example:443", "https"),
    ("hub.example.", "https://hub.example", "https"),
    ("hub.example", "https://hub.example", "http"),  # TLS ends at a proxy that keeps the Host header
]
OTHER = [
    ("127.0.0.1:8600", "http://evil.example", "http"),
    ("127.0.0.1:8600", "http://127.0.0.1:8601", "http"),
    ("127.0.0.1:8600", "http://127.0.0.1", "http"),
    ("127.0.0.1:8600", "http://localhost:8600", "http"),
    ("hub.example", "http://hub.example.evil.example", "http"),
    ("hub.example", "http://evilhub.example", "http"),
    ("hub.example", "http://hub.example:8080", "http"),
    ("hub.example", "http://hub.example", "https"),  # a page from the network may have been changed on its way
    ("hub.example:443", "http://hub.example", "http"),
    ("hub.example", "null", "http"),
    ("hub.example", "", "http"),
    ("hub.example", "hub.example", "http"),
    ("hub.example", "file://hub.example", "http"),
    ("hub.example", "https://hub.example/", "https"),
    ("hub.example", "https://user@hub.example", "https"),
    ("hub.example", "https://hub.example https://evil.example", "https"),
]


@pytest.mark.parametrize("method", ["websocket", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(("host", "origin", "scheme"), SAME)
def test_the_hub_s_own_page_may_use_the_cookie(method: str, host: str, origin: str, scheme: str) -> None:
    """Origin and Host name the same host and port, in any spelling."""
    request = scope(("host", host), ("origin", origin), ("cookie", COOKIE), method=method, scheme=scheme)
    assert access().authenticate(request) == ADMIN


@pytest.mark.parametrize("method", ["websocket", "POST", "DELETE"])
@pytest.mark.parametrize(("host", "origin", "scheme"), OTHER)
def test_another_site_s_page_may_not(method: str, host: str, origin: str, scheme: str) -> None:
    """The browser sends the cookie, so the Origin decides: NOT_ALLOWED."""
    request = scope(("host", host), ("origin", origin), ("cookie", COOKIE), method=method, scheme=scheme)
    with pytest.raises(WireError) as caught:
        access().authenticate(request)
    assert caught.value.code is Code.NOT_ALLOWED


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "hub.example")],
        [("host", "hub.example"), ("origin", "http://hub.example"), ("origin", "http://evil.example")],
        [("origin", "http://hub.example")],
        [("host", "hub.example"), ("host", "evil.example"), ("origin", "http://evil.example")],
    ],
)
@pytest.mark.parametrize("method", ["websocket", "POST"])
def test_a_cookie_without_one_origin_and_one_host_is_refused(method: str, headers: list[tuple[str, str]]) -> None:
    """Browsers always send both once. Programs have tokens."""
    with pytest.raises(WireError):
        access().authenticate(scope(*headers, ("cookie", COOKIE), method=method))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_needs_no_origin(method: str) -> None:
    """Browsers send none with a plain GET, and another site cannot read the answer."""
    assert access().authenticate(scope(("host", "x"), ("cookie", COOKIE), method=method)) == ADMIN


@pytest.mark.parametrize("method", ["websocket", "POST"])
def test_a_header_token_needs_no_origin(method: str) -> None:
    """No page of another site can know the token, so the origin is ignored."""
    token = ("authorization", "Bearer token")
    assert access().authenticate(scope(token, method=method)) == DEVICE
    assert access().authenticate(scope(token, ("origin", "http://evil.example"), method=method)) == DEVICE


@pytest.mark.parametrize(
    ("host", "origin", "page", "hub", "has_proxy_hint"),
    [
        ("localhost:8600", "http://localhost:5173", "http://localhost:5173", "localhost:8600", False),
        ("127.0.0.1:8600", "https://Hub.example:443", "https://hub.example", "127.0.0.1:8600", True),
        ("[::1]:8600", "http://[0:0::1]:81", "http://[::1]:81", "[::1]:8600", False),
    ],
)
def test_a_refused_origin_names_both_sides_and_the_setting(
    host: str, origin: str, page: str, hub: str, has_proxy_hint: bool
) -> None:
    """The remedy contains the value for the setting as it has to be written. A proxy may have changed the Host."""
    request = scope(("host", host), ("origin", origin), ("cookie", COOKIE), method="websocket")
    with pytest.raises(RequestRefused) as caught:
        access().authenticate(request)
    assert caught.value.reason is RefusalCause.ORIGIN_NOT_ALLOWED
    assert caught.value.what == f"the page comes from {page}, and this hub is {hub}"
    assert caught.value.remedy.startswith(f'add "{page}" to access.allowed_origins')
    assert ("proxy" in caught.value.remedy) == has_proxy_hint
    assert access(origins=(page,)).authenticate(request) == ADMIN


def test_a_refused_host_names_the_setting() -> None:
    """The remedy contains the value for the setting, without the port, and however long the name is, it is short."""
    with pytest.raises(RequestRefused) as caught:
        access().check_host(scope(("host", "Hub.example:8443")))
    assert caught.value.reason is RefusalCause.HOST_NOT_ALLOWED
    assert caught.value.message == (
        'this hub is not known as hub.example:8443; if it is, add "hub.example" to access.allowed_hosts'
    )
    with pytest.raises(RequestRefused) as caught:
        access().check_host(scope(("host", "x" * 10_000)))
    assert len(caught.value.message) < 400


def test_an_allowed_origin_may_use_the_cookie() -> None:
    """Scheme, host and port have to match."""
    checks = access(origins=("https://Grafana.example", "http://wall.example:3000"))

    def allowed(origin: str) -> bool:
        try:
            request = scope(("host", "hub"), ("origin", origin), ("cookie", COOKIE), method="websocket")
            return checks.authenticate(request) == ADMIN
        except WireError:
            return False

    assert allowed("https://grafana.example")
    assert allowed("http://wall.example:3000")
    assert not allowed("http://grafana.example")
    assert not allowed("https://grafana.example:8443")
    assert not allowed("http://wall.example")


@given(names | addresses, ports, names | addresses, ports, st.sampled_from(["http", "https"]))
def test_two_hosts_are_compared_by_name_and_port(
    host: str, port: int | None, other: str, other_port: int | None, scheme: str
) -> None:
    """A page may use the cookie exactly if name and port match. The default port is that of its scheme."""
    default = {"http": 80, "https": 443}[scheme]

    def at(name: str, number: int | None) -> str:
        return name if number is None else f"{name}:{number}"

    request = scope(
        ("host", at(host, port)),
        ("origin", f"{scheme}://{at(other, other_port)}"),
        ("cookie", COOKIE),
        method="websocket",
    )
    try:
        allowed = access().authenticate(request) == ADMIN
    except WireError:
        allowed = False
    assert allowed == ((host, port or default) == (other, other_port or default))


# Host: the host that the request is for.


@pytest.mark.parametrize(
    ("listen", "host", "mine"),
    [
        ("127.0.0.1", "127.0.0.1:8600", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "LOCALHOST.:8600", True),
        ("127.0.0.1", "[::1]:8600", True),
        ("127.0.0.1", "127.1.2.3", True),
        ("127.0.0.1", "[::ffff:127.0.0.1]", True),
        ("127.0.0.1", "hub.example:1", True),  # configured
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.168.1.5", False),
        ("127.0.0.1", "0.0.0.0", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "localhost:port", False),
        ("127.0.0.1", "localhost:99999", False),
        ("127.0.0.1", "local host", False),
        ("127.0.0.1", "localhost/", False),
        ("127.0.0.1", "[127.0.0.1]", False),
        ("127.0.0.1", "[fe80::1%eth0]", False),
        ("localhost", "192.168.1.5", False),
        ("::1", "localhost", True),
        ("192.168.1.5", "192.168.1.5:8600", True),
        ("192.168.1.5", "localhost:8600", True),
        ("192.168.1.5", "192.168.1.6", False),
        ("192.168.1.5", "evil.example", False),
        ("fd00::5", "[FD00:0::5]:8600", True),
        ("fd00::5", "[fd00::6]", False),
        ("0.0.0.0", "192.168.1.5", True),
        ("::", "[fd00::5]", True),
        ("", "10.0.0.1", True),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", "hub.example", True),  # configured
        ("hub.lan", "hub.lan:8600", True),
        ("hub.lan", "evil.lan", False),
    ],
)
def test_a_request_for_another_host_is_refused(listen: str, host: str, mine: bool) -> None:
    """A foreign name that points to this machine (DNS rebinding) is not one of the hub's."""
    checks = access(listen_host=listen, hosts=("Hub.example:8443", "2001:db8::7"))
    try:
        checks.check_host(scope(("host", host)))
        allowed = True
    except WireError as error:
        assert error.code is Code.NOT_ALLOWED
        allowed = False
    assert allowed == mine


def test_a_configured_address_is_one_of_the_hub_s() -> None:
    """Behind a port forwarding, clients use an address that the machine does not have."""
    access(hosts=("2001:db8::7",)).check_host(scope(("host", "[2001:db8:0::7]:8600")))


@pytest.mark.parametrize("headers", [[], [("host", "localhost"), ("host", "localhost")]])
def test_a_request_has_one_host(headers: list[tuple[str, str]]) -> None:
    """Without one, or with two, the host is ambiguous."""
    with pytest.raises(WireError):
        access().check_host(scope(*headers))


def test_a_program_with_http_1_0_needs_no_host() -> None:
    """Host is optional there, and no browser leaves it out. What a browser adds, or another host, is still refused."""
    old = {"http_version": "1.0"}
    access().check_host(scope(**old))
    access().check_host(scope(("authorization", "Bearer token"), **old))
    for headers in (
        [("host", "evil.example")],
        [("host", "localhost"), ("host", "localhost")],
        [("host", "")],
        [("cookie", COOKIE)],
        [("origin", "http://evil.example")],
    ):
        with pytest.raises(WireError):
            access().check_host(scope(*headers, **old))
    with pytest.raises(WireError):
        access().check_host(scope(http_version="1.1"))
    with pytest.raises(WireError):
        access().check_host(scope(method="websocket", **old))


@pytest.mark.parametrize(
    "settings",
    [{"hosts": ("https://hub.example",)}, {"hosts": ("",)}, {"origins": ("hub.example",)}, {"origins": ("*",)}],
)
def test_an_invalid_setting_is_reported(settings: dict[str, tuple[str, ...]]) -> None:
    """An entry that can never match is an error. The message names the setting and the entry."""
    with pytest.raises(ValueError, match=r"access\.allowed_(hosts|origins): '.*' is not"):
        access(**settings)


# The cookie, and the addresses to listen on.


def test_the_cookie_is_kept_from_scripts_and_other_sites() -> None:
    """It is HttpOnly and SameSite=Lax, for the whole hub, with a lifetime, and Secure if the browser uses TLS."""
    name, value = access().session_cookie("secret", max_age_s=60, secure=True)
    morsel = SimpleCookie(value.decode())[SESSION_COOKIE]
    assert name == b"set-cookie"
    assert morsel.value == "secret"
    assert (morsel["httponly"], morsel["samesite"], morsel["secure"]) == (True, "Lax", True)
    assert (morsel["path"], morsel["max-age"], morsel["domain"]) == ("/", "60", "")
    assert not SimpleCookie(access().session_cookie("s", max_age_s=1, secure=False)[1].decode())[SESSION_COOKIE][
        "secure"
    ]


def test_the_written_cookie_is_found_again() -> None:
    """The cookie that the browser sends is the session."""
    pair = access().session_cookie("secret", max_age_s=60, secure=False)[1].decode().partition(";")[0]
    assert find_credential(scope(("cookie", f"a=b; {pair}"))) == Credential("session", "secret")


def test_an_ended_cookie_is_deleted() -> None:
    """At once, and it is no credential in the meantime."""
    value = access().session_cookie("", max_age_s=0, secure=False)[1].decode()
    assert "Max-Age=0" in value
    assert find_credential(scope(("cookie", value.partition(";")[0]))) is None


@pytest.mark.parametrize(
    ("scheme", "behind_proxy", "secure"),
    [("http", False, False), ("https", False, True), ("wss", False, True), ("ws", False, False), ("http", True, True)],
)
def test_the_cookie_is_secure_with_tls(scheme: str, behind_proxy: bool, secure: bool) -> None:
    """Either the hub or the proxy in front of it provides TLS."""
    assert access(behind_proxy=behind_proxy).is_secure(scope(scheme=scheme)) == secure


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
        ("::ffff:192.168.1.5", False),
        ("localhost.example", False),
        ("127.1", False),
        ("hub", False),
    ],
)
def test_clear_text_stays_on_this_machine(host: str, loopback: bool) -> None:
    """Beyond loopback the hub refuses to listen without TLS or a proxy with TLS, and says what to do."""
    assert is_loopback(host) == loopback
    check_listen(host, tls=True, behind_proxy=False)
    check_listen(host, tls=False, behind_proxy=True)
    if loopback:
        check_listen(host, tls=False, behind_proxy=False)
    else:
        with pytest.raises(ValueError, match=r"tls\.certificate .* access\.behind_proxy .* 127\.0\.0\.1"):
            check_listen(host, tls=False, behind_proxy=False)


def test_hubs_on_one_host_have_cookies_of_their_own() -> None:
    """A browser sends both cookies to both, and a sign-in at one of them leaves the other one's cookie."""
    first, second = access(cookie="session_1"), access(cookie="session_2")
    pairs = [
        hub.session_cookie(value, max_age_s=60, secure=False)[1] for hub, value in ((first, "page"), (second, "x"))
    ]
    both = scope(("cookie", "; ".join(pair.decode().partition(";")[0] for pair in pairs)))
    assert first.authenticate(both) == ADMIN
    assert second.authenticate(both) is None
