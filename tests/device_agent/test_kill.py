"""kill -9 of an agent under load, at random moments."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from pathlib import Path

import pytest

from device_agent import Agent, Surroundings
from tests.device_agent.peer import Peer
from tests.device_agent.sending_process import DEVICE, NUMBERS_OF_A_RUN, SENDERS, killed_run

KILLS = 20


@pytest.mark.deadline(300)
async def test_everything_that_was_accepted_arrives_once(tmp_path: Path) -> None:
    """Killed twenty times while it sends, with a hub that crashes, too: what send() returned for arrives, and once."""
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    spool = tmp_path / "killed.spool"
    accepted: list[int] = []
    async with Peer(window=16) as peer:
        for number in range(KILLS):
            if chance.random() < 0.3:
                peer.hold()
            accepted += await killed_run(peer.url, spool, number * NUMBERS_OF_A_RUN, chance.randint(1, 400))
            if chance.random() < 0.5:
                await peer.crash()
            await peer.release()
        async with Agent(peer.url, device=DEVICE, spool=spool, surroundings=Surroundings(max_delay_ms=20)) as agent:
            await agent.drain(120)
    arrived = Counter(int(value) for value in peer.values("n") if isinstance(value, float))
    assert len(set(accepted)) == len(accepted) > KILLS
    assert [number for number in accepted if number not in arrived] == [], f"lost, seed {seed}"
    assert [number for number, times in arrived.items() if times > 1] == [], f"twice, seed {seed}"
    peer.check_order()
    for sender in range(SENDERS):
        own = [number for number in arrived if number % SENDERS == sender]
        assert own == sorted(own), f"out of order, seed {seed}"
