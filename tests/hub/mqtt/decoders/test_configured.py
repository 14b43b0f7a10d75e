"""Decoders that the settings of a bridge select: their order, their names and their subscriptions.

test_presets.py has the messages of each preset.
"""

from __future__ import annotations

import pytest

from hub.mqtt.decoders.configured import configured_decoders, preset_decoder
from hub.mqtt.decoders.mapping import TopicMapping
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.subscriptions import Subscription

VALUES = TopicMapping("s/{device}/{metric}", "value", qos=0)


def test_mappings_come_first_then_presets_then_sparkplug() -> None:
    """The first decoder that takes a topic gets its messages: what a person wrote has priority."""
    found = configured_decoders([VALUES], ["esphome", "tasmota=home/tele", "shelly"], host_id="plant")
    assert [decoder.label for decoder in found] == [
        "s/{device}/{metric}", "preset tasmota=home/tele", "preset shelly", "preset esphome", "Sparkplug B"
    ]  # fmt: skip


def test_a_mapping_keeps_its_qos_and_a_preset_gets_retained_descriptions_always() -> None:
    """Descriptions of devices are only kept in memory, so each connection needs them again."""
    mapping, preset = configured_decoders([VALUES], ["zigbee2mqtt"])
    assert list(mapping.subscriptions) == [Subscription("s/+/+", 0)]
    assert {(wanted.qos, wanted.always) for wanted in preset.subscriptions} == {(1, True)}


def test_a_group_of_hubs_shares_every_subscription() -> None:
    """A mapping that names a group of its own keeps it."""
    own = TopicMapping("$share/own/o/{device}/{metric}", "value")
    shared, kept = configured_decoders([VALUES, own], [], share="hubs")
    assert [wanted.filter for wanted in shared.subscriptions] == ["$share/hubs/s/+/+"]
    assert [wanted.filter for wanted in kept.subscriptions] == ["$share/own/o/+/+"]


@pytest.mark.parametrize(
    ("topics", "host_id", "groups"),
    [
        (["spBv1.0/plant/#"], "", {"plant"}),
        (["spBv1.0/plant/#", "spBv1.0/yard/#"], "hub", {"plant", "yard"}),
        (["spBv1.0/plant/#", "spBv1.0/#"], "", {"+"}),
        ([], "hub", {"+"}),
    ],
)
def test_one_host_application_has_all_groups(topics: list[str], host_id: str, groups: set[str]) -> None:
    """The host id alone selects all of them, as the topic for all groups does."""
    (found,) = configured_decoders([TopicMapping(topic, "sparkplug") for topic in topics], [], host_id=host_id)
    assert isinstance(found.decoder, HostApplication)
    filters = [filter.split("/") for filter in found.decoder.filters if "STATE" not in filter]
    assert {levels[1] for levels in filters} == groups
    assert bool(found.decoder.state_topic) == bool(host_id)


@pytest.mark.parametrize(("text", "says"), [("zigbee", "unknown preset 'zigbee'"), ("tasmota=/", "has no base topic")])
def test_a_preset_that_does_not_exist_is_named(text: str, says: str) -> None:
    """The error lists those that there are."""
    with pytest.raises(ValueError, match=says):
        preset_decoder(text)
