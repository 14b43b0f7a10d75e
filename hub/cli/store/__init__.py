"""`hub store`: what there is to do with the store itself."""

from __future__ import annotations

import typer

from hub.cli.store import compact, copy, setup

app = typer.Typer(no_args_is_help=True, help="Look after where history lives.")
app.command("compact")(compact.compact_store)
app.command("copy")(copy.copy)
app.command("setup")(setup.setup_store)
