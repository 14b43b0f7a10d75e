"""Client that reads the data of a hub over its HTTP API."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import httpx

from tests.conditions import POLL_S
from tests.end_to_end.hub import NO_TLS

TIMEOUT_S = 60.0


class HubReader:
    """A client with one token, an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, verify=NO_TLS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def get(self, path: str, **query: str) -> Any:
        """Return the answer in JSON. Raises httpx.HTTPError."""
        answer = await self._client.get(path, params=query)
        answer.raise_for_status()
        return answer.json()

    async def accepts_token(self) -> bool:
        """Return whether the hub accepts the token."""
        return (await self._client.get("/api/v1/hub")).status_code != 401

    async def ready(self) -> dict[str, str]:
        """Return the problems and warnings that /ready reports, by part."""
        answer = (await self._client.get("/ready")).json()
        return {**answer["problems"], **answer["warnings"]}

    async def flow(self) -> Any:
        """Return the accounting."""
        return await self.get("/api/v1/flow")

    async def settled(self) -> None:
        """Wait until the store has everything that the journal has."""
        while True:
            if not any(consumer["lag"] for consumer in (await self.flow())["consumers"]):
                return
            await asyncio.sleep(POLL_S)

    async def history(self) -> list[tuple[str, str, list[int], list[Any]]]:
        """Return every reading of every series."""
        answer = await self.get("/api/v1/history", device="*", points="0", **{"from": "0"})
        return [
            (series["device"], series["metric"], series["time_ns"], series["values"]) for series in answer["series"]
        ]

    async def quarantined(self) -> dict[str, str]:
        """Return the code and the message of each batch in quarantine, by its device and number."""
        page = await self.get("/api/v1/quarantine")
        found = {}
        for batch in page["quarantine"]:
            payload = await self._client.get(f"/api/v1/quarantine/{batch['offset']}/payload")
            payload.raise_for_status()
            key = f"{batch['device']} {batch['epoch']} {batch['seq']}"
            found[key] = f"{batch['code']} {payload.text}"
        return found

    async def facts(self) -> dict[str, str]:
        """Return the definitions of each metric, the tags of each device, and the rights of each token."""
        facts = {}
        for device in (await self.get("/api/v1/devices"))["devices"]:
            facts[f"device {device['device']}"] = str(sorted(device["tags"].items()))
            for metric in device["metrics"]:
                definition = f"{metric['type']} {metric['unit']} {metric['description']}"
                facts[f"metric {device['device']} {metric['metric']}"] = definition
        for token in (await self.get("/api/v1/tokens"))["tokens"]:
            facts[f"token {token['id']}"] = f"{token['role']} {token['pattern']} {token['label']}"
        return facts

    async def events(self) -> list[tuple[int, str, str]]:
        """Return id, kind and detail of the newest events of the hub and of all devices, whose details begin with
        [device ID]."""
        events = (await self.get("/api/v1/events", limit="200"))["events"]
        found = [(event["id"], event["kind"], event["detail"]) for event in events]
        for device in (await self.get("/api/v1/devices"))["devices"]:
            name = device["device"]
            events = (await self.get(f"/api/v1/devices/{name}/events", limit="200"))["events"]
            found += [(event["id"], event["kind"], f"[device {name}] {event['detail']}") for event in events]
        return found
