"""Every input gets its documented answer, the hub continues, and nothing acknowledged is lost."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.end_to_end.hub import running_hub
from tests.end_to_end.raw_agent import connect_agent, data, greeted_agent, hello
from wire.limits import MAX_BATCH_BYTES

REJECTED: list[tuple[str, Any, str]] = [
    ("a string for a float", {"values": {"f": ["warm"]}}, "wrong_type"),
    ("a text for an integer", {"values": {"i": ["1"]}}, "wrong_type"),
    ("a number for a boolean", {"values": {"b": [1]}}, "wrong_type"),
    ("a number for a string", {"values": {"s": [1]}}, "wrong_type"),
    ("an object as value", {"values": {"f": [{}]}}, "bad_message"),
    ("2^63", {"values": {"i": [2**63]}}, "out_of_range"),
    ("a time of 2^63", {"time": [2**63]}, "out_of_range"),
    ("a negative time", {"time": [-1]}, "out_of_range"),
    ("a time as text", {"time": ["now"]}, "bad_message"),
    ("an undeclared metric", {"values": {"x": [1.0]}}, "unknown_metric"),
    ("columns of different length", {"values": {"f": [1.0, 2.0]}}, "length_mismatch"),
    ("no reading", {"values": {"f": [None]}}, "empty"),
    ("an unknown field", {"colour": "red"}, "bad_message"),
    ("a long string", {"values": {"s": ["x" * 70_000]}}, "out_of_range"),
]


@pytest.mark.parametrize("format", ["json", "msgpack"])
async def test_a_bad_batch_is_rejected_kept_in_quarantine_and_the_stream_continues(tmp_path: Path, format: str) -> None:
    """Every kind of invalid content is answered with a reject and its code, then acknowledged like a valid batch."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        connection, seq = await greeted_agent(hub, token, format)
        cases = list(REJECTED)
        if format == "json":
            raw = '{{"type":"data","seq":SEQ,"time":[1],"values":{{"{}":[{}]}}}}'.format
            cases += [
                ("NaN", raw("f", "NaN"), "not_finite"),
                ("1e999", raw("f", "1e999"), "not_finite"),
                ("half a surrogate pair", raw("s", '"\\ud800"'), "bad_message"),
            ]
        else:
            nan = {"values": {"f": [float("nan")]}}
            infinite = {"values": {"f": struct.pack("<d", float("inf"))}}
            cases += [("NaN in a list", nan, "not_finite"), ("a packed infinity", infinite, "not_finite")]
        for name, changes, code in cases:
            seq += 1
            try:
                whole = isinstance(changes, str)
                await connection.send(changes.replace("SEQ", str(seq)) if whole else {**data(seq), **changes})
            except OverflowError:
                seq -= 1  # msgpack has no integer of this size, so it cannot be sent
                continue
            answer = await connection.receive()
            assert (answer["type"], answer["seq"], answer["code"]) == ("reject", seq, code), name
            assert (await connection.receive()) == {"type": "ack", "seq": seq}, name
        rejected = seq
        await connection.send(data(seq + 1))
        assert (await connection.receive()) == {"type": "ack", "seq": seq + 1}
        await connection.ws.close()
        flow = await hub.settled()
        assert flow["devices"][0]["quarantined_batches"] == rejected
        assert flow["devices"][0]["accepted_batches"] == 1
        assert flow["devices"][0]["stored"] == 1


class Ending(NamedTuple):
    """A message that ends a connection: what is sent after the welcome, the error code and the close code."""

    name: str
    message: Any
    code: str | None
    close: int
    format: str = "json"


ENDINGS = [
    Ending("bad JSON", "{", "bad_message", 4400),
    Ending("no object", "[1]", "bad_message", 4400),
    Ending("an unknown type", '{"type":"shout"}', "bad_message", 4400),
    Ending("deep nesting", '{"type":"data","seq":2,"time":[1],"values":' + '{"a":' * 40_000, "bad_message", 4400),
    Ending("bad msgpack", b"\xc1", "bad_message", 4400, "msgpack"),
    Ending("a seq left out", data(3), "unexpected_seq", 4400),
    Ending("seq 0", data(0), "bad_message", 4400),
    Ending("a second hello", hello(), "unexpected_message", 4400),
    Ending("a hub's message", {"type": "ack", "seq": 1}, "bad_message", 4400),
    Ending("binary on a JSON connection", b"{}", "wrong_frame", 4400),
    Ending("text on a msgpack connection", "{}", "wrong_frame", 4400, "msgpack"),
    Ending("1 MB", "x" * 1_000_000, None, 1009),
    Ending("one byte too many", "x" * (MAX_BATCH_BYTES + 1), None, 1009),
]


async def test_an_invalid_message_ends_the_connection_with_its_code(tmp_path: Path) -> None:
    """Each message is answered with an error and its close code; acknowledged batches stay, and the hub continues."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        first, _ = await greeted_agent(hub, token)
        await first.send(data(1))
        assert (await first.receive()) == {"type": "ack", "seq": 1}
        await first.ws.close()
        for ending in ENDINGS:
            connection, acked = await greeted_agent(hub, token, ending.format)
            assert acked == 1
            await connection.send(ending.message)
            if ending.code is not None:
                answer = await connection.receive()
                assert (answer["type"], answer["code"]) == ("error", ending.code), ending.name
                assert answer["message"], ending.name
                if ending.code == "unexpected_seq":
                    assert answer["expected"] == 2
            assert await connection.closed() == ending.close, ending.name
        connection, _ = await greeted_agent(hub, token)
        for _ in range(2):
            await connection.send(data(2))
            assert (await connection.receive()) == {"type": "ack", "seq": 2}
        await connection.ws.close()
        flow = await hub.settled()
        counts = flow["devices"][0]
        assert (counts["acked"], counts["accepted"], counts["stored"], counts["duplicate_batches"]) == (
            2,
            2,
            2,
            1,
        )


async def test_a_rejected_connection_gets_its_error_and_close_code(tmp_path: Path) -> None:
    """A connection without a token, with a wrong, foreign or revoked one, or with data before hello gets its error and
    close code."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        for name, credential, greeting, code, close in [
            ("no token", None, hello(), "not_authenticated", 4401),
            ("a wrong token", "hub_device_nobody_knows", hello(), "not_authenticated", 4401),
            ("a wrong token in the hello", None, hello(token="nonsense"), "not_authenticated", 4401),
            ("another device", token, hello("e"), "not_allowed", 4403),
            ("an admin", await hub.admin(), hello(), "not_allowed", 4403),
            ("data before hello", token, data(1), "unexpected_message", 4400),
            ("a bad device id", token, hello("a/b"), "bad_message", 4400),
        ]:
            connection = await connect_agent(hub, credential)
            await connection.send(greeting)
            answer = await connection.receive()
            assert (answer["type"], answer["code"]) == ("error", code), name
            assert await connection.closed() == close, name
        by_hello = await connect_agent(hub, None)
        await by_hello.send(hello(token=token))
        assert (await by_hello.receive())["type"] == "welcome"


async def test_the_newest_connection_of_a_device_wins(tmp_path: Path) -> None:
    """The older connection gets an error and is closed with 4409; the newer one continues after the last acknowledged
    batch."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        older, _ = await greeted_agent(hub, token)
        await older.send(data(1))
        assert (await older.receive())["type"] == "ack"
        newer, acked = await greeted_agent(hub, token)
        assert acked == 1
        assert (await older.receive())["code"] == "superseded"
        assert await older.closed() == 4409
        await newer.send(data(2))
        assert (await newer.receive()) == {"type": "ack", "seq": 2}


async def test_agents_that_alternate_under_one_id_each_resume_their_epoch(tmp_path: Path) -> None:
    """Two spools are two epochs: batches of one never count as batches, losses or duplicates of the other.

    This also holds when they reconnect, and when the hub was killed in between.
    """
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        last = {"00000000000000aa": 0, "00000000000000bb": 0}
        for turn in range(4):
            epoch = sorted(last)[turn % 2]
            connection = await connect_agent(hub, token)
            await connection.send(hello(epoch=epoch))
            assert (await connection.receive())["acked"] == last[epoch]
            # The newest batch is sent again, as after a connection that ended before its acknowledgement.
            for seq in range(max(1, last[epoch]), last[epoch] + 3):
                await connection.send(data(seq, time=[turn * 10 + seq]))
                assert await connection.receive() == {"type": "ack", "seq": max(seq, last[epoch])}
            last[epoch] += 2
            await connection.ws.close()
            if turn == 1:
                await hub.kill()
                await hub.start()
        counts = (await hub.settled())["devices"][0]
        assert (
            counts["accepted"],
            counts["stored"],
            counts["lost_batches"],
            counts["duplicate_batches"],
        ) == (8, 8, 0, 2)


async def test_a_rolled_back_spool_must_begin_a_new_epoch(tmp_path: Path) -> None:
    """A spool whose next number is already acknowledged cannot continue under this epoch."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        first, _ = await greeted_agent(hub, token)
        await first.send(data(1))
        assert (await first.receive())["type"] == "ack"
        await first.ws.close()
        restored = await connect_agent(hub, token)
        await restored.send(hello(next_seq=1))
        assert (await restored.receive())["code"] == "rolled_back"


async def test_revoking_a_token_closes_its_connections(tmp_path: Path) -> None:
    """A token revoked by the command line ends the open connection with 4401."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        connection, _ = await greeted_agent(hub, token)
        tokens = (await hub.get("/api/v1/tokens"))["tokens"]
        id = next(t["id"] for t in tokens if t["pattern"] == "d")
        await hub.run("token", "revoke", "--data", str(hub.data), id)
        assert (await connection.receive())["code"] == "revoked"
        assert await connection.closed() == 4401
        again = await connect_agent(hub, token)
        await again.send(hello())
        assert (await again.receive())["code"] == "not_authenticated"


async def test_a_metric_of_another_type_is_in_conflict_until_it_is_declared_correctly(tmp_path: Path) -> None:
    """The hub keeps the first type. Batches of another type go to quarantine even when their values would fit. Other
    declarations do not change that; the right declaration ends it."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        first, _ = await greeted_agent(hub, token)
        await first.ws.close()
        connection = await connect_agent(hub, token)
        await connection.send(hello(metrics=[{"name": "i", "type": "string"}]))
        assert (await connection.receive())["type"] == "welcome"
        await connection.send({"type": "declare", "metrics": [{"name": "new"}]})
        await connection.send(data(1, {"i": [1]}))
        assert (await connection.receive())["code"] == "type_conflict"
        assert (await connection.receive())["type"] == "ack"
        await connection.send({"type": "declare", "metrics": [{"name": "i", "type": "integer"}]})
        await connection.send(data(2, {"i": [1], "new": [1.5]}))
        assert (await connection.receive()) == {"type": "ack", "seq": 2}
