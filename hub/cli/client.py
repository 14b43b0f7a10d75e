"""The HTTP client of the commands: how a command finds a running hub, logs in, and reports errors."""

from __future__ import annotations

import getpass
import http.client
import io
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

from agent_client.tls import (
    ClientTls,
    TlsFileError,
    client_tls,
    describe_tls_failure,
    is_wrong_name,
    read_certificate_names,
    system_tls,
)
from hub.cli.command import FAILED, MISUSE, HubOptions, fail, settings_or_exit
from hub.config.address import find_running_hub
from hub.config.settings import browser_url
from hub.model.identity import Role
from hub.registry.database import FILE_NAME, RegistryError
from hub.registry.token import open_token_file
from wire.timestamp import NS_PER_S

TIMEOUT_S = 30.0
"""Silence of the hub after which a command fails: twice the time of the slowest query on a busy hub."""

MAX_PAGE = 100
"""Rows in one request for a list with a limit: the maximum of the API for the quarantine."""

TEMPORARY_TOKEN_SECONDS = 600
"""Lifetime of a token that a command creates for itself. The command revokes it at its end; a killed command leaves it
until it expires."""

RENEWAL_S = 120.0
"""Interval at which a command that runs for longer extends its token: four failures in a row do no harm."""

UNSENT = (None, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
"""Statuses of a request without an answer of the hub, while it restarts. It may have been executed."""

MAX_RETRY_PAUSE_S = 2.0

MAX_USER = 64
"""Characters of the user's name in a label."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Query = Mapping[str, str | int | Sequence[str] | None]
"""Parameters of a request. None omits a parameter, a sequence repeats it."""


class RequestFailed(Exception):
    """A failed request. `status` is the status of the hub, or None if the hub could not be reached.

    `code` is the code of the problem, empty without one.
    """

    def __init__(self, message: str, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class HubClient:
    """Client of one hub with one connection, which stays open between requests. Not thread-safe.

    `url` may include a path under which the hub is mounted. No proxy is used. Without `tls` the authorities of the
    system are trusted.
    """

    def __init__(self, url: str, token: str | None = None, tls: ClientTls | None = None) -> None:
        """Raises ValueError for an invalid URL or token."""
        parts = urlsplit(url.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a hub: write for example http://127.0.0.1:8600")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("the URL of a hub has no user, query or fragment: set the token with HUB_TOKEN")
        if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
            raise ValueError("a token contains only letters, digits and '_'")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._path = parts.path.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._tls = (tls or system_tls()) if parts.scheme == "https" else None
        self._connection = (
            http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
            if self._tls is None
            else http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=self._tls.context)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The next request opens a new one."""
        self._connection.close()

    def get(self, path: str, query: Query | None = None) -> Any:
        """Return the JSON answer to a GET request. Raises RequestFailed."""
        return self.send("GET", path, query=query)

    def get_pages(self, path: str, key: str, query: Query, limit: int | None = None) -> tuple[list[Any], bool]:
        """Return at most `limit` rows from the pages of a list, and whether there are more. Raises RequestFailed.

        `key` is the name of the list in each answer.
        """
        rows: list[Any] = []
        cursor: str | None = None
        while limit is None or len(rows) < limit:
            count = None if limit is None else min(MAX_PAGE, limit - len(rows))
            page = self.get(path, {**query, "limit": count, "cursor": cursor})
            rows += page[key]
            cursor = page["next"]
            if cursor is None:
                break
        return rows, cursor is not None

    def send(self, method: str, path: str, *, query: Query | None = None, body: object = None) -> Any:
        """Return the JSON answer to a request, None without a body. `body` is sent as JSON. Raises RequestFailed."""
        with self.stream(path, query, method=method, body=body) as answer:
            text = answer.read()
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise RequestFailed(
                f"{self.url}{path} did not answer with JSON: check that the URL belongs to a hub"
            ) from None

    def send_until(self, give_up_s: float, method: str, path: str, *, body: object) -> Any:
        """Send a request that may be repeated until it is answered, or until this time of the monotonic clock.

        Only for a request that does the same once and twice. Raises RequestFailed.
        """
        pause_s = 0.1
        while True:
            try:
                return self.send(method, path, body=body)
            except RequestFailed as failure:
                pause_s = min(2 * pause_s, MAX_RETRY_PAUSE_S)
                if failure.status not in UNSENT or time.monotonic() + pause_s >= give_up_s:
                    raise
            time.sleep(pause_s)

    @contextmanager
    def stream(
        self, path: str, query: Query | None = None, *, method: str = "GET", body: object = None
    ) -> Iterator[IO[bytes]]:
        """Open the body of an answer of any length as a file. Reading raises RequestFailed if the connection breaks.

        Raises RequestFailed if the hub rejects the request or cannot be reached.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._path}{path}{'?' if given else ''}{urlencode(given, doseq=True)}"
        try:
            response = self._request(method, target, body)
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise RequestFailed(*_problem(response, response.read()))
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise RequestFailed(_unreachable(self.url, error, self._tls)) from error
        answer = io.BufferedReader(_Body(response))
        try:
            yield answer
        finally:
            if not response.isclosed():
                self.close()  # the caller did not read all of it

    def _request(self, method: str, target: str, body: object) -> http.client.HTTPResponse:
        connection, headers, content = self._connection, self._headers, None
        if body is not None:
            headers, content = {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()
        if method != "GET":
            # The hub may close an idle connection. A request that changes something must not be sent twice for that.
            connection.close()
        elif connection.sock is not None:
            with suppress(http.client.RemoteDisconnected, ConnectionError):
                connection.request(method, target, content, headers)
                return connection.getresponse()
            connection.close()
        connection.request(method, target, content, headers)
        return connection.getresponse()


@contextmanager
def hub_client(command: str, options: HubOptions, *, role: Role = Role.VIEWER) -> Iterator[HubClient]:
    """Open a client of the hub that the options select. `command` and `role` are those of `hub_address`.

    A RequestFailed inside ends the command with a sentence and 1, or with 2 if the hub did not understand the request.
    """
    with hub_address(command, options, role=role) as address:
        try:
            client = HubClient(*address)
        except ValueError as error:
            fail(command, str(error), MISUSE)
        try:
            with client:
                yield client
        except RequestFailed as failure:
            message = _stopped_hub(options, address.url, failure) or str(failure)
            fail(command, message, MISUSE if failure.status == HTTPStatus.UNPROCESSABLE_ENTITY else FAILED)


def _stopped_hub(options: HubOptions, url: str, failure: RequestFailed) -> str | None:
    """Return that no hub runs on the data directory, and which address was asked; None if that is not the cause."""
    if options.url is not None or failure.status not in (None, HTTPStatus.UNAUTHORIZED):
        return None
    data = settings_or_exit(options.config, data=options.data).data
    if find_running_hub(data) is not None or not (data / FILE_NAME).exists():
        return None
    answer = "does not answer" if failure.status is None else "is another hub, which does not know this directory"
    return f"no hub runs on {data}, and {url} {answer}: start the hub of this directory, or name another with --url"


class HubAddress(NamedTuple):
    """The URL of a hub, a token, and the settings of TLS; None for those of the system."""

    url: str
    token: str
    tls: ClientTls | None


@contextmanager
def hub_address(command: str, options: HubOptions, *, role: Role = Role.VIEWER) -> Iterator[HubAddress]:
    """Yield the URL, the token and the TLS settings that the options select.

    `command` is the name in messages ("hub flow"). Without a token, a temporary one of `role` is created in the data
    directory (for a gateway: for all devices). This works only for a hub on this machine.
    """
    url, token = options.url, options.token
    try:
        tls = client_tls(options.ca, options.client_certificate, options.client_key)
    except TlsFileError as error:
        fail(command, str(error), MISUSE)
    if url is not None and token is not None:
        yield HubAddress(url, token, tls)
        return
    settings = settings_or_exit(options.config, data=options.data)
    if url is None:
        running = find_running_hub(settings.data)
        certificate = settings.tls.certificate
        url = browser_url(*settings.address, tls=certificate is not None)
        if running is not None:
            url, certificate = running.url, None if running.certificate is None else Path(running.certificate)
        tls = tls or _pinned(certificate)
    if token is not None:
        yield HubAddress(url, token, tls)
        return
    with _temporary_token(command, url, settings.data, role) as temporary:
        yield HubAddress(url, temporary, tls)


def _pinned(certificate: Path | None) -> ClientTls | None:
    """Return settings that accept the hub's own certificate alone.

    The certificate is for the hub's public name, and this machine reaches the hub by its address.
    """
    if certificate is not None:
        with suppress(TlsFileError):
            return ClientTls(pinned=certificate)
    return None


@contextmanager
def _temporary_token(command: str, url: str, directory: Path, role: Role) -> Iterator[str]:
    """Create a token in the data directory and revoke it at the end."""
    path = directory / FILE_NAME
    if urlsplit(url).hostname not in LOOPBACK or not path.exists():
        fail(
            command,
            f"no token for {url}: set HUB_TOKEN to a token (`hub token create --role {role}` creates one), or, on the "
            "machine of the hub, set --data or HUB_DATA to its data directory",
        )
    try:
        pattern = "*" if role is Role.GATEWAY else ""
        label = f"local command line ({_user()})"
        with (
            open_token_file(path) as tokens,
            tokens.temporary_token(role, pattern=pattern, label=label, expires_ns=_token_end_ns()) as new,
            _renewed(path, new.token.id),
        ):
            yield new.text
    except RegistryError as error:
        fail(command, error.message)


@contextmanager
def _renewed(path: Path, id: str) -> Iterator[None]:
    """Extend the lifetime of a token in a thread, until the end."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWAL_S):
            with suppress(RegistryError), open_token_file(path) as tokens:
                tokens.extend(id, _token_end_ns())

    thread = threading.Thread(target=renew, name="token renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _token_end_ns() -> int:
    return time.time_ns() + TEMPORARY_TOKEN_SECONDS * NS_PER_S


def _user() -> str:
    """Return the name of the operating system's user, or the number of one without a name."""
    try:
        import pwd

        name = pwd.getpwuid(os.getuid()).pw_name
    except ImportError:
        name = getpass.getuser()
    except KeyError:
        name = str(os.getuid())
    return "".join(character if character.isprintable() else "?" for character in name)[:MAX_USER]


class _Body(io.RawIOBase):
    """Body of an answer that raises RequestFailed if it is incomplete."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        super().__init__()
        self._response = response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            size = self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise RequestFailed(f"the answer of the hub is incomplete ({_reason(error)}): try again") from error
        if size == 0 and self._response.length:
            raise RequestFailed(
                f"the answer of the hub is incomplete, {self._response.length} bytes are missing: try again"
            )
        return size


def _problem(response: http.client.HTTPResponse, body: bytes) -> tuple[str, int, str]:
    """Return the detail, the status and the code of an answer in problem+json, else a sentence with its status."""
    try:
        problem = json.loads(body)
        detail, code = problem["detail"], problem.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        detail = code = None
    if not isinstance(detail, str):
        detail = f"the answer was {response.status} {response.reason}: check that the URL and its path belong to a hub"
    return detail, response.status, code if isinstance(code, str) else ""


def _unreachable(url: str, error: Exception, tls: ClientTls | None) -> str:
    names = read_certificate_names(url, tls) if tls is not None and is_wrong_name(error) else []
    failure = describe_tls_failure(error, url, names)
    if failure is not None:
        return failure
    return f"{url} does not answer ({_reason(error)}): check that the hub runs, and set --url or HUB_URL to its address"


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
