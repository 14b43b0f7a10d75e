"""Ready-made subscriptions for what publishes in a form of its own: nothing to configure but the name."""

from __future__ import annotations

from collections.abc import Iterable

from hub.mqtt.decoders import esphome, home_assistant, shelly, tasmota, the_things_stack, zigbee2mqtt
from hub.mqtt.decoders.record import Preset
from hub.mqtt.message import Decoder
from hub.mqtt.topics import TopicTemplate

PRESETS: dict[str, Preset] = {
    "zigbee2mqtt": zigbee2mqtt.PRESET,
    "tasmota": tasmota.PRESET,
    "esphome": esphome.PRESET,
    "shelly": shelly.PRESET,
    "home_assistant": home_assistant.PRESET,
    "the_things_stack": the_things_stack.PRESET,
}


def in_order(texts: Iterable[str]) -> list[str]:
    """Presets as they stand in the settings, in the order in which their decoders are to be asked for a topic.

    The first that takes it has it: those come last whose topics have a form that others' have, too. A door sensor of
    Shelly's has shellies/<device>/sensor/state, which could be a node of ESPHome's named "shellies".
    """
    return sorted(texts, key=lambda text: PRESETS[text.partition("=")[0]].reach)


def preset_decoder(text: str) -> Decoder:
    """The decoder of a preset as it stands in the settings: "zigbee2mqtt", or "zigbee2mqtt=home/z2m".

    Raises ValueError with a sentence.
    """
    name, is_given, base = text.partition("=")
    preset = PRESETS.get(name)
    if preset is None:
        raise ValueError(f"there is no preset {name!r}: it may be {', '.join(PRESETS)}")
    if is_given and not base.strip("/"):
        raise ValueError(f"the preset {text!r} has no base topic after '='")
    decoder = preset.decoder(base.strip("/") or preset.base)
    for filter in decoder.filters:
        TopicTemplate.parse(filter)
    return decoder
