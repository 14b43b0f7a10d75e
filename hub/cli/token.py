"""`hub token`: create, list, rotate and revoke access tokens, whether or not the hub runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer import Argument, Option

from hub.cli.command import (
    FAILED,
    MINUTES,
    MISUSE,
    AsJson,
    Config,
    Data,
    cells,
    fail,
    settings_or_exit,
    stdout_console,
    time_text,
)
from hub.config.address import find_running_hub
from hub.http.answers import DEFAULT_OVERLAP_S, MAX_TOKEN_LIFE_S
from hub.model.identity import Role, Token, pattern_problem
from hub.registry.database import FILE_NAME, RegistryError
from hub.registry.token import LOGIN_CODE_SECONDS, SESSION_SECONDS, TokenDatabase, open_token_file
from wire.errors import Code
from wire.timestamp import DURATION_NS, NS_PER_S

COMMAND = "hub token"

RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
DATE_WIDTH = 10

app = typer.Typer(
    no_args_is_help=True,
    help="Create, list, rotate and revoke access tokens of devices, programs and people, whether or not the hub runs.",
    epilog="Example:  hub token create --role device --device boiler-1",
)


def duration_ns(text: str) -> int:
    """Return the nanoseconds of a duration like 90s, 15m, 12h, 30d or 4w. Raises typer.BadParameter."""
    match = re.fullmatch(r"([0-9]{1,10})([smhdw])", text.strip())
    duration = int(match[1]) * DURATION_NS[match[2]] if match else 0
    if not NS_PER_S <= duration <= MAX_TOKEN_LIFE_S * NS_PER_S:
        raise typer.BadParameter(f"{text!r} is not a duration: write for example 12h, 30d or 4w")
    return duration


@app.command(
    epilog=(
        "Examples:\n\n"
        "  TOKEN=$(hub token create --role device --device boiler-1)\n\n"
        "  hub token create --role gateway --devices 'plant-2.*' --label 'PLC bridge'\n\n"
        "  hub token create --role viewer --label 'wall display' --expires-in 30d\n\n"
        "Roles: device (writes as one device), gateway (writes as the devices that a pattern matches), viewer (reads), "
        "operator (reads, handles the quarantine, retires devices), admin (all of that, and tokens)."
    )
)
def create(
    role: Annotated[Role, Option(help="Role of the token.", show_default=False)],
    device: Annotated[str | None, Option(metavar="ID", help="Device of a token of role device.")] = None,
    devices: Annotated[
        str | None, Option(metavar="PATTERN", help="Devices of a gateway: `*` matches any characters, `?` one.")
    ] = None,
    label: Annotated[str, Option(metavar="TEXT", help="Purpose, in your own words.")] = "",
    expires_in: Annotated[
        str | None, Option(metavar="TIME", help="Lifetime: 12h, 30d, 4w. Default: until it is revoked.")
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Create a token and print it, alone, on stdout. It is shown only once: the hub keeps its SHA-256."""
    pattern = _pattern(role, device, devices)
    expires_ns = None if expires_in is None else time.time_ns() + duration_ns(expires_in)
    directory = settings_or_exit(config, data=data).data
    is_new = not (directory / FILE_NAME).exists()
    with _token_file(directory, create=True) as tokens:
        new = tokens.create_token(role, pattern=pattern, label=label, expires_ns=expires_ns)
    typer.echo(new.text)
    bound = f" for {pattern}" if pattern else ""
    typer.echo(f"{role} token {new.token.id}{bound}; save it now, it cannot be shown again", err=True)
    if is_new:
        typer.echo(
            f"no hub has used {directory.absolute()} yet: the token is for the one that you start there. For another "
            "hub, set --data or HUB_DATA to its data directory",
            err=True,
        )


@app.command("list", epilog="Example:  hub token list")
def list_tokens(as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """List the tokens without their secrets.

    Shows the id, role, devices, label and times (UTC) of each token. The last use is exact to a minute.
    """
    with _token_file(settings_or_exit(config, data=data).data) as file:
        tokens = file.tokens()
    now_ns = time.time_ns()
    if as_json:
        typer.echo(json.dumps([_facts(token, now_ns) for token in tokens]))
    elif tokens:
        stdout_console().print(_table(tokens, now_ns))
    else:
        typer.echo("there is no token yet: `hub token create --help` shows how to create one", err=True)


@app.command(
    epilog="Examples:\n\n  NEW=$(hub token rotate k3vq7m2xw5tz4ahd)\n\n  hub token rotate k3vq7m2xw5tz4ahd --overlap 7d"
)
def rotate(
    id: Annotated[str, Argument(metavar="ID", help="Token id, as `hub token list` shows it.")],
    overlap: Annotated[str, Option(metavar="TIME", help="Time for which the old token stays valid: 12h, 7d.")] = (
        f"{DEFAULT_OVERLAP_S // 3600}h"
    ),
    config: Config = None,
    data: Data = None,
) -> None:
    """Replace a token by a new one with the same rights, label and lifetime, and print the new one, alone, on stdout.

    Both tokens are valid during the overlap. Then the old one expires, and the hub closes its connections. It expires
    earlier if that was set, and signs out the pages that were signed in with it.
    """
    with _token_file(settings_or_exit(config, data=data).data) as file:
        rotated = file.rotate_token(id, duration_ns(overlap))
    typer.echo(rotated.new.text)
    typer.echo(
        f"{rotated.new.token.role} token {rotated.new.token.id} replaces {id}, which is valid until "
        f"{_time(rotated.old_expires_ns, MINUTES)} UTC; save the new one now, it cannot be shown again",
        err=True,
    )


@app.command(epilog="Example:  hub token revoke k3vq7m2xw5tz4ahd")
def revoke(
    ids: Annotated[list[str], Argument(metavar="ID", help="Token ids, as `hub token list` shows them.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Revoke tokens by their ids.

    Within 5 seconds a running hub rejects the tokens and closes their connections. Pages that were signed in with them
    are signed out.
    """
    with _token_file(settings_or_exit(config, data=data).data) as file:
        revoked = file.revoke(ids)
    for id in revoked:
        typer.echo(f"revoked {id}")
    unknown = [id for id in dict.fromkeys(ids) if id not in revoked]
    if unknown:
        fail(COMMAND, f"there is no token {', '.join(unknown)}: `hub token list` shows the ids")


@app.command(
    help=(
        "Print a one-time URL that signs a browser in.\n\n"
        f"The URL works once, within {LOGIN_CODE_SECONDS // 60} minutes, while the hub runs. The page then stays "
        f"signed in until the token is revoked, at most {SESSION_SECONDS // 86_400} days."
    ),
    epilog=("Examples:\n\n  hub token url\n\n  hub token url --token k3vq7m2xw5tz4ahd --hub https://hub.example"),
)
def url(
    token_id: Annotated[
        str | None, Option("--token", metavar="ID", help="Token whose rights the page gets. Default: the first admin.")
    ] = None,
    hub: Annotated[
        str | None,
        Option(metavar="URL", help="URL of the hub for the browser. Default: public_url, or the hub's own address."),
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Print a one-time URL that signs a browser in."""
    settings = settings_or_exit(config, data=data)
    with _token_file(settings.data) as file:
        code = file.create_login_code(token_id)
    running = find_running_hub(settings.data)
    if hub is None:
        hub = settings.browser_url if running is None else running.browser_url
    typer.echo(f"{hub.rstrip('/')}/open/{code}")
    if running is None:
        typer.echo(
            f"no hub runs on the data in {settings.data.absolute()}: start it there before you open the URL, on the "
            "address that the URL names",
            err=True,
        )


def _pattern(role: Role, device: str | None, devices: str | None) -> str:
    """Return the device id or pattern of a token. Raises typer.BadParameter."""
    wanted, given, other = {
        Role.DEVICE: ("--device ID", device, devices),
        Role.GATEWAY: ("--devices PATTERN", devices, device),
    }.get(role, (None, None, device or devices))
    if other is not None or (wanted is not None and given is None):
        needs = f"needs {wanted}" if wanted else "takes neither --device nor --devices"
        raise typer.BadParameter(f"role {role} {needs}")
    problem = pattern_problem(role, given or "")
    if problem is not None:
        raise typer.BadParameter(problem)
    return given or ""


@contextmanager
def _token_file(directory: Path, *, create: bool = False) -> Iterator[TokenDatabase]:
    """Open the tokens of a data directory. An error ends the command with a sentence that says what to do."""
    path = directory / FILE_NAME
    try:
        if create:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif not path.exists():
            fail(COMMAND, f"there is no hub in {directory}: set --data or HUB_DATA to its data directory")
        with open_token_file(path) as tokens:
            yield tokens
    except RegistryError as error:
        fail(COMMAND, error.message, MISUSE if error.code is Code.BAD_MESSAGE else FAILED)
    except OSError as error:
        fail(COMMAND, f"{directory}: {error.strerror}")


def _facts(token: Token, now_ns: int) -> dict[str, Any]:
    return {
        "id": token.id,
        "role": token.role.value,
        "devices": token.pattern or None,
        "label": token.label,
        "created": _time(token.created_ns),
        "last_used": _time(token.last_used_ns),
        "expires": _time(token.expires_ns),
        "expired": not token.usable(now_ns),
    }


def _table(tokens: Sequence[Token], now_ns: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=max(len(token.id) for token in tokens))  # people copy it
    for name in ("role", "devices", "label"):
        table.add_column(name, overflow="fold")
    for name in ("created", "last used", "expires"):
        table.add_column(name, min_width=DATE_WIDTH)
    for token in tokens:
        expires = _time(token.expires_ns, MINUTES) or "never"
        table.add_row(
            *cells(
                token.id,
                token.role,
                token.pattern,
                token.label,
                _time(token.created_ns, MINUTES) or "",
                _time(token.last_used_ns, MINUTES) or "never",
                expires if token.usable(now_ns) else f"{expires} (expired)",
            )
        )
    return table


def _time(time_ns: int | None, form: str = RFC_3339) -> str | None:
    """Return a time in UTC; None for None."""
    return None if time_ns is None else time_text(time_ns, form)
