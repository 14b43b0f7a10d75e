"""Decoders that the settings of a bridge select: templates, presets and Sparkplug."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hub.mqtt.decoders.command_template import CommandTemplate, ConfirmationTopics, TemplateDecoder
from hub.mqtt.decoders.esphome import EspHomeDecoder
from hub.mqtt.decoders.fields import DEFAULT_CONTEXT, DecoderContext
from hub.mqtt.decoders.home_assistant import HomeAssistantDecoder
from hub.mqtt.decoders.mapping import MappedDecoder, TopicMapping
from hub.mqtt.decoders.shelly import ShellyDecoder
from hub.mqtt.decoders.tasmota import TasmotaDecoder
from hub.mqtt.decoders.the_things_stack import TheThingsStackDecoder
from hub.mqtt.decoders.zigbee2mqtt import Zigbee2MqttDecoder
from hub.mqtt.message import Decoder
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.subscriptions import Subscription
from hub.mqtt.topics import TopicTemplate, shared, sparkplug_group


class Preset(NamedTuple):
    """Ready-made subscription. `base` is its default base topic.

    `reach` is 0 if all of its topics are below the base. A larger number means that more topics of other programs have
    the same form.
    """

    base: str
    decoder: Callable[[str, DecoderContext], Decoder]
    reach: int = 0


PRESETS: dict[str, Preset] = {
    "zigbee2mqtt": Preset("zigbee2mqtt", Zigbee2MqttDecoder),
    "tasmota": Preset("tele", TasmotaDecoder),
    "esphome": Preset("{device}", EspHomeDecoder, reach=2),
    "shelly": Preset("shellies", ShellyDecoder, reach=1),
    "home_assistant": Preset("homeassistant", HomeAssistantDecoder),
    "the_things_stack": Preset("v3", TheThingsStackDecoder),
}


class ConfiguredDecoder(NamedTuple):
    """Decoder with its name for people (its template, or its preset) and its subscriptions."""

    label: str
    decoder: Decoder
    subscriptions: Sequence[Subscription]


def configured_decoders(
    mappings: Iterable[TopicMapping],
    presets: Iterable[str],
    *,
    commands: Sequence[CommandTemplate] = (),
    host_id: str = "",
    share: str = "",
    context: DecoderContext = DEFAULT_CONTEXT,
) -> list[ConfiguredDecoder]:
    """Return all decoders in the order in which they are asked: the first that takes a topic gets its messages.

    `share` is the group of hubs that divide the messages among them, `host_id` the id as a Sparkplug host application.
    `context` has what decoders get from the hub, `commands` the templates of commands to devices.
    Raises ValueError, and OSError for a file that cannot be read.
    """
    found = []
    if commands:
        # First: no subscription for readings may take an answer.
        answers = TemplateDecoder(commands, context.topic_name)
        found.append(ConfiguredDecoder("answers to commands", answers, _subscriptions(answers, share, 1)))
    groups: list[str] = []
    for mapping in mappings:
        if mapping.payload == "sparkplug":
            groups.append(sparkplug_group(mapping.topic))
            continue
        decoder = MappedDecoder(mapping, context)
        found.append(ConfiguredDecoder(mapping.topic, decoder, _subscriptions(decoder, share, mapping.qos)))
    for name in presets_in_order(presets):
        preset = preset_decoder(name, context)
        # Descriptions of devices are retained and only kept in memory, so each connection needs them again.
        found.append(ConfiguredDecoder(f"preset {name}", preset, _subscriptions(preset, share, 1, always=True)))
    if host_id or groups:
        # The host id alone selects all groups, like the topic for all groups.
        host = HostApplication(host_id, [] if "" in groups else groups, context=context)
        found.append(ConfiguredDecoder("Sparkplug B", host, _subscriptions(host, share, 1)))
    if commands:
        # Last: a message that confirms a command is usually a reading, too.
        topics = ConfirmationTopics(commands)
        found.append(ConfiguredDecoder("confirmations of commands", topics, _subscriptions(topics, share, 1)))
    return found


def presets_in_order(texts: Iterable[str]) -> list[str]:
    """Return presets in the order in which their decoders are asked for a topic.

    Presets whose topics resemble those of others come last. A Shelly door sensor publishes
    shellies/<device>/sensor/state, which could be an ESPHome node named "shellies".
    """
    return sorted(texts, key=lambda text: PRESETS[text.partition("=")[0]].reach)


def preset_decoder(text: str, context: DecoderContext = DEFAULT_CONTEXT) -> Decoder:
    """Return the decoder of a preset in the form of the settings: "zigbee2mqtt", or "zigbee2mqtt=home/z2m".

    Raises ValueError with a sentence.
    """
    name, is_given, base = text.partition("=")
    preset = PRESETS.get(name)
    if preset is None:
        raise ValueError(f"unknown preset {name!r}; use {', '.join(PRESETS)}")
    if is_given and not base.strip("/"):
        raise ValueError(f"the preset {text!r} has no base topic after '='")
    decoder = preset.decoder(base.strip("/") or preset.base, context)
    for filter in decoder.filters:
        TopicTemplate.parse(filter)
    return decoder


def _subscriptions(decoder: Decoder, share: str, qos: int, *, always: bool = False) -> list[Subscription]:
    return [
        Subscription(filter if TopicTemplate.parse(filter).share else shared(filter, share), qos, always)
        for filter in decoder.filters
    ]
