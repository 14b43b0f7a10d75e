"""The settings of the hub: read and checked once. No decoder and no protobuf is imported here."""

from __future__ import annotations

from hub.config.mqtt import PRESETS, DiscoverySettings, MqttSettings, PublishSettings, SubscribeSettings
from hub.config.sections import MAX_DAYS, LogSettings, StoreSettings
from hub.config.settings import Settings, SettingsError, browser_url, load_settings

__all__ = [
    "MAX_DAYS",
    "PRESETS",
    "DiscoverySettings",
    "LogSettings",
    "MqttSettings",
    "PublishSettings",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "SubscribeSettings",
    "browser_url",
    "load_settings",
]
