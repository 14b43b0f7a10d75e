"""TLS settings of the port: they follow the files, and bad files change nothing."""

from __future__ import annotations

import shutil
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from hub.http.certificate import CertificateError, TlsFiles
from hub.http.tls import REPEAT_SECONDS, PortTls
from tests.certificates import Authority, Issued
from tests.conditions import until
from tests.tasks import running_task

POLL_S = 0.02


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def install(made: Issued, folder: Path) -> TlsFiles:
    """Put a certificate and its key where the hub looks for them."""
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    shutil.copy(made.certificate, files.certificate)
    shutil.copy(made.key, files.key)
    return files


async def test_a_new_pair_of_files_is_loaded(authority: Authority, tmp_path: Path) -> None:
    """The context is replaced, and not changed: open connections keep theirs."""
    tls = PortTls(install(authority.issue("first", "DNS:a"), tmp_path), poll_s=POLL_S)
    before, serial = tls.context, tls.certificate.serial
    async with running_task(tls.run()):
        install(authority.issue("second", "DNS:b"), tmp_path)
        await until(lambda: tls.certificate.serial != serial)
    assert (tls.certificate.names, tls.problems()) == (("b",), [])
    assert tls.context is not before


async def test_a_pair_that_does_not_fit_is_not_used(authority: Authority, tmp_path: Path) -> None:
    """The old one stays in use and the reason is a problem, until the right key follows."""
    files = install(authority.issue("first", "DNS:a"), tmp_path)
    tls = PortTls(files, poll_s=POLL_S)
    context = tls.context
    renewed = authority.issue("second", "DNS:b")
    with structlog.testing.capture_logs() as lines:
        async with running_task(tls.run()):
            shutil.copy(renewed.certificate, files.certificate)
            await until(tls.problems)
            (problem,) = tls.problems()
            assert problem.startswith("the new files are not used, and the certificate before them stays in use: tls: ")
            assert "are not a certificate and its key" in problem
            assert tls.context is context
            await until(lambda: lines)
            shutil.copy(renewed.key, files.key)
            await until(lambda: not tls.problems())
    assert tls.certificate.names == ("b",)
    assert [line["event"] for line in lines] == ["tls certificate has a problem", "tls certificate loaded"]


async def test_a_missing_file_changes_nothing(authority: Authority, tmp_path: Path) -> None:
    """A program that renews may remove a file for a moment; a link to another file is followed."""
    files = install(authority.issue("first", "DNS:a"), tmp_path)
    tls = PortTls(files, poll_s=POLL_S)
    async with running_task(tls.run()):
        files.certificate.unlink()
        await until(tls.problems)
        assert "No such file or directory" in tls.problems()[0]
        renewed = authority.issue("second", "DNS:b")
        shutil.copy(renewed.key, files.key)
        files.certificate.symlink_to(renewed.certificate)
        await until(lambda: tls.certificate.names == ("b",))
        await until(lambda: not tls.problems())


async def test_no_content_of_a_file_ends_the_hub(authority: Authority, tmp_path: Path) -> None:
    """The old certificate stays in use, whatever a program writes, until a file can be used again."""
    first = authority.issue("first", "DNS:a")
    files = install(first, tmp_path)
    tls = PortTls(files, poll_s=POLL_S)
    good = first.certificate.read_bytes()
    async with running_task(tls.run()):
        for content in (b"\xff\xfe\x00", good.replace(b"M", b"\xc3\xa9", 1), b"\xef\xbb\xbf" + good, good[:-40]):
            files.certificate.write_bytes(content)
            await until(tls.problems)
            assert tls.certificate.names == ("a",)
            files.certificate.write_bytes(good + "# für den Hub\n".encode())
            await until(lambda: not tls.problems())


async def test_files_are_loaded_on_request(authority: Authority, tmp_path: Path) -> None:
    """SIGHUP loads them at once: the next look at the files is an hour away."""
    tls = PortTls(install(authority.issue("first", "DNS:a"), tmp_path), poll_s=3600)
    async with running_task(tls.run()):
        install(authority.issue("second", "DNS:b"), tmp_path)
        tls.reload()
        await until(lambda: tls.certificate.names == ("b",))


async def test_the_authority_of_devices_is_replaced(authority: Authority, tmp_path: Path) -> None:
    """The old authority is not trusted any more."""
    newer, client_ca = Authority(tmp_path / "newer", "Newer authority"), tmp_path / "client-ca.pem"
    shutil.copy(authority.certificate, client_ca)
    tls = PortTls(install(authority.issue("hub", "DNS:a"), tmp_path)._replace(client_ca=client_ca), poll_s=POLL_S)
    before = tls.context
    async with running_task(tls.run()):
        shutil.copy(newer.certificate, client_ca)
        await until(lambda: tls.context is not before)
    assert (before.verify_mode, tls.context.verify_mode) == (ssl.CERT_OPTIONAL, ssl.CERT_OPTIONAL)
    names = [certificate["subject"][0][0][1] for certificate in tls.context.get_ca_certs()]
    assert names == ["Newer authority"]


async def test_a_problem_is_logged_when_it_begins_and_once_a_day(authority: Authority, tmp_path: Path) -> None:
    """The sentence changes with the days that are left, so each day has its line."""
    now_s = [0.0]
    made = authority.issue("hub", "DNS:a", ends=timedelta(days=30))
    tls = PortTls(install(made, tmp_path), hosts=["a"], now_s=lambda: now_s[0], poll_s=POLL_S)
    now_s[0] = tls.certificate.not_after_s - 15 * 86_400
    assert tls.problems() == []
    with structlog.testing.capture_logs() as lines:
        for monotonic_s, left_s in (
            (0.0, 15 * 86_400),
            (1.0, 13 * 86_400 + 2),
            (2.0, 13 * 86_400 + 1),
            (3.0, 12 * 86_400),
            (4.0, 0),
            (5.0, -5),
            (4.0 + REPEAT_SECONDS, -86_400),
        ):
            now_s[0] = tls.certificate.not_after_s - left_s
            tls.log_problems(monotonic_s)
    problems = [line["problem"].partition(" (")[0].partition(" on ")[0] for line in lines]
    assert problems == [
        "the certificate ends in 13 days",
        "the certificate ends in 12 days",
        "the certificate expired",
        "the certificate expired",
    ]
    assert {line["log_level"] for line in lines} == {"warning"}


def test_unusable_files_keep_the_hub_from_starting(authority: Authority, tmp_path: Path) -> None:
    """The error is that of the files."""
    first, second = authority.issue("first", "DNS:a"), authority.issue("second", "DNS:b")
    with pytest.raises(CertificateError, match="are not a certificate and its key"):
        PortTls(install(Issued(first.certificate, second.key), tmp_path))
