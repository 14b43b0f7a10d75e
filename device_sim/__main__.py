"""`python -m device_sim` is the `device-sim` command."""

from __future__ import annotations

from device_sim.commands import main

if __name__ == "__main__":
    main()
