"""The commands of presets, with the messages that the documentation of their devices shows. Pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.mqtt.decoders.configured import PRESETS, preset_decoder
from hub.mqtt.decoders.fields import DecoderContext
from hub.mqtt.message import CommandAnswer, Decoder, DeviceCommands, Message, ReportedOutcome
from tests.hub.mqtt.command_samples import FILES, CommandSamples, Exchange, read_command_samples
from wire.command import CommandDeclaration
from wire.device import Command

CONTEXT = DecoderContext(commands_from="telemetry-hub-1")
ID = "0123456789abcdef0123456789abcdef"


def described(decoder: Decoder, samples: CommandSamples) -> dict[str, dict[str, CommandDeclaration]]:
    """Let a decoder read the description of the devices; return what they declare."""
    declared: dict[str, dict[str, CommandDeclaration]] = {}
    for message in samples.described:
        for item in decoder.decode(message) if decoder.takes(message.topic) else ():
            if isinstance(item, DeviceCommands):
                known = declared.setdefault(item.device, {})
                known.update({declaration.name: declaration for declaration in item.commands})
    return declared


def outcome_of(decoder: Decoder, exchange: Exchange, parameters: dict[str, float | int | bool | str]) -> object:
    """Send a command and let the device answer; return the last outcome that an answer shows."""
    delivery = decoder.delivery(exchange.device, Command(ID, exchange.command, parameters, 1, 1_000))
    assert delivery is not None
    assert delivery.publish.topic == exchange.topic
    names = exchange.names_in(delivery.publish.payload)
    assert names is not None, delivery.publish.payload
    outcome: ReportedOutcome | None = None
    for message in exchange.answered(names):
        decoded = decoder.decode(message) if decoder.takes(message.topic) else []
        answered = [item for item in decoded if isinstance(item, CommandAnswer)]
        assert {item.device for item in answered} <= {exchange.device}
        found = [item.outcome for item in answered if item.id == ID]
        confirmation = delivery.confirmation
        if not found and confirmation is not None and message.topic in confirmation.topics:
            found = [shown for shown in [confirmation.outcome(message, decoded)] if shown is not None]
        outcome = found[0] if found else outcome
    return outcome


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_are_published_and_confirmed_as_documented(path: Path) -> None:
    """Each device declares what it describes, gets the documented message, and its answer ends the command."""
    samples = read_command_samples(path)
    decoder = preset_decoder(samples.preset, CONTEXT)
    declared = described(decoder, samples)
    shown = {device: [item.signature() for item in known.values()] for device, known in declared.items()}
    assert shown == samples.declared
    for exchange in samples.exchanges:
        parameters = declared[exchange.device][exchange.command].accepted(exchange.parameters)
        outcome = outcome_of(decoder, exchange, parameters)
        if exchange.ends["state"] == "timed_out":
            assert outcome is None
            continue
        assert isinstance(outcome, ReportedOutcome), exchange
        assert outcome._asdict() == {"code": "", "message": "", "result": None, **exchange.ends}


@pytest.mark.parametrize("preset", PRESETS)
def test_without_permission_a_preset_declares_no_commands(preset: str) -> None:
    """Commands are off unless the settings of the broker allow them."""
    for samples in map(read_command_samples, FILES):
        decoder = preset_decoder(preset)
        assert described(decoder, samples) == {}
        for exchange in samples.exchanges:
            command = Command(ID, exchange.command, exchange.parameters, 1, 1_000)
            assert decoder.delivery(exchange.device, command) is None


def test_every_preset_with_commands_has_samples() -> None:
    """A preset that builds deliveries is tested with documented messages."""
    own = {name for name in PRESETS if type(preset_decoder(name)).delivery is not Decoder.delivery}
    assert own == {read_command_samples(path).preset.partition("=")[0] for path in FILES}


def test_a_command_of_another_device_is_not_delivered() -> None:
    """A decoder answers None for a device, or a command, that it does not know."""
    for samples in map(read_command_samples, FILES):
        decoder = preset_decoder(samples.preset, CONTEXT)
        described(decoder, samples)
        assert decoder.delivery("stranger", Command(ID, "set_state", {}, 1, 1_000)) is None
        for device in samples.declared:
            assert decoder.delivery(device, Command(ID, "set_nothing", {}, 1, 1_000)) is None


def test_an_unrelated_message_confirms_nothing() -> None:
    """Garbage on the topics of a confirmation neither confirms nor fails."""
    for samples in map(read_command_samples, FILES):
        decoder = preset_decoder(samples.preset, CONTEXT)
        declared = described(decoder, samples)
        for exchange in samples.exchanges:
            parameters = declared[exchange.device][exchange.command].accepted(exchange.parameters)
            delivery = decoder.delivery(exchange.device, Command(ID, exchange.command, parameters, 1, 1_000))
            assert delivery is not None
            for topic in delivery.confirmation.topics if delivery.confirmation is not None else ():
                for payload in (b"", b"{", b"\xff", b"[]", b"{}", b'{"message": 3}', b"null"):
                    assert delivery.confirmation is not None
                    assert delivery.confirmation.outcome(Message(topic, payload), ()) is None
