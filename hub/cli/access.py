"""`hub access`: decide about the requests of devices for access to a running hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table
from typer import Argument

from agent_client.option_group import with_option_groups
from hub.cli.client import hub_client
from hub.cli.command import AsJson, HubOptions, cells, printable, stdout_console
from hub.model.identity import Role
from wire.text import plural

PATH = "/api/v1/access-requests"

CODES = Annotated[list[str], Argument(metavar="CODE", help="Codes, as the devices show them.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Decide about the requests of devices for access: an agent without a token asks, and shows a code.",
    epilog="Example:  hub access list",
)


@app.command("list", epilog="Example:  hub access list")
@with_option_groups
def list_requests(as_json: AsJson = False, *, hub: HubOptions) -> None:
    """List the requests that wait for a decision. Anybody who reaches the hub can ask under any name."""
    with hub_client("hub access list", hub, role=Role.OPERATOR) as client:
        found = client.get(PATH)["requests"]
    if as_json:
        typer.echo(json.dumps(found))
    elif found:
        stdout_console().print(_table(found))
    else:
        typer.echo("no request waits: an agent without a token asks at its start", err=True)


@app.command(epilog="Example:  hub access approve WDJB-MJHT")
@with_option_groups
def approve(codes: CODES, *, hub: HubOptions) -> None:
    """Approve requests by the codes that the devices show. The agent of each receives a token within seconds.

    The token writes as the device of the request, and as no other. A device that existed before keeps its history; its
    earlier tokens stay valid until they are revoked.
    """
    _decide("approve", codes, hub)


@app.command(epilog="Example:  hub access refuse WDJB-MJHT")
@with_option_groups
def refuse(codes: CODES, *, hub: HubOptions) -> None:
    """Refuse requests by their codes. Their agents stop asking."""
    _decide("refuse", codes, hub)


def _decide(decision: str, codes: Sequence[str], hub: HubOptions) -> None:
    with hub_client(f"hub access {decision}", hub, role=Role.OPERATOR) as client:
        devices = {_letters(request["code"]): request["device"] for request in client.get(PATH)["requests"]}
        for code in codes:
            client.send("POST", f"{PATH}/{quote(code, safe='')}/{decision}")
            device = f" for {printable(devices[_letters(code)])}" if _letters(code) in devices else ""
            typer.echo(f"{'approved' if decision == 'approve' else 'refused'} {code}{device}")


def _letters(code: str) -> str:
    """Return a code without what people may leave out."""
    return "".join(filter(str.isalnum, code)).upper()


def _table(requests: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("code", no_wrap=True, min_width=9)
    for name in ("device", "program", "address"):
        table.add_column(name, overflow="fold")
    for name in ("asked", "expires"):
        table.add_column(name, no_wrap=True)
    table.add_column("note", overflow="fold")
    for request in requests:
        table.add_row(
            *cells(
                request["code"],
                request["device"],
                request["program"],
                request["address"],
                f"{request['age_s']:.0f} s ago",
                f"in {request['expires_in_s']:.0f} s",
                _note(request),
            )
        )
    return table


def _note(request: Mapping[str, Any]) -> str:
    """Return what an operator should know about the device of a request."""
    parts = ["device exists" if request["is_known"] else "new device"]
    if request["tokens"]:
        parts.append(f"has {plural(request['tokens'], 'valid token')}")
    return ", ".join(parts)
