"""Simulated fleets: device agents with simulated sources, and a report of what was sent, stored and lost."""
