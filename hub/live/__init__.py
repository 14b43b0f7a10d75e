"""Live: latest values, subscriptions and their delivery to dashboards. It uses no sockets and no files.

It is fed after each commit, so it never shows data that could be lost, and it waits for nothing: an unavailable store
or a dashboard that does not read costs it nothing.
"""
