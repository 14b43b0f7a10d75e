"""The hub's certificate: what is loaded, which files are rejected, and what clients would refuse."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from hub.http.certificate import Certificate, CertificateError, TlsFiles, certificate_problems, load_tls
from tests.certificates import KEY, Authority

DAY_S = 86_400
NOW_S = 1_800_000_000.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def a_certificate(*names: str, begins_s: float = -DAY_S, ends_s: float = 90 * DAY_S) -> Certificate:
    return Certificate(names or ("hub.example",), NOW_S + begins_s, NOW_S + ends_s, "01")


@pytest.mark.parametrize(("begins", "ends"), [(-1, 30), (-3, -1), (1, 3)])
def test_a_certificate_is_read_with_its_names_and_times(authority: Authority, begins: int, ends: int) -> None:
    """Names are in lower case, addresses in their shortest form; an expired certificate is read, too."""
    asked_s = time.time()
    made = authority.issue(
        "hub", "DNS:Hub.Example", "DNS:*.plant.example", "IP:192.0.2.7", "IP:2001:db8::1",
        begins=timedelta(days=begins), ends=timedelta(days=ends),
    )  # fmt: skip
    certificate = load_tls(TlsFiles(*made)).certificate
    assert certificate.names == ("hub.example", "*.plant.example", "192.0.2.7", "2001:db8::1")
    assert certificate.not_before_s - asked_s == pytest.approx(begins * DAY_S, abs=60)
    assert certificate.not_after_s - asked_s == pytest.approx(ends * DAY_S, abs=60)
    assert certificate.serial == authority.run("x509", "-in", made.certificate, "-noout", "-serial").strip()[7:]


def test_unusable_files_are_named(authority: Authority, tmp_path: Path) -> None:
    """Each error names the setting or the files, and the problem."""
    made, other = authority.issue("made", "DNS:a"), authority.issue("other", "DNS:a")
    client = authority.issue("client", "DNS:a", usage="clientAuth")
    locked, text, missing = tmp_path / "locked.key", tmp_path / "text.pem", tmp_path / "missing.pem"
    authority.run("pkey", "-in", made.key, "-aes256", "-passout", "pass:secret", "-out", locked)
    text.write_text("no certificate")
    der, pipe, damaged = tmp_path / "der.crt", tmp_path / "pipe", tmp_path / "damaged.pem"
    authority.run("x509", "-in", made.certificate, "-outform", "DER", "-out", der)
    rsa = tmp_path / "rsa.key"
    authority.run("genpkey", "-algorithm", "RSA", "-out", rsa)
    os.mkfifo(pipe)
    damaged.write_text(made.certificate.read_text().replace("MII", "MIA"))
    for files, says in (
        (TlsFiles(missing, made.key), f"tls.certificate: {missing}: No such file or directory"),
        (TlsFiles(made.certificate, missing), f"tls.key: {missing}: No such file or directory"),
        (
            TlsFiles(made.certificate, other.key),
            "are not a certificate and its key: the key does not belong to the certificate",
        ),
        (
            TlsFiles(made.certificate, rsa),
            "are not a certificate and its key: the key does not belong to the certificate",
        ),
        (TlsFiles(made.certificate, locked), f"tls.key: {locked}: the key has a passphrase; remove it"),
        (TlsFiles(text, made.key), f"tls.certificate: {text}: the file has no certificate in PEM"),
        (TlsFiles(der, made.key), f"tls.certificate: {der}: the file is in DER and not in PEM; convert it"),
        (TlsFiles(pipe, made.key), f"tls.certificate: {pipe}: not a regular file"),
        (TlsFiles(*made, pipe), f"tls.client_ca: {pipe}: not a regular file"),
        (TlsFiles(damaged, made.key), "are not a certificate and its key: one of them is damaged ("),
        (TlsFiles(*client), "clients cannot accept it (it may not be used by a server)"),
        (TlsFiles(*made, missing), f"tls.client_ca: {missing}: No such file or directory"),
        (TlsFiles(*made, text), f"tls.client_ca: {text}: the file has no certificate in PEM"),
    ):
        with pytest.raises(CertificateError) as error:
            load_tls(files)
        assert says in str(error.value)


@pytest.mark.parametrize(
    "comment", ["# Zertifikat für den Hub\n".encode(), b"\xef\xbb\xbf# comment\n", b"\xff\x00\xfe\n"]
)
def test_bytes_around_the_blocks_are_ignored(authority: Authority, tmp_path: Path, comment: bytes) -> None:
    """A program that renews may write comments, which need not be ASCII."""
    made, file = authority.issue("hub", "DNS:a"), tmp_path / "file.pem"
    file.write_bytes(comment + made.certificate.read_bytes() + comment)
    assert load_tls(TlsFiles(file, made.key)).certificate.names == ("a",)


def test_a_certificate_that_signed_itself_is_usable(authority: Authority, tmp_path: Path) -> None:
    """Many hubs begin with one. A file with the certificate and its key may be named twice."""
    file, key = tmp_path / "both.pem", tmp_path / "key.pem"
    authority.run("req", "-x509", *KEY, "-days", "2", "-subj", "/CN=hub.example", "-out", file, "-keyout", key)
    file.write_text(key.read_text() + file.read_text())
    assert load_tls(TlsFiles(file, file)).certificate.names == ()


@pytest.mark.parametrize(
    ("left_s", "says"),
    [
        (15 * DAY_S, None),
        (14 * DAY_S - 1, "the certificate ends in 13 days (2027-01-29 07:59 UTC): clients refuse it after that"),
        (DAY_S, "the certificate ends in 1 day ("),
        (3 * 3600, "the certificate ends in 3 hours ("),
        (60, "the certificate ends in 1 hour ("),
        (0, "the certificate expired on 2027-01-15 08:00 UTC: clients refuse it, and agents keep their readings"),
        (-DAY_S, "the certificate expired on 2027-01-14 08:00 UTC"),
    ],
)
def test_an_end_within_14_days_is_a_problem(left_s: float, says: str | None) -> None:
    """The sentence contains the time that is left and the date, and that no restart is necessary."""
    problems = certificate_problems(a_certificate(ends_s=left_s), [], NOW_S)
    if says is None:
        assert problems == []
    else:
        (problem,) = problems
        assert problem.startswith(says)
        assert problem.endswith("a restart is not necessary")


def test_a_certificate_that_is_not_valid_yet_is_a_problem() -> None:
    """The sentence contains the date from which on it is valid."""
    (problem,) = certificate_problems(a_certificate(begins_s=3600), [], NOW_S)
    assert problem.startswith("the certificate is not valid before 2027-01-15 09:00 UTC: clients refuse it until then")


@pytest.mark.parametrize(
    ("names", "host", "is_covered"),
    [
        (("hub.example",), "hub.example", True),
        (("hub.example",), "HUB.example.", True),
        (("hub.example",), "other.example", False),
        (("*.example.com",), "hub.example.com", True),
        (("*.example.com",), "example.com", False),
        (("*.example.com",), "a.hub.example.com", False),
        (("*.com",), "example.com", False),
        (("192.0.2.7",), "192.0.2.7", True),
        (("192.0.2.7",), "192.0.2.8", False),
        (("2001:db8::1",), "2001:DB8:0::1", True),
        (("*.0.2.7",), "192.0.2.7", False),
    ],
)
def test_names_match_as_clients_match_them(names: tuple[str, ...], host: str, is_covered: bool) -> None:
    """A wildcard is the first label of a name with at least three labels, and never a part of an address."""
    certificate = a_certificate(*names)
    assert certificate.covers(host) is is_covered
    problems = certificate_problems(certificate, [host], NOW_S)
    assert problems == [] if is_covered else f"is for {names[0]} and not for {host}: clients refuse" in problems[0]


def test_every_missing_name_is_listed_once() -> None:
    """The sentence shows at most five of the names in the certificate."""
    names = [f"h{number}.example" for number in range(7)]
    (problem,) = certificate_problems(
        a_certificate(*names), ["a.example", "h1.example", "b.example", "a.example"], NOW_S
    )
    assert problem.startswith(
        "the certificate is for h0.example, h1.example, h2.example, h3.example, h4.example, … and not for a.example, "
        "b.example: clients"
    )
