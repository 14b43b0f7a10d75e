"""`hub token`: make, list and revoke tokens, whether or not the hub runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from hub.cli.exit import FAILED, MISUSE, fail
from hub.cli.options import AsJson, Config, Data, settings_or_exit
from hub.cli.terminal import stdout_console
from hub.config import browser_url
from hub.http.answers import MAX_TOKEN_LIFE_S
from hub.model.identity import Role, Token, pattern_problem
from hub.registry import (
    FILE_NAME,
    LOGIN_CODE_SECONDS,
    SESSION_SECONDS,
    RegistryError,
    TokenFile,
    open_token_file,
)
from wire.errors import Code

COMMAND = "hub token"

RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
MINUTES = "%Y-%m-%d %H:%M"
DATE_WIDTH = 10

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke the tokens that let devices, programs and people in; whether or not the hub runs.",
)


def life_ns(text: str) -> int:
    """A duration like 90s, 15m, 12h, 30d or 4w in nanoseconds. Raises typer.BadParameter."""
    match = re.fullmatch(r"([0-9]{1,10})([smhdw])", text.strip())
    seconds = int(match[1]) * SECONDS[match[2]] if match else 0
    if not 1 <= seconds <= MAX_TOKEN_LIFE_S:
        raise typer.BadParameter(f"{text!r} is not a duration like 12h, 30d or 4w")
    return seconds * 1_000_000_000


@app.command(
    epilog=(
        "Examples:\n\n"
        "  TOKEN=$(hub token create --role device --device boiler-1)\n\n"
        "  hub token create --role gateway --devices 'plant-2.*' --label 'PLC bridge'\n\n"
        "  hub token create --role viewer --label 'wall display' --expires-in 30d\n\n"
        "Roles: device (writes as one device), gateway (writes as the devices that a pattern matches), viewer (sees), "
        "operator (sees and sends commands), admin (all that, and tokens)."
    )
)
def create(
    role: Annotated[Role, typer.Option(help="What the token is for.", show_default=False)],
    device: Annotated[
        str | None, typer.Option(metavar="ID", help="The device that a token of role device writes as.")
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="The devices of a gateway: `*` is any run of characters, `?` any one."),
    ] = None,
    label: Annotated[str, typer.Option(metavar="TEXT", help="What it is for, in your own words.")] = "",
    expires_in: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it is valid: 12h, 30d, 4w. Without it, until it is revoked."),
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Make a token and print it, alone, on stdout. It is shown this once: the hub keeps only its SHA-256."""
    pattern = _pattern(role, device, devices)
    expires_ns = None if expires_in is None else time.time_ns() + life_ns(expires_in)
    directory = settings_or_exit(config, data=data).data
    with _token_file(directory, create=True) as tokens:
        new = tokens.create_token(role, pattern=pattern, label=label, expires_ns=expires_ns)
    typer.echo(new.text)
    bound = f" for {pattern}" if pattern else ""
    typer.echo(f"{role} token {new.token.id}{bound}; keep it now, it cannot be shown again", err=True)


@app.command("list")
def list_tokens(
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """List tokens, never their secrets.

    Shows each token's id, role, devices, label and times (UTC); when it was used last is true to a minute.
    """
    with _token_file(settings_or_exit(config, data=data).data) as file:
        tokens = file.tokens()
    now_ns = time.time_ns()
    if as_json:
        typer.echo(json.dumps([_facts(token, now_ns) for token in tokens]))
    elif tokens:
        stdout_console().print(_table(tokens, now_ns))
    else:
        typer.echo("no tokens yet; `hub token create --help` shows how to make one", err=True)


@app.command(epilog="Example:  hub token revoke k3vq7m2xw5tz4ahd")
def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids as `hub token list` shows them.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Revoke tokens by their ids.

    A running hub lets nobody in with them any more and closes the connections they have open, within 5 seconds. The
    pages that were opened with them are signed out as well.
    """
    with _token_file(settings_or_exit(config, data=data).data) as file:
        revoked = set(file.revoke(ids))
    for gone in dict.fromkeys(ids):
        if gone in revoked:
            typer.echo(f"revoked {gone}")
    unknown = [named for named in dict.fromkeys(ids) if named not in revoked]
    if unknown:
        fail(COMMAND, f"there is no token {', '.join(unknown)}; `hub token list` shows the ids")


@app.command(
    help=(
        "Print a one-time URL that signs a browser in.\n\n"
        f"It works once, within {LOGIN_CODE_SECONDS // 60} minutes, while the hub runs. The page then stays signed in "
        f"until the token is revoked, at most {SESSION_SECONDS // 86_400} days."
    ),
    epilog=("Examples:\n\n  hub token url\n\n  hub token url --token k3vq7m2xw5tz4ahd --hub https://hub.example"),
)
def url(
    token_id: Annotated[
        str | None,
        typer.Option("--token", metavar="ID", help="Whose rights the page gets. Without it, those of the first admin."),
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(metavar="URL", help="How the browser reaches the hub. Without it, the address it listens on."),
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Print a one-time URL that signs a browser in."""
    settings = settings_or_exit(config, data=data)
    with _token_file(settings.data) as file:
        code = file.create_login_code(token_id)
    reached = hub or browser_url(*settings.address, tls=settings.tls.certificate is not None)
    typer.echo(f"{reached.rstrip('/')}/open/{code}")


def _pattern(role: Role, device: str | None, devices: str | None) -> str:
    """The device id or pattern that the role needs. Raises typer.BadParameter."""
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
def _token_file(directory: Path, *, create: bool = False) -> Iterator[TokenFile]:
    """The tokens of a data directory; what goes wrong ends the command with 1 and a sentence that says what to do."""
    path = directory / FILE_NAME
    try:
        if create:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif not path.exists():
            fail(COMMAND, f"there is no hub in {directory}; say where its data are with --data or HUB_DATA")
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
        "last_used": _time(token.used_ns),
        "expires": _time(token.expires_ns),
        "expired": not token.usable(now_ns),
    }


def _table(tokens: Sequence[Token], now_ns: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True, min_width=max(len(token.id) for token in tokens))  # there to be copied
    for name in ("role", "devices", "label"):
        table.add_column(name, overflow="fold")
    for name in ("created", "last used", "expires"):
        table.add_column(name, min_width=DATE_WIDTH)
    for token in tokens:
        expires = _time(token.expires_ns, MINUTES) or "never"
        cells = (
            token.id,
            token.role.value,
            token.pattern,
            token.label,
            _time(token.created_ns, MINUTES) or "",
            _time(token.used_ns, MINUTES) or "never",
            expires if token.usable(now_ns) else f"{expires} (expired)",
        )
        # As text, so that a label with brackets in it is shown as it is.
        table.add_row(*map(Text, cells))
    return table


def _time(time_ns: int | None, form: str = RFC_3339) -> str | None:
    """A time in UTC; None for none."""
    return None if time_ns is None else datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime(form)
