"""Devices of presets at a real broker: they answer commands as their documentation shows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from hub.mqtt.message import Message, Publish
from tests.conditions import result_of
from tests.hub.mqtt.command_samples import CommandSamples, Exchange
from tests.hub.mqtt.connection import Client, connected


class CommandDevices:
    """Devices that share one connection to the broker. `published` are the messages that arrived for them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen = 0
        self.exchange: Exchange | None = None
        self.published: list[Message] = []

    def publish(self, message: Message) -> None:
        """Publish a message of a device."""
        self._client.connection.publish(Publish(message.topic, message.payload, 1, message.retain))

    async def run(self, topics: Sequence[str]) -> None:
        """Answer what arrives on these topics by the current exchange, until cancelled."""
        for topic in topics:
            await self._client.subscribe(topic)
        while True:
            received = await self._client.got(self._seen + 1)
            for message in received[self._seen :]:
                self._seen += 1
                self.published.append(message)
                names = self.exchange.names_in(message.payload) if self.exchange is not None else None
                if self.exchange is not None and names is not None and message.topic == self.exchange.topic:
                    for answer in self.exchange.answered(names):
                        self.publish(answer)


@contextlib.asynccontextmanager
async def command_devices(port: int, samples: Sequence[CommandSamples]) -> AsyncIterator[CommandDevices]:
    """Run the devices of these samples, described and ready for commands."""
    async with connected(port) as client:
        devices = CommandDevices(client)
        topics = sorted({exchange.topic for file in samples for exchange in file.exchanges})
        task = asyncio.create_task(devices.run(topics))
        for file in samples:
            for message in file.described:
                devices.publish(message)
        try:
            yield devices
        finally:
            task.cancel()
            await asyncio.wait([task])


async def declared(client: httpx.AsyncClient, device: str, names: int) -> list[str]:
    """Return the commands of a device, each as one line, as soon as it has at least so many."""

    async def found() -> list[str] | None:
        answer = await client.get(f"/api/v1/devices/{device}/commands/declared")
        usages = [row["usage"] for row in answer.json()["commands"]] if answer.status_code == 200 else []
        return usages if len(usages) >= names else None

    return await result_of(found)


async def sent(client: httpx.AsyncClient, device: str, name: str, parameters: Any, **more: Any) -> dict[str, Any]:
    """Send a command as soon as the device is connected; return it at its end."""
    body = {"name": name, "parameters": parameters, "wait_s": 30, **more}

    async def answered() -> dict[str, Any] | None:
        answer = await client.post(f"/api/v1/devices/{device}/commands", json=body)
        if answer.status_code == 409 and answer.json()["code"] == "not_connected":
            return None
        assert answer.status_code == 201, answer.text
        command: dict[str, Any] = answer.json()
        return command

    return await result_of(answered)
