"""Sparkplug B 3.0 as a host application: edge nodes' births, data and deaths become the hub's metrics and readings."""
