"""A command's way to a running hub: its address and a token, from the options or from the data directory of the hub."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from hub.cli.client import HubClient, RequestFailed
from hub.cli.exit import FAILED, MISUSE, fail
from hub.cli.options import HubOptions, settings_or_exit
from hub.config import browser_url
from hub.model.identity import Role
from hub.registry import FILE_NAME, RegistryError, open_token_file

BORROWED_SECONDS = 86_400
"""Life of the token that a command makes for itself. It is revoked when the command ends; one that was killed leaves it
behind, until then at most."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@contextmanager
def hub_client(command: str, options: HubOptions, *, role: Role = Role.VIEWER) -> Iterator[HubClient]:
    """The hub that a command's options mean; for `command` and `role` see `hub_address`.

    A RequestFailed from inside ends the command with a sentence and 1, or 2 where the hub did not understand what was
    asked.
    """
    with ExitStack() as stack:
        address = hub_address(command, options, role=role)
        try:
            client = stack.enter_context(HubClient(*stack.enter_context(address)))
        except ValueError as error:
            fail(command, str(error), MISUSE)
        try:
            yield client
        except RequestFailed as failure:
            fail(command, str(failure), MISUSE if failure.status == HTTPStatus.UNPROCESSABLE_ENTITY else FAILED)


@contextmanager
def hub_address(command: str, options: HubOptions, *, role: Role = Role.VIEWER) -> Iterator[tuple[str, str]]:
    """The URL and the token that a command's options mean.

    `command` is its name for messages ("hub flow"). Without a token one of `role` (a gateway's: for all devices) is
    made in the data directory for as long as this lasts, which only works for a hub on this machine.
    """
    url, token = options.url, options.token
    if url is not None and token is not None:
        yield url, token
        return
    settings = settings_or_exit(options.config, data=options.data)
    url = url or browser_url(*settings.address, tls=settings.tls.certificate is not None)
    if token is not None:
        yield url, token
        return
    with _borrowed(command, url, settings.data, role) as borrowed:
        yield url, borrowed


@contextmanager
def _borrowed(command: str, url: str, directory: Path, role: Role) -> Iterator[str]:
    """A token of the data directory's, revoked in the end."""
    path = directory / FILE_NAME
    if urlsplit(url).hostname not in LOOPBACK or not path.exists():
        fail(
            command,
            f"no token for {url}: give one with HUB_TOKEN (`hub token create --role {role}` makes it), or, on the "
            "machine of the hub, say where its data are with --data or HUB_DATA",
        )
    try:
        pattern = "*" if role is Role.GATEWAY else ""
        with open_token_file(path) as tokens:
            made = tokens.create_token(
                role, pattern=pattern, label=command, expires_ns=time.time_ns() + BORROWED_SECONDS * 10**9
            )
            try:
                yield made.text
            finally:
                tokens.revoke([made.token.id])
    except RegistryError as error:
        fail(command, error.message)
