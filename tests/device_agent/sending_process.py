"""An agent to be killed: sends numbers as fast as its spool takes them, and says which ones it took.

    python -m tests.device_agent.sending_process URL SPOOL FIRST TOKEN

Four senders share the spool. Sender 0 sends FIRST, FIRST + 4, …; each number is written to standard output after send()
or, for sender 3, which collects, after flush() has returned.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from device_agent import Agent, Surroundings

SENDERS = 4
DEVICE = "killed"
NUMBERS_OF_A_RUN = 1_000_000
"""More than a run sends: the next one begins with a multiple of it."""

_ROOT = Path(__file__).parents[2]


async def send(agent: Agent, sender: int, first: int) -> None:
    number = first + sender
    while True:
        if sender < SENDERS - 1:
            await agent.send({"n": number})
            taken = [number]
        else:
            taken = list(range(number, number + 8 * SENDERS, SENDERS))
            for each in taken:
                await agent.collect({"n": each})
            await agent.flush()
        # One write a line: a line is there as a whole or not at all, whenever the process dies.
        for each in taken:
            os.write(1, b"%d\n" % each)
        number = taken[-1] + SENDERS


async def main(url: str, spool: str, first: int, token: str | None) -> None:
    quick = Surroundings(max_delay_ms=20)
    agent = Agent(url, device=DEVICE, token=token, spool=spool, surroundings=quick)
    async with agent, asyncio.TaskGroup() as senders:
        for sender in range(SENDERS):
            senders.create_task(send(agent, sender, first))


async def killed_run(url: str, spool: Path, first: int, lines: int, token: str | None = None) -> list[int]:
    """Lets an agent send until it has said so many numbers; kills it; returns all that it said."""
    arguments = (url, str(spool), str(first), *([token] if token else []))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.device_agent.sending_process", *arguments,
        stdout=asyncio.subprocess.PIPE, cwd=_ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    said = [await process.stdout.readline() for _ in range(lines)]
    process.kill()
    said += (await process.communicate())[0].splitlines(keepends=True)
    return [int(line) for line in said if line.endswith(b"\n")]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None))
