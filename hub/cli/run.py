"""`hub run`: the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer

from hub.cli import log
from hub.cli.options import Config, Data, settings_or_exit


def run(
    config: Config = None,
    data: Data = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to listen on; port 0 takes a free one.", show_default="127.0.0.1:8600")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Also start an agent for this computer's sensors and 20 simulated devices.")
    ] = False,
) -> None:
    """Run the hub until Ctrl-C or SIGTERM.

    The first line on stdout says where it listens; the first start also prints a one-time URL that signs a browser in.

    Examples:  hub run --demo  ·  hub run --data /var/lib/hub --listen 127.0.0.1:8600
    """
    # Imported only here: the other subcommands need none of the server's libraries, and start ten times as fast.
    from hub.app import HubError, run_hub

    settings = settings_or_exit(config, data=data, listen=listen)
    log.set_up(settings.log)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run_hub(settings, demo=demo, say=_say))
    except HubError as error:
        typer.echo(f"hub: {error}", err=True)
        raise typer.Exit(1) from None


def _say(line: str) -> None:
    """To stdout at once, also into a pipe."""
    print(line, flush=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one: it takes a third off the cost of each frame."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
