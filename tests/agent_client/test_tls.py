"""TLS of clients: the files of the options, the certificates that are accepted, and a sentence for each failure."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from agent_client.client import ConnectFailed, connect
from agent_client.endpoint import Endpoint, device_url
from agent_client.tls import ClientTls, TlsFileError, client_tls, describe_tls_failure
from tests.certificates import LOOPBACK, Authority, Issued

URL = "wss://hub.example:8600/v1/device"


class Authorities(NamedTuple):
    """The authority of the hub's certificates, and another one."""

    own: Authority
    other: Authority


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    folder = tmp_path_factory.mktemp("authorities")
    return Authorities(Authority(folder / "own"), Authority(folder / "other", "Other authority"))


@contextlib.contextmanager
def serving(server: Issued) -> Iterator[str]:
    """Run a TLS server that answers every request with 404; yield its URL for agents."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*server)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        # Closing the listener ends the wait for the next connection.
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    secured = context.wrap_socket(connection, server_side=True)
                    if secured.recv(4096):
                        secured.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    secured.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield device_url(f"https://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


async def failure(server: Issued, tls: ClientTls | None) -> str:
    """Return the reason why an agent cannot connect."""
    with serving(server) as url, pytest.raises(ConnectFailed) as failed:
        await connect(Endpoint(url, "token", tls=tls), name="agent")
    return failed.value.ending.reason


ACCEPTED = "there is no hub at this address: check the host, the port and the path of the URL (HTTP 404)"
"""The reason after a handshake that succeeded."""


async def test_only_the_given_authority_is_trusted(authorities: Authorities) -> None:
    """With --ca its certificates are accepted, and those of another authority are not; the system trusts neither."""
    server = authorities.own.issue("hub", *LOOPBACK)
    assert await failure(server, ClientTls(authorities.own.certificate)) == ACCEPTED
    for tls in (None, ClientTls(authorities.other.certificate)):
        reason = await failure(server, tls)
        assert "signed by an unknown authority; give --ca FILE (or HUB_CA) with the certificate of that" in reason


async def test_the_hubs_own_certificate_is_enough(authorities: Authorities) -> None:
    """--ca may name it instead of its authority; its names still have to match."""
    server, other = authorities.own.issue("hub", *LOOPBACK), authorities.own.issue("named", "DNS:hub.example")
    assert await failure(server, ClientTls(server.certificate)) == ACCEPTED
    assert "is for hub.example and not for" in await failure(other, ClientTls(other.certificate))


@pytest.mark.parametrize(
    ("begins", "ends", "says"),
    [
        (-3, -1, "the hub's certificate has expired; renew it on the hub, or correct the clock of this machine"),
        (1, 3, "the hub's certificate is not valid yet; correct the clock"),
    ],
)
async def test_a_certificate_outside_its_validity_is_named(
    authorities: Authorities, begins: int, ends: int, says: str
) -> None:
    """The sentence distinguishes an end that has passed from a beginning that has not come."""
    server = authorities.own.issue("hub", *LOOPBACK, begins=timedelta(days=begins), ends=timedelta(days=ends))
    assert says in await failure(server, ClientTls(authorities.own.certificate))


async def test_a_wrong_name_is_reported_with_the_right_ones(authorities: Authorities) -> None:
    """The sentence contains the names in the certificate, at most five, and the one that was used."""
    tls = ClientTls(authorities.own.certificate)
    few = authorities.own.issue("few", "DNS:hub.example", "IP:192.0.2.7")
    assert "is for hub.example, 192.0.2.7 and not for 127.0.0.1; use" in await failure(few, tls)
    many = authorities.own.issue("many", *(f"DNS:h{number}" for number in range(7)))
    assert "is for h0, h1, h2, h3, h4, … and not for" in await failure(many, tls)


async def test_a_pinned_certificate_is_accepted_for_any_name(authorities: Authorities) -> None:
    """The command on the hub's machine accepts the hub's own certificate, and none besides it of the same authority."""
    server, sibling = (authorities.own.issue(name, "DNS:hub.example") for name in ("pinned", "sibling"))
    chain = authorities.own.certificate.with_name("chain.pem")
    comment = "# für den Hub\n".encode()
    chain.write_bytes(comment + server.certificate.read_bytes() + authorities.own.certificate.read_bytes())
    for pinned in (server.certificate, chain):
        assert await failure(server, ClientTls(pinned=pinned)) == ACCEPTED
        assert "unknown authority" in await failure(sibling, ClientTls(pinned=pinned))


async def test_files_that_change_are_used_for_the_next_connection(authorities: Authorities, tmp_path: Path) -> None:
    """A new authority is trusted without a restart; while the file is broken or missing, the last one stays."""
    file = tmp_path / "ca.pem"
    shutil.copy(authorities.other.certificate, file)
    tls = ClientTls(file)
    server = authorities.own.issue("hub", *LOOPBACK)
    assert "unknown authority" in await failure(server, tls)
    shutil.copy(authorities.own.certificate, file)
    assert await failure(server, tls) == ACCEPTED
    file.write_text("no certificate")
    assert await failure(server, tls) == ACCEPTED
    file.unlink()
    assert await failure(server, tls) == ACCEPTED


def test_the_settings_are_read_once_while_the_files_do_not_change(authorities: Authorities) -> None:
    """All devices of a simulator share them."""
    tls = ClientTls(authorities.own.certificate)
    assert tls.context is tls.context


def test_an_unusable_file_is_named_with_its_option(authorities: Authorities, tmp_path: Path) -> None:
    """Each error contains the option, the file and the problem."""
    empty, text = tmp_path / "empty.pem", tmp_path / "text.pem"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    empty.touch()
    text.write_text("no certificate")
    made, other = authorities.own.issue("client"), authorities.own.issue("other")
    missing = tmp_path / "missing.pem"
    for files, says in (
        ((missing, None, None), f"--ca {missing}: No such file or directory"),
        ((tmp_path, None, None), f"--ca {tmp_path}: Is a directory"),
        ((empty, None, None), f"--ca {empty}: the file is empty"),
        ((text, None, None), f"--ca {text}: the file has no certificate in PEM"),
        ((None, made.certificate, None), "--client-key is missing"),
        ((None, None, made.key), "--client-certificate is missing"),
        ((None, missing, made.key), f"--client-certificate {missing}: No such file"),
        ((None, made.certificate, other.key), f"--client-key {other.key} are not a certificate and its key: the key"),
        ((None, made.certificate, made.certificate), f"--client-key {made.certificate}: the file has no private key"),
        ((pipe, None, None), f"--ca {pipe}: not a regular file"),
    ):
        with pytest.raises(TlsFileError) as error:
            client_tls(*files)
        assert says in str(error.value)
    assert client_tls(None, None, None) is None


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", f"{URL} requires a client certificate; give --client-certificate FILE"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", f"{URL} requires a client certificate; give --client-certificate FILE"),
        ("TLSV1_ALERT_UNKNOWN_CA", "the hub rejected the client certificate; give"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "the hub rejected the client certificate; give"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "rejected the client certificate because it has expired; renew it"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "no version of TLS in common; update the older one"),
        ("WRONG_VERSION_NUMBER", "this port does not speak TLS; use ws://hub.example:8600/v1/device, or set"),
        ("RECORD_LAYER_FAILURE", "this port does not speak TLS; use ws://hub.example:8600/v1/device, or set"),
        ("INTERNAL_ERROR", f"TLS with {URL} failed (INTERNAL_ERROR); check the hub's log"),
    ],
)
def test_each_alert_is_a_sentence_with_a_remedy(reason: str, says: str) -> None:
    """The error is found below the one that a library raised for it."""
    alert = ssl.SSLError(1, "alert")
    alert.reason = reason
    raised = EOFError()
    raised.__cause__ = alert
    assert says in (describe_tls_failure(raised, URL) or "")


def test_other_errors_are_not_of_tls() -> None:
    """A refused connection has its own sentence."""
    assert describe_tls_failure(ConnectionRefusedError(), URL) is None
