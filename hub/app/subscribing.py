"""What the settings of a bridge subscribe to: the decoders in the order in which they are asked, with what people know
them by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hub.config import MqttSettings
from hub.mqtt.decoders.configured import in_order, preset_decoder
from hub.mqtt.decoders.mapping import mapped
from hub.mqtt.message import Decoder
from hub.mqtt.sparkplug.host import HostApplication
from hub.mqtt.subscriptions import Subscription
from hub.mqtt.topics import TopicTemplate, shared, sparkplug_group


class Taker(NamedTuple):
    """A decoder, with the template or the preset's name that stands for it, and what the broker is asked for."""

    label: str
    decoder: Decoder
    subscriptions: Sequence[Subscription]


def takers_of(settings: MqttSettings) -> list[Taker]:
    """Everything that is subscribed to; of several that take a topic the first has its messages.

    Raises ValueError, and OSError for a file of the settings that cannot be read.
    """
    found = []
    groups: list[str] = []
    for one in settings.subscribe:
        if one.payload == "sparkplug":
            groups.append(sparkplug_group(one.topic))
            continue
        decoder = mapped(
            one.topic, one.payload, device=one.device, time=one.time, time_format=one.time_format, function=one.function
        )
        found.append(Taker(one.topic, decoder, _asked(settings, decoder, one.qos)))
    for name in in_order(settings.presets):
        preset = preset_decoder(name)
        # What a preset is told of its devices is retained, and only kept while the hub runs.
        found.append(Taker(f"preset {name}", preset, _asked(settings, preset, 1, always=True)))
    if settings.host_id or groups:
        # The host id alone means all groups, and so does the topic that takes all.
        host = HostApplication(settings.host_id, [] if "" in groups else groups)
        found.append(Taker("Sparkplug B", host, _asked(settings, host, 1)))
    return found


def _asked(settings: MqttSettings, decoder: Decoder, qos: int, *, always: bool = False) -> list[Subscription]:
    return [
        Subscription(filter if TopicTemplate.parse(filter).share else shared(filter, settings.share), qos, always)
        for filter in decoder.filters
    ]
