"""The in-memory side: latest values, subscriptions, and their delivery to dashboards. No sockets, no files.

Live is fed after the commit, so nothing is ever shown that could be lost, and it waits for nobody: a store that is down
or a dashboard that does not read costs it nothing.
"""
