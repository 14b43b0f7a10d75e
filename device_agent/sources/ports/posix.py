"""Serial ports of POSIX systems: an open tty, and what Linux knows of the ports and of the programs that use them.

Everything that only these systems have is here. Other systems list their ports with pyserial, and read in a thread.
"""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import grp
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import serial

from device_agent.sources.ports import READ_BYTES, RESET_SECONDS, LineErrors, PortError, PortSettings, PortUser
from device_agent.sources.ports.selection import PortInfo

# The type checker skips the module where there are no ttys.
assert sys.platform != "win32"

_TIOCGICOUNT = 0x545D
"""Linux: counters of a serial port, from asm-generic/ioctls.h; Python has no name for it."""

_FRAME_COUNT, _OVERRUN_COUNT, _PARITY_COUNT, _BUFFER_OVERRUN_COUNT = 6, 7, 8, 10
_COUNTERS = 20
"""Places in struct serial_icounter_struct of linux/serial.h."""

_INNER_DRIVERS = ("port", "ctrl")
"""Drivers of the serial core, which stand between a UART and its own driver."""

_DTR_AND_RTS = array.array("i", [termios.TIOCM_DTR | termios.TIOCM_RTS])
_DTR = array.array("i", [termios.TIOCM_DTR])

_PSEUDO_TTYS = ("/dev/pts/", "/dev/ttys")
"""Names of ptys, on Linux and macOS."""


class TtyPort:
    """An open tty, read without blocking."""

    def __init__(self, path: str, settings: PortSettings) -> None:
        """Open and lock it. Raises PortError or OSError."""
        self.name = path
        self._ready = asyncio.Event()
        self._is_pty = os.path.realpath(path).startswith(_PSEUDO_TTYS)
        # Both ends of a pty are open in tests and tools; only of hardware one reader takes the bytes of another.
        if not self._is_pty and (users := users_of(path)):
            raise PortError(errno.EBUSY, busy_text(users))
        self._serial = _opened(path, settings)
        with ExitStack() as on_failure:
            on_failure.callback(self._serial.close)
            try:
                _prepare(self._serial.fileno(), settings, is_pty=self._is_pty)
            except termios.error as error:
                raise OSError(*error.args) from None  # the device is gone
            on_failure.pop_all()
        self._before = _counters(self._serial.fileno())

    async def read(self) -> bytes:
        """Return the next bytes.

        The descriptor is watched only meanwhile: unread bytes would wake the event loop without end.
        """
        self._check_open()
        descriptor = self._serial.fileno()
        loop = asyncio.get_running_loop()
        self._ready.clear()
        loop.add_reader(descriptor, self._ready.set)
        try:
            await self._ready.wait()
        finally:
            if self._serial.is_open:
                loop.remove_reader(descriptor)
        self._check_open()
        # pyserial waits for the descriptor once more, which was a third of the work of a read. Without bytes it knows
        # whether the device is gone, or another reader of a pty was faster.
        with suppress(BlockingIOError):
            if data := os.read(descriptor, READ_BYTES):
                return data
        rest: bytes = self._serial.read(READ_BYTES)
        return rest

    def write(self, data: bytes) -> None:
        """Send bytes. Raises PortError if the buffer of the tty is full: waiting for room would stop the agent."""
        self._check_open()
        try:
            sent = os.write(self._serial.fileno(), data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            raise PortError(errno.EAGAIN, f"the port takes no more bytes: {sent} of {len(data)} were sent")

    async def set_baud(self, baud: int) -> None:
        """Change the rate, and discard what was read at the earlier one."""
        try:
            self._serial.baudrate = baud
            self._serial.reset_input_buffer()
        except termios.error as error:
            raise PortError(error.args[0], f"the port does not support {baud:,} baud: {error.args[1]}") from None

    def line_errors(self) -> LineErrors | None:
        """Return the errors that the driver has counted since the port was opened."""
        if self._before is None or not self._serial.is_open:
            return None
        now = _counters(self._serial.fileno())
        return now and LineErrors(*(count - before for count, before in zip(now, self._before, strict=True)))

    def close(self) -> None:
        """Unlock and close the port."""
        if not self._serial.is_open:
            return
        descriptor = self._serial.fileno()
        with suppress(RuntimeError):  # there is no loop any more
            asyncio.get_running_loop().remove_reader(descriptor)
        with suppress(OSError):  # the device is gone
            fcntl.ioctl(descriptor, termios.TIOCNXCL)
        self._serial.close()
        self._ready.set()

    def _check_open(self) -> None:
        if not self._serial.is_open:
            raise OSError(errno.EBADF, "the port was closed")


class PtyMirror:
    """Mirror of a port as a pty: a path that a serial monitor opens like a port.

    Bytes that no monitor reads are discarded when the buffer of the pty is full, so a monitor sees the newest ones.
    """

    def __init__(self, path: str) -> None:
        """Create a pty behind a path. Raises OSError if there is a file that is not a link."""
        self.name = path
        self._path = Path(path)
        self._end, self._monitor = os.openpty()
        with ExitStack() as on_failure:
            on_failure.callback(os.close, self._end)
            on_failure.callback(os.close, self._monitor)
            tty.setraw(self._monitor)
            os.set_blocking(self._end, False)
            self._name = os.ttyname(self._monitor)
            if self._path.is_symlink():  # of an agent that was killed
                self._path.unlink()
            self._path.symlink_to(self._name)
            on_failure.pop_all()
        asyncio.get_running_loop().add_reader(self._end, self._discard)

    def feed(self, data: bytes) -> None:
        """Write bytes, and discard older ones if there is no room."""
        written = self._write(data)
        if written < len(data):
            termios.tcflush(self._monitor, termios.TCIFLUSH)
            self._write(data[written:])

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._end, data)
        except BlockingIOError:
            return 0

    def _discard(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._end, READ_BYTES)

    def close(self) -> None:
        """Remove the path and the pty."""
        if self._end < 0:
            return
        asyncio.get_running_loop().remove_reader(self._end)
        with suppress(OSError):
            if os.readlink(self._path) == self._name:  # noqa: PTH115 - as it was written
                self._path.unlink()
        os.close(self._end)
        os.close(self._monitor)
        self._end = -1


def _opened(path: str, settings: PortSettings) -> serial.Serial:
    bits, parity, stop_bits = settings.frame_parts
    port = serial.Serial(
        port=None,
        baudrate=settings.baud,
        bytesize=bits,
        parity=parity,
        stopbits=stop_bits,
        timeout=0,
        exclusive=True,
    )
    port.port = path
    try:
        port.open()
    except termios.error as error:
        raise PortError(
            error.args[0], f"the port does not support {settings.baud:,} baud with {settings.frame}: {error.args[1]}"
        ) from None
    except OSError as error:
        match error.errno:
            case errno.EBUSY | errno.EAGAIN:
                raise PortError(errno.EBUSY, busy_text(users_of(path))) from None
            case errno.EACCES:
                raise PortError(errno.EACCES, _permission_text(path)) from None
        raise
    return port


def _prepare(descriptor: int, settings: PortSettings, *, is_pty: bool) -> None:
    """Lock the port against programs that ask for no lock, and set its control lines.

    The kernel raises DTR and RTS together when a port is opened, which resets some boards if DTR was low. It lowers
    them at the last close only with HUPCL. So without HUPCL the next opening does not reset the board.
    """
    if not is_pty:  # on a pty it would outlive this process until the other end is closed
        fcntl.ioctl(descriptor, termios.TIOCEXCL)
    attributes = termios.tcgetattr(descriptor)
    attributes[2] &= ~termios.HUPCL
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    try:
        if settings.reset:
            _reset(descriptor)
        if not settings.dtr:
            # Both at once: DTR or RTS alone holds an ESP32 in reset, or starts its boot loader.
            fcntl.ioctl(descriptor, termios.TIOCMBIC, _DTR_AND_RTS)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY):  # a port without these lines
            raise


def _reset(descriptor: int) -> None:
    """Reset a board: RTS alone resets an ESP32, and DTR that rises an Arduino."""
    fcntl.ioctl(descriptor, termios.TIOCMBIC, _DTR)
    time.sleep(RESET_SECONDS)
    fcntl.ioctl(descriptor, termios.TIOCMBIS, _DTR)


def _counters(descriptor: int) -> LineErrors | None:
    """Return the error counters of the driver; None if it has none, as a pty, or on another system."""
    counts = array.array("i", bytes(4 * _COUNTERS))
    try:
        fcntl.ioctl(descriptor, _TIOCGICOUNT, counts)
    except OSError:
        return None
    return LineErrors(
        counts[_FRAME_COUNT], counts[_PARITY_COUNT], counts[_OVERRUN_COUNT] + counts[_BUFFER_OVERRUN_COUNT]
    )


def users_of(path: str, *, root: Path = Path("/")) -> list[PortUser]:
    """Return the other programs that have a port open, as far as Linux shows them to this user.

    Files of other users' processes are not shown, but their locks are.
    """
    target = os.path.realpath(path)
    pids = {*_openers(target, root / "proc"), *_lock_owners(target, root / "proc"), *_uucp_owners(target, root)}
    return [PortUser(pid, _program_name(root / "proc", pid)) for pid in sorted(pids - {os.getpid(), 0})]


def busy_text(users: list[PortUser]) -> str:
    """Return who uses a port, for people."""
    if not users:
        return "another program uses the port"
    names = ", ".join(map(str, users[:3])) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
    return f"another program uses the port: {names}; end it, or take the port from an agent with `device-agent hold`"


def _openers(target: str, proc: Path) -> Iterator[int]:
    for process in _process_directories(proc):
        with suppress(OSError):
            if any(_link(f"{process}/fd/{name}") == target for name in os.listdir(process / "fd")):  # noqa: PTH208
                yield int(process.name)


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a process has thousands of files, and a Path costs ten times as much
    except OSError:
        return ""


def _process_directories(proc: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(proc) if entry.name.isdecimal()]
    except OSError:
        return []


def _lock_owners(target: str, proc: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):
        file = Path(target).stat()
        number = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
        for line in (proc / "locks").read_text().splitlines():
            words = line.split()
            if number in words and "->" not in words:  # an arrow marks one that waits
                yield int(words[words.index(number) - 1])


def _uucp_owners(target: str, root: Path) -> Iterator[int]:
    """Yield the owners of lock files as minicom and others write them, if they run."""
    for directory in ("run/lock", "var/lock"):
        with suppress(OSError, ValueError):
            pid = int((root / directory / f"LCK..{Path(target).name}").read_bytes()[:16])
            if (root / "proc" / str(pid)).exists():
                yield pid


def _program_name(proc: Path, pid: int) -> str:
    name = _text(proc / str(pid) / "comm")
    if name.startswith("python"):  # the name of a program in Python is that of its script
        words = _text(proc / str(pid) / "cmdline").split("\0")[1:]
        script = next((word for word in words if word == "-c" or not word.startswith("-")), "")
        if script.split(".")[0] == "device_agent":  # run with -m
            return "device-agent"
        name = Path(script).name if script not in ("", "-c") else name
    return name or "a program"


def _permission_text(path: str) -> str:
    try:
        group = grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "often dialout"
    return f"no permission to open the port; add the agent's user to the group that owns it, {group}"


def linux_ports(root: Path = Path("/")) -> list[PortInfo]:
    """Return the serial ports that Linux has in sysfs, without ptys, consoles and UARTs that are not there."""
    links = {os.path.realpath(link): str(link) for link in _entries(root / "dev" / "serial" / "by-id")}
    found = []
    for entry in _entries(root / "sys" / "class" / "tty"):
        device = entry / "device"
        if not device.exists() or _text(entry / "type") == "0":
            continue
        path = str(root / "dev" / entry.name)
        found.append(_port_info(path, links.get(os.path.realpath(path), ""), Path(os.path.realpath(device))))
    return found


def _port_info(path: str, by_id: str, device: Path) -> PortInfo:
    drivers = ((place / "driver").resolve().name for place in (device, *device.parents) if (place / "driver").exists())
    driver = next((name for name in drivers if name not in _INNER_DRIVERS), "")
    interface = next((place for place in (device, *device.parents) if (place / "bInterfaceNumber").exists()), None)
    usb = next((place for place in (device, *device.parents) if (place / "idVendor").exists()), None)
    if usb is None:
        return PortInfo(path=path, by_id=by_id, driver=driver)
    return PortInfo(
        path=path,
        by_id=by_id,
        vid=_text(usb / "idVendor").lower(),
        pid=_text(usb / "idProduct").lower(),
        serial_number=_text(usb / "serial"),
        manufacturer=_text(usb / "manufacturer"),
        product=_text(usb / "product"),
        interface="" if interface is None else _text(interface / "bInterfaceNumber"),
        location=usb.name,
        driver=driver,
    )


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir(), key=lambda entry: (len(entry.name), entry.name))
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
