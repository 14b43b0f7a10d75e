"""SIGKILL of an agent under load: the hub stores everything that its spool had accepted, once."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from pathlib import Path

import pytest

from device_agent import Agent
from tests.device_agent.sending_process import DEVICE, NUMBERS_OF_A_RUN, killed_run
from tests.end_to_end.hub import running_hub

KILLS = 20


@pytest.mark.deadline(300)
async def test_everything_an_agent_accepted_is_stored_once_over_kills_of_the_agent(tmp_path: Path) -> None:
    """The agent is killed 20 times at random moments. Everything for which send() returned is in the store once, no
    number is missing, and the hub's accounting agrees."""
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    spool = tmp_path / "killed.spool"
    accepted: list[int] = []
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", DEVICE)
        for number in range(KILLS):
            first, lines = number * NUMBERS_OF_A_RUN, chance.randint(1, 400)
            accepted += await killed_run(hub.url, spool, first, lines, token)
        async with Agent(hub.url, device=DEVICE, token=token, spool=spool) as agent:
            await agent.drain(60)
            last = agent.spool.next_seq - 1
        (device,) = (await hub.settled())["devices"]
        answer = await hub.get("/api/v1/history", device=DEVICE, metric="n", points=0, **{"from": "0"})
        stored = Counter(int(value) for value in answer["series"][0]["values"])
    assert len(set(accepted)) == len(accepted) > KILLS
    assert [number for number in accepted if number not in stored] == [], f"lost, seed {seed}"
    assert [number for number, times in stored.items() if times > 1] == [], f"twice, seed {seed}"
    assert (device["accepted_batches"], device["lost_batches"]) == (last, 0)
    assert device["stored"] == device["accepted"] == len(stored)
