"""The comparison of the store with the journal over the API, on a real hub."""

from __future__ import annotations

from pathlib import Path

from hub.model.identity import Role
from tests.hub.cli.hub_command import METRICS, batch
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub, send_batches
from tests.tasks import running_task
from wire import device

MISSING, RESEND = "/api/v1/store/missing", "/api/v1/store/resend"


async def test_a_store_that_has_everything_lacks_nothing(tmp_path: Path) -> None:
    """The parts lead to the last acknowledged entry. A resend writes nothing, and is an event of the hub."""
    async with opened_hub(tmp_path) as services, listening(services) as url, http_client(services) as admin:
        hello = device.Hello("boiler", "0" * 16, 3, True, 0, metrics=METRICS)
        await send_batches(url, await new_token(services, Role.GATEWAY), hello, batch(1, 1.0), batch(2, 2.0))
        last = services.journal.last_offset
        async with running_task(services.store_consumer.run()):
            await services.store_consumer.reached(last, acknowledged=True)
            found = (await admin.get(MISSING)).json()
            assert (found["up_to"], found["next"], found["batches"], found["missing"]) == (last, None, 2, [])
            rest = (await admin.get(MISSING, params={"after": last - 1, "up_to": last})).json()
            assert rest["batches"] == 1
            other = (await admin.get(MISSING, params={"device": "pump"})).json()
            assert other["batches"] == 0
            resent = (await admin.post(RESEND, json={})).json()
            assert (resent["resent"], resent["refused"], resent["next"]) == (0, 0, None)
        events = [event.kind for event in await services.registry.events(of_hub=True)]
        assert events.count("store_resend") == 1


async def test_invalid_ranges_and_roles_are_refused(tmp_path: Path) -> None:
    """A viewer sees what is missing; only an operator has it written."""
    async with opened_hub(tmp_path) as services, http_client(services, Role.VIEWER) as viewer:
        answer = await viewer.get(MISSING, params={"since": "yesterday"})
        assert (answer.status_code, answer.json()["detail"].startswith("since: ")) == (422, True)
        assert (await viewer.get(MISSING, params={"after": -1})).status_code == 422
        assert (await viewer.post(RESEND, json={})).status_code == 403
