"""Choice of a port: which of the present ports the setting means. Pure.

A path of the kernel such as /dev/ttyUSB0 belongs to whatever was plugged in first. So the device that was opened there
is remembered, and followed when it comes back under another name. Links, as under /dev/serial/by-id, are not followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from device_agent.sources.ports import PortError

SelectorKind = Literal["url", "usb", "pattern", "path"]

NOT_FOUND = "the port does not exist; is the device plugged in?"

MAX_SHOWN = 4
"""Ports that an error lists: enough to see the difference."""

_USB = re.compile(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})(?::(.+))?")
_KERNEL_NAME = re.compile(r".*/(tty[A-Z]+\d+|cu\.[^/]+)|COM\d+")
_URL_SCHEMES = ("socket://", "rfc2217://")


class PortInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One port of this computer. Fields that are not known are empty; `vid` and `pid` are four hexadecimal digits."""

    path: str
    by_id: str = ""
    vid: str = ""
    pid: str = ""
    serial_number: str = ""
    manufacturer: str = ""
    product: str = ""
    interface: str = ""
    location: str = ""
    driver: str = ""

    @property
    def usb_id(self) -> str:
        """VID:PID, with the serial number if there is one; empty for other ports."""
        return ":".join(filter(None, (self.vid, self.pid, self.serial_number))) if self.vid else ""

    def is_like(self, other: PortInfo) -> bool:
        """Return whether both may be the same interface of the same device."""
        return bool(self.vid) and (self.usb_id, self.interface) == (other.usb_id, other.interface)

    def is_same(self, other: PortInfo) -> bool:
        """Return whether both are the same device: by its serial number, or by the place where it is plugged in."""
        return self.is_like(other) and bool(self.serial_number or self.location == other.location)


def selector_kind(text: str) -> SelectorKind:
    """Return what a setting `port` is."""
    if text.startswith(_URL_SCHEMES):
        return "url"
    if _USB.fullmatch(text):
        return "usb"
    return "pattern" if any(mark in text for mark in "*?[") else "path"


def choose_port(
    text: str, present: Mapping[str, PortInfo | None], ports: Sequence[PortInfo], before: PortInfo | None = None
) -> str:
    """Return the path of the port that a setting means. Raises PortError if there is none, or more than one.

    `present` are the existing paths that the setting names itself, with what is known of them. `ports` are all ports.
    `before` is the device that was opened before.
    """
    match selector_kind(text):
        case "url":
            return text
        case "usb":
            return _only_one(text, {port.path: port for port in ports if _is_meant(text, port)}, before)
        case "pattern":
            return _only_one(text, present, before)
        case "path":
            return _follow(text, present, ports, before) if _KERNEL_NAME.fullmatch(text) else _existing(text, present)


def _is_meant(text: str, port: PortInfo) -> bool:
    match = _USB.fullmatch(text)
    assert match is not None
    vid, pid, serial_number = match.groups()
    return (port.vid, port.pid) == (vid.lower(), pid.lower()) and serial_number in (None, port.serial_number)


def _existing(text: str, present: Mapping[str, PortInfo | None]) -> str:
    if text not in present:
        raise PortError(NOT_FOUND)
    return text


def _only_one(text: str, found: Mapping[str, PortInfo | None], before: PortInfo | None) -> str:
    known = [path for path, port in found.items() if port is not None and before is not None and port.is_same(before)]
    paths = known or list(found)
    if not paths:
        raise PortError(f"no port matches {text}; is the device plugged in? `device-agent ports` lists the ports")
    if len(paths) > 1:
        shown = ", ".join(
            f"{path} ({port.usb_id})" if (port := found[path]) is not None and port.usb_id else path
            for path in paths[:MAX_SHOWN]
        )
        more = f" and {len(paths) - MAX_SHOWN} more" if len(paths) > MAX_SHOWN else ""
        raise PortError(
            f"{len(paths)} ports match {text}: {shown}{more}; name one of them, by VID:PID:SERIAL or by its"
            " path under /dev/serial/by-id"
        )
    return paths[0]


def _follow(
    text: str, present: Mapping[str, PortInfo | None], ports: Sequence[PortInfo], before: PortInfo | None
) -> str:
    """Return the port with this name, or the one where its device is now."""
    if before is None or not before.vid:
        return _existing(text, present)
    port = present.get(text)
    if port is not None and port.is_same(before):
        return text
    moved = [other.path for other in ports if other.is_same(before)]
    if moved:
        return moved[0]
    if port is None or port.is_like(before):
        return _existing(text, present)
    raise PortError(
        f"another device is at {text} now: {port.usb_id or 'not a USB device'} instead of {before.usb_id}. Its readings"
        " would get the name of the first one. Plug that one in, or restart the agent to read this one"
    )
