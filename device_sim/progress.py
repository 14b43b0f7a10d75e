"""Shows a run while it runs: a table that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console
from rich.live import Live

from device_sim.display import Snapshot, snapshot_line, snapshot_table

TABLE_SECONDS = 0.5
LINE_SECONDS = 5.0


async def show_progress(console: Console, look: Callable[[], Snapshot]) -> NoReturn:
    """Looks and shows until it is cancelled; the table disappears then, because the report follows."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_SECONDS)
            console.print(snapshot_line(look()), highlight=False, soft_wrap=True)
    with Live(snapshot_table(look()), console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(TABLE_SECONDS)
            live.update(snapshot_table(look()), refresh=True)
