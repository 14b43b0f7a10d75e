"""`python -m device_agent` is the `device-agent` command."""

from __future__ import annotations

from device_agent.commands import main

if __name__ == "__main__":
    main()
