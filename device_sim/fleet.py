"""A fleet: which devices there are, each with its id, tags and model; the same seed gives the same fleet."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from device_sim.profiles import PROFILES, Model, Profile
from wire.model import device_id_problem


class SimulatedDevice(NamedTuple):
    """One device: its id (`pump-007`), what it is, and its inside."""

    id: str
    profile: Profile
    tags: dict[str, str]
    model: Model


def make_fleet(count: int, *, seed: int, profiles: Sequence[str] = (), prefix: str = "") -> list[SimulatedDevice]:
    """`count` devices, the profiles (by default all) taking turns; numbered from 1 within each profile.

    A device's values depend on the seed and its own number only, not on how many others there are. Raises ValueError
    for an unknown profile, or a prefix that makes no device ids.
    """
    names = list(dict.fromkeys(profiles)) or list(PROFILES)
    if unknown := [name for name in names if name not in PROFILES]:
        raise ValueError(f"there is no profile {unknown[0]!r}; there are {', '.join(PROFILES)}")
    devices = []
    for i in range(count):
        profile = PROFILES[names[i % len(names)]]
        number = i // len(names) + 1
        device_id = f"{prefix}-{profile.name}-{number:03}" if prefix else f"{profile.name}-{number:03}"
        if problem := device_id_problem(device_id):
            raise ValueError(problem)
        random = Random(f"{seed}:{profile.name}:{number}")
        tags = {"type": profile.name, "site": random.choice(profile.sites)}
        devices.append(SimulatedDevice(device_id, profile, tags, profile.make(random)))
    return devices
