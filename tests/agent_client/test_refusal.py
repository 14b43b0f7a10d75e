"""The sentence for an answer that came instead of an upgrade."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.refusal import MAX_DETAIL, HandshakeAnswer, explain_answer, explain_no_http, hub_sentence, read_answer

URL = "ws://hub.example/v1/device"
NGINX = {"server": "nginx/1.22.1", "content-type": "text/html"}
PROBLEM = {"content-type": "application/problem+json; charset=utf-8"}


def problem(detail: str, type: str = "urn:telemetry-hub:problem:not_allowed") -> bytes:
    return json.dumps({"type": type, "title": "Forbidden", "status": 403, "detail": detail, "code": "x"}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (
            426,
            PROBLEM,
            problem("arrived without Upgrade"),
            "proxy in front of the hub does not pass WebSocket upgrades",
        ),
        (426, NGINX, b"", "does not pass WebSocket upgrades: let it pass the headers Upgrade and Connection"),
        (403, PROBLEM, problem('add "hub.lan" to access.allowed_hosts'), 'add "hub.lan" to access.allowed_hosts'),
        (400, PROBLEM, problem("subprotocol"), "the hub refused the connection: subprotocol"),
        (429, PROBLEM, problem("wait a minute"), "the hub refused the connection: wait a minute"),
        (403, {**PROBLEM}, problem("evil", "about:blank"), "a proxy blocks /v1/device"),
        (403, PROBLEM, b"{", "a proxy blocks /v1/device"),
        (403, NGINX, b"<html>", "a proxy blocks /v1/device"),
        (401, NGINX, b"<html>", "a proxy in front of it asks for a login"),
        (404, NGINX, b"<html>", "there is no hub at this address"),
        (200, NGINX, b"<html>", "this is not a hub"),
        (204, {}, b"", "this is not a hub"),
        (400, NGINX, b"<title>400 The plain HTTP request was sent to HTTPS port</title>", "needs TLS: use wss://hub"),
        (400, {}, b"Client sent an HTTP request to an HTTPS server.\n", "needs TLS: use wss://hub.example/v1/device"),
        (400, NGINX, b"<html>", "a proxy may have changed it"),
        (502, NGINX, b"<html>", "the proxy does not reach the hub: start the hub"),
        (503, NGINX, b"<html>", "the hub is busy or starts"),
        (504, NGINX, b"<html>", "the hub does not answer the proxy in time"),
        (505, NGINX, b"<html>", "HTTP/1.0"),
        (301, {"location": "https://hub.example/v1/device"}, b"", "use the URL wss://hub.example/v1/device"),
        (307, {"location": "wss://other:8443/x?token=secret"}, b"", "use the URL wss://other:8443/x"),
        (302, {"location": "/login"}, b"", "agents follow no redirect: check the path"),
        (302, {"location": "http://[bad"}, b"", "agents follow no redirect: check the path"),
        (302, {}, b"", "agents follow no redirect: check the path"),
        (418, NGINX, b"", "refused the connection, or this is not a hub"),
    ],
)
def test_the_sentence_names_the_cause_and_the_remedy(
    status: int, headers: dict[str, str], body: bytes, words: str
) -> None:
    """The hub's own sentence counts; an answer of anything else is explained by its status, and names the server."""
    sentence = explain_answer(URL, HandshakeAnswer(status, headers, body))
    assert words in sentence
    assert "secret" not in sentence
    assert sentence.endswith(f"(HTTP {status} from nginx/1.22.1)" if headers is NGINX else f"(HTTP {status})")


@given(
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["server", "content-type", "location"]), st.text(max_size=500)),
    st.binary(max_size=500) | st.text(max_size=500).map(problem),
)
def test_any_answer_has_one_short_printable_sentence(status: int, headers: dict[str, str], body: bytes) -> None:
    """A server cannot write control characters or several lines to a terminal or a log."""
    for kind in (headers, {**headers, **PROBLEM}):
        sentence = explain_answer(URL, HandshakeAnswer(status, kind, body))
        assert sentence.isprintable()
        assert len(sentence) <= 2 * MAX_DETAIL


def test_only_a_hub_s_problem_has_the_hub_s_sentence() -> None:
    """Another server's problem document is explained by its status."""
    assert hub_sentence(HandshakeAnswer(403, PROBLEM, problem("this"))) == "this"
    assert hub_sentence(HandshakeAnswer(403, PROBLEM, problem("this", "about:blank"))) == ""
    assert hub_sentence(HandshakeAnswer(403, {"content-type": "application/json"}, problem("this"))) == ""


@pytest.mark.parametrize(
    ("beginning", "answer"),
    [
        (b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nbody", HandshakeAnswer(404, {"server": "x"}, b"body")),
        (b"HTTP/1.1 500\r\nno header\r\nRetry-After:  5 \r\nX", HandshakeAnswer(500, {"retry-after": "5"}, b"")),
        (b"HTTP/1.1 1000 a\r\n\r\n", None),
        (b"\x15\x03\x01\x00\x02\x02\x46", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"", None),
    ],
)
def test_the_beginning_of_an_answer_has_its_status(beginning: bytes, answer: HandshakeAnswer | None) -> None:
    """Also in HTTP/1.0, and with broken or missing headers."""
    assert read_answer(beginning) == answer


@given(st.binary(max_size=300))
def test_any_beginning_of_an_answer_is_read(rest: bytes) -> None:
    """Nothing that a server sends is an error here."""
    answer = read_answer(b"HTTP/1.1 200" + rest)
    assert answer is None or explain_answer(URL, answer).isprintable()


def test_a_server_without_http_may_need_tls() -> None:
    """With wss:// it speaks TLS already."""
    assert explain_no_http(URL).endswith("if it needs TLS, use wss://hub.example/v1/device")
    assert "TLS" not in explain_no_http("wss://hub.example/v1/device")
