"""`hub config check` finds settings that would keep a hub from starting."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.cli import config
from tests.certificates import Authority, Issued

ROOT = Path(__file__).parents[3]
PUBLIC = "public_url = 'https://hub.example/'\n[access]\n"
TLS = "[tls]\ncertificate = 'certificate.pem'\nkey = 'key.pem'\n"
BROKER = "[[mqtt]]\nurl = 'mqtts://localhost'\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Issued:
    """Create a certificate and its key."""
    return authority.issue("hub", "DNS:hub.example", "IP:fd00::1")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: Issued) -> Path:
    """Create a directory with a certificate, its key, and a file that is neither."""
    for name, made in zip(("certificate.pem", "key.pem"), certificate, strict=True):
        shutil.copy(made, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(directory: Path, text: str) -> Result:
    (directory / "hub.toml").write_text(text)
    return CliRunner().invoke(config.app, ["check", "--config", "hub.toml"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[journal]\nmax_bytes = 1073741824\nkeep_bytes = 536870912",
        "[store]\nmemory_limit = '1.5 GiB'",
        "[access]\nallowed_hosts = ['hub.example']\nallowed_origins = ['https://hub.example:8443']",
        "listen = '0.0.0.0:8600'\n[tls]\ncertificate = 'certificate.pem'\nkey = 'key.pem'",
        f"listen = '0.0.0.0:8600'\n{TLS}client_ca = 'certificate.pem'\n[access]\nallowed_hosts = ['hub.example:1']",
        f"listen = '127.0.0.1:8600'\n{TLS}",
        f"listen = '192.0.2.7:8600'\n{TLS}[access]\nallowed_hosts = ['public.example']\nbehind_proxy = true",
        "listen = '0.0.0.0:8600'\n[access]\nbehind_proxy = true",
        "[access]\nbehind_proxy = true\ntrusted_proxies = ['172.18.0.2', '10.1.0.0/16', 'fd00::/8']",
        "public_url = 'https://hub.example/x/'\n[access]\nbehind_proxy = true\nallowed_hosts = ['HUB.example.']",
        "public_url = 'https://[fd00::1]:8443'\n[tls]\ncertificate = 'certificate.pem'\nkey = 'key.pem'",
        "public_url = 'http://localhost:8600/telemetry'\n[access]\nbehind_proxy = true",
        "public_url = 'http://hub.lan'",
        "public_url = ''",
    ],
)
def test_valid_settings_are_accepted(directory: Path, text: str) -> None:
    """The check does not create the data directory."""
    result = check(directory, text)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "the settings are valid\n", "")
    assert not (directory / "data").exists()


def test_a_file_that_is_not_read_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with the usual name in this folder does not take effect without the option."""
    monkeypatch.chdir(directory)
    (directory / "hub.toml").write_text("[store]\nurl = 'http://influxdb:8086'")
    result = CliRunner().invoke(config.app, ["check"])
    assert (result.exit_code, result.stdout) == (0, "the settings are valid\n")
    assert "hub.toml needs --config hub.toml" in result.stderr


@pytest.mark.parametrize(
    ("days", "settings", "says"),
    [
        ((-3, -1), "", "the certificate expired on "),
        ((1, 3), "", "the certificate is not valid before "),
        ((-3, 5), "", "the certificate ends in 4 days ("),
        (
            (-3, 30),
            "[access]\nallowed_hosts = ['a.example', 'hub.example']",
            "is for hub.example and not for a.example: ",
        ),
        ((-3, 30), "public_url = 'https://[fd00::1]/'", "is for hub.example and not for fd00::1: "),
        ((-3, 30), "[access]\nallowed_hosts = ['::1']", "is for hub.example and not for ::1: "),
    ],
)
def test_a_certificate_that_clients_refuse_is_a_warning(
    directory: Path, authority: Authority, days: tuple[int, int], settings: str, says: str
) -> None:
    """The settings are valid, and one line on stderr names the problem."""
    begins, ends = (timedelta(days=number) for number in days)
    for name, made in zip(
        ("certificate.pem", "key.pem"),
        authority.issue("other", "DNS:hub.example", begins=begins, ends=ends),
        strict=True,
    ):
        shutil.copy(made, directory / name)
    result = check(directory, f"{settings}\n{TLS}")
    assert (result.exit_code, result.stdout) == (0, "the settings are valid\n"), result.stderr
    assert result.stderr.startswith("hub: warning: the certificate ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_address_to_listen_on_has_to_be_in_the_certificate(directory: Path) -> None:
    """Clients that use it would refuse the connection."""
    result = check(directory, f"listen = '192.0.2.7:8600'\n{TLS}")
    assert "is for hub.example, fd00::1 and not for 192.0.2.7: clients refuse it" in result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[journal]\nmax_bytes = 1073741824", "journal: keep_bytes (1073741824) may be half of max_bytes"),
        ("[journal]\nkeep_seconds = inf", "journal.keep_seconds: input should be a finite number"),
        ("[store]\nmemory_limit = 'much'", "store.memory_limit: 'much' is not a size: write a number and KB, MB"),
        ("[access]\nallowed_origins = ['hub.example']", "access.allowed_origins: 'hub.example' is not an origin"),
        ("[access]\nallowed_hosts = ['https://hub.example']", "access.allowed_hosts: 'https://hub.example' is not"),
        ("public_url = 'hub.example'", "public_url: expected the URL of the hub for browsers, for example https://"),
        (
            "public_url = 'https://user@hub.example'",
            "public_url: 'https://user@hub.example' may contain a host in ASCII",
        ),
        ("public_url = 'https://hüb.example'", "may contain a host in ASCII, a port and a path"),
        ("public_url = 'https://hub.example/?a=1'", "may contain a host in ASCII, a port and a path"),
        ("public_url = 'https://hub.example/a//b'", "public_url: the path '/a//b' may contain letters, digits"),
        ("public_url = 'https://hub.example/../a'", "public_url: the path '/../a' may contain letters, digits"),
        ("public_url = 'https://hub.example/a;b'", "public_url: the path '/a;b' may contain letters, digits"),
        (f"public_url = 'https://hub.example/{'a' * 128}'", "at most 128 characters"),
        (
            f"{PUBLIC}behind_proxy = true\nallowed_hosts = ['hub.exampel']",
            "public_url is at 'hub.example', but access.allowed_hosts has only hub.exampel: add 'hub.example' there",
        ),
        (f"{PUBLIC}", "public_url is https://hub.example, but nothing states where TLS ends: set access.behind_proxy"),
        (
            "public_url = 'http://hub.example/x'\n[access]\nbehind_proxy = true",
            "but access.behind_proxy states that TLS is used: write https://hub.example/x",
        ),
        (
            "public_url = 'https://hub.example/api/hub'\n[access]\nbehind_proxy = true",
            "public_url: the hub itself has addresses below /api/",
        ),
        ("[access]\ntrusted_proxies = ['10.0.0.5/8']", "'10.0.0.5/8' is an address within a network: write 10.0.0.0/8"),
        (
            "[access]\ntrusted_proxies = ['nginx']",
            "access.trusted_proxies: 'nginx' is neither an address nor a network",
        ),
        ("[access]\ntrusted_proxies = ['0.0.0.0/0']", "is every address, so any client could pretend to be another"),
        ("listen = '127.0.0.1:²'", "listen: expected HOST:PORT"),
        ("listen = '0.0.0.0:8600'", "refusing to listen on 0.0.0.0 without TLS"),
        ("[tls]\ncertificate = 'certificate.pem'", "tls: certificate and key belong together"),
        ("[tls]\nkey = 'key.pem'", "tls: certificate and key belong together"),
        ("[tls]\ncertificate = 'gone.pem'\nkey = 'key.pem'", "tls.certificate: gone.pem: No such file"),
        ("[tls]\ncertificate = 'certificate.pem'\nkey = 'gone.pem'", "tls.key: gone.pem: No such file"),
        (
            "[tls]\ncertificate = 'certificate.pem'\nkey = 'certificate.pem'",
            "certificate.pem: the file has no private key in",
        ),
        ("[tls]\ncertificate = 'hub.toml'\nkey = 'key.pem'", "hub.toml: the file has no certificate in PEM"),
        ("[tls]\nclient_ca = 'certificate.pem'", "tls: client_ca needs certificate and key"),
        (f"{TLS}client_ca = 'gone.pem'", "tls.client_ca: gone.pem: No such file"),
        (f"{TLS}client_ca = 'key.pem'", "tls.client_ca: key.pem: the file has no certificate in PEM"),
        (
            f"{BROKER}subscribe = [{{ topic = 'a', device = 'a', payload = 'function', function = 'gone.py' }}]",
            "gone.py",
        ),
        (f"{BROKER}tls_ca = 'gone.pem'\nsubscribe = [{{ topic = '{{device}}' }}]", "mqtt mqtt: "),
        (
            f"{BROKER}publish = [{{ topic = 'a/{{device}}/{{metric}}' }}]\nsubscribe = [{{ topic = '{{device}}/#' }}]",
            "would return through the subscription '+/#'",
        ),
        (f"{BROKER}presets = ['tasmota']\n[mqtt.discovery]\nenabled = true", "discovery needs readings published"),
    ],
)
def test_invalid_settings_are_reported_in_one_line(directory: Path, text: str, says: str) -> None:
    """The line names the key, the exit code is 2, and there is no traceback."""
    result = check(directory, text)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert says in result.stderr
    assert result.stderr.startswith("hub: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("HUB_LISTN", "HUB_LISTN: there is no such setting; did you mean HUB_LISTEN?"),
        ("hub_listn", "hub_listn: there is no such setting; did you mean HUB_LISTEN?"),
        ("HUB_STORE_THREADS", "HUB_STORE_THREADS: there is no such setting; did you mean HUB_STORE__THREADS?"),
        ("HUB_STORE__THREAD", "store.thread: there is no such setting"),
        ("HUB_XYZZY_PLUGH", "HUB_XYZZY_PLUGH: there is no such setting"),
    ],
)
def test_an_unknown_variable_is_rejected(
    directory: Path, monkeypatch: pytest.MonkeyPatch, variable: str, says: str
) -> None:
    """The error names it and the closest valid name."""
    monkeypatch.setenv(variable, "5")
    result = check(directory, "")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"hub: {says}\n")


@pytest.mark.parametrize(
    "variable", ["HUB_TOKEN", "HUB_URL", "HUB_NPM", "HUB_TEST_CHROMIUM", "HUB_PORT_8600_TCP", "HUB_SERVICE_HOST"]
)
def test_variables_of_other_programs_are_ignored(
    directory: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """They belong to agents, the build, the tests, or Kubernetes beside a service called hub."""
    monkeypatch.setenv(variable, "5")
    assert check(directory, "").exit_code == 0


def test_an_invalid_size_is_reported_with_a_valid_example(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example in the sentence is accepted."""
    monkeypatch.setenv("HUB_STORE__MEMORY_LIMIT", "lots")
    text = check(directory, "").stderr
    assert text.startswith("hub: store.memory_limit: 'lots' is not a size: ")
    monkeypatch.setenv("HUB_STORE__MEMORY_LIMIT", text.split()[-1])
    assert check(directory, "").exit_code == 0


def test_the_hub_checks_its_settings_before_it_opens_anything(directory: Path) -> None:
    """`hub run` applies the same checks."""
    (directory / "hub.toml").write_text("[access]\nallowed_origins = ['hub.example']")
    result = subprocess.run(
        [sys.executable, "-m", "hub", "run", "--config", "hub.toml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "hub: access.allowed_origins: 'hub.example' is not an origin like https://host or https://host:port\n"
    )
    assert not (directory / "data").exists()
