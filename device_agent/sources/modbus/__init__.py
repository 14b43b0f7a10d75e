"""Modbus devices on one bus: settings, the plan and the order of requests (pure), and the connection to the bus."""
