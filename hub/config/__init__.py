"""The hub's settings: read once, in one place, into frozen values."""

from __future__ import annotations

from hub.config.mqtt import DiscoverySettings, MqttSettings, PublishSettings, SubscribeSettings
from hub.config.settings import (
    MAX_DAYS,
    LogSettings,
    Settings,
    SettingsError,
    StoreSettings,
    browser_url,
    load_settings,
)

__all__ = [
    "MAX_DAYS",
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
