"""Strategies for hosts and ports as they are in URLs."""

from __future__ import annotations

from hypothesis import strategies as st

labels = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
ports = st.none() | st.integers(1, 65_535)
