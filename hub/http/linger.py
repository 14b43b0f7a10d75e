"""Bounds of the time between the hub's last bytes and the close of a connection.

Closing a socket while it has unread bytes makes the system reset the connection, and the peer then loses the answer or
the close frame that explains the end (RFC 9112, 9.6). So the hub ends its direction first, and reads and discards what
the peer still sends, within these bounds.
"""

from __future__ import annotations

LINGER_S = 2.0
"""Time for the peer to read the last bytes, after which the connection is cut."""

LINGER_PAUSE_S = 0.05
"""Time between two reads of bytes that are discarded: reading takes 0.2 ms for 256 kB, and 5 MB/s are enough."""
