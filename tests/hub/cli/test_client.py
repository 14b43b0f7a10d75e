"""What a command asks a running hub, what it gets, and what it is told when it goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from hub.cli.client import HubClient, RequestFailed
from tests.hub.cli.peer import Answer, Server, respond


def test_a_request_has_its_query_its_token_and_the_path_the_hub_is_mounted_under(
    serve: Callable[[Answer], Server],
) -> None:
    """None leaves a parameter out, a sequence repeats it, and the answer is JSON."""
    server = serve(respond(200, b'{"a": [1]}'))
    with HubClient(server.url + "/plant/", "hub_viewer_x_y") as client:
        assert client.get("/api/v1/x", {"device": ["a b", "c"], "limit": 3, "before": None}) == {"a": [1]}
    assert server.seen == [("GET", "/plant/api/v1/x?device=a+b&device=c&limit=3", "Bearer hub_viewer_x_y")]


def test_a_refusal_is_told_in_the_hubs_own_words(serve: Callable[[Answer], Server]) -> None:
    """The detail of problem+json; of anything else the status, and a guess at what is wrong."""
    with HubClient(serve(respond(403, b'{"detail": "a token of role viewer may not"}')).url) as client:
        with pytest.raises(RequestFailed, match="a token of role viewer may not") as refused:
            client.send("POST", "/api/v1/x", body={"a": 1})
        assert refused.value.status == 403
    with (
        HubClient(serve(respond(404, b"<html>")).url) as client,
        pytest.raises(RequestFailed, match="is it a hub"),
    ):
        client.get("/")
    with HubClient(serve(respond(200, b"<html>")).url) as client, pytest.raises(RequestFailed, match="is it a hub"):
        client.get("/")


def test_a_connection_that_the_hub_closed_meanwhile_is_opened_again(serve: Callable[[Answer], Server]) -> None:
    """A GET is asked once more; each change has a connection of its own and is sent once."""

    def close_after(peer: BaseHTTPRequestHandler) -> None:
        respond(200, b"1")(peer)
        peer.close_connection = True  # without having said so

    server = serve(close_after)
    with HubClient(server.url) as client:
        answers = [client.get("/1"), client.get("/2"), client.send("DELETE", "/3"), client.send("DELETE", "/4")]
    assert answers == [1, 1, 1, 1]
    assert [path for _, path, _ in server.seen] == ["/1", "/2", "/3", "/4"]


def test_an_answer_that_breaks_off_is_no_answer(serve: Callable[[Answer], Server]) -> None:
    """A stream that ends before its length is an error, however it is read."""
    server = serve(respond(200, b'{"a": 1}', length=100))
    with HubClient(server.url) as client:
        with pytest.raises(RequestFailed, match="broke off, 92 bytes early"):
            client.get("/")
        with client.stream("/") as body, pytest.raises(RequestFailed, match="broke off"):
            list(body)


@pytest.mark.parametrize(
    ("url", "token", "says"),
    [
        ("hub.example", None, "is not the URL of a hub"),
        ("ws://hub.example", None, "is not the URL of a hub"),
        ("http://me@hub.example", None, "has no user"),
        ("http://hub.example:port", None, "[Pp]ort"),
        ("http://hub.example", "a\nb", "a token has"),
    ],
)
def test_what_is_no_url_and_no_token_is_found_before_anything_is_sent(url: str, token: str | None, says: str) -> None:
    """A sentence, not a protocol error."""
    with pytest.raises(ValueError, match=says):
        HubClient(url, token)
