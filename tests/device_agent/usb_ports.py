"""USB ports of a test: a tree like /sys and /dev of Linux, with ports that are links to real ptys."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.device_agent.pty_port import PtyPort


class UsbPorts:
    """Devices that can be plugged in and unplugged, below a folder that stands for /."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._classes = root / "sys" / "class" / "tty"
        self._classes.mkdir(parents=True)
        (root / "dev" / "serial" / "by-id").mkdir(parents=True)
        self._ptys: dict[str, PtyPort] = {}

    def path(self, name: str) -> str:
        """Return the path of a port, such as that of ttyUSB0."""
        return str(self.root / "dev" / name)

    def plug_in(self, name: str, usb_id: str = "2341:0043", serial_number: str = "", *, location: str = "1-1") -> None:
        """Create a port as the kernel and udev do for a USB device."""
        vid, pid = usb_id.split(":")
        usb = self.root / "sys" / "devices" / "pci0" / "usb1" / location
        interface = usb / f"{location}:1.0"
        device = interface / name
        (device / "tty" / name).mkdir(parents=True)
        drivers = self.root / "sys" / "bus" / "usb-serial" / "drivers" / "ch341-uart"
        drivers.mkdir(parents=True, exist_ok=True)
        (device / "driver").symlink_to(drivers)
        (device / "tty" / name / "device").symlink_to(device)
        (interface / "bInterfaceNumber").write_text("00\n")
        for field, value in {"idVendor": vid, "idProduct": pid, "product": "Uno", "manufacturer": "Arduino"}.items():
            (usb / field).write_text(f"{value}\n")
        if serial_number:
            (usb / "serial").write_text(f"{serial_number}\n")
        (self._classes / name).symlink_to(device / "tty" / name)
        port = self._ptys[name] = PtyPort(self.root / "dev" / name)
        port.plug_in()
        if serial_number:
            self._by_id(serial_number).symlink_to(port.path)

    def unplug(self, name: str) -> None:
        """Remove a port."""
        device = (self._classes / name).resolve().parent.parent
        serial_number = device.parent.parent / "serial"
        if serial_number.exists():
            self._by_id(serial_number.read_text().strip()).unlink()
        shutil.rmtree(device.parent.parent)
        (self._classes / name).unlink()
        self._ptys.pop(name).pull()

    async def write(self, name: str, data: bytes) -> None:
        """Write to a port as its device."""
        await self._ptys[name].write(data)

    def close(self) -> None:
        """Unplug everything."""
        for name in list(self._ptys):
            self.unplug(name)

    def _by_id(self, serial_number: str) -> Path:
        return self.root / "dev" / "serial" / "by-id" / f"usb-Arduino_Uno_{serial_number}-if00"
