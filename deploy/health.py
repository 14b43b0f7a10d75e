"""Health check of the image: exit code 0 when the hub in this container answers.

It requests /health and not /ready: a hub whose store is down still accepts data, and a restart would not bring the
store back.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
import urllib.request

ANSWER_S = 4.0
"""Shorter than the check's own timeout, so that the reason is printed."""


def main() -> int:
    """Request in clear text, then over TLS: the hub speaks one of the two."""
    port = os.environ.get("HUB_LISTEN", "127.0.0.1:8600").rpartition(":")[2]
    # The certificate is for the hub's public name, and this connection does not leave the container.
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    # The connection also bypasses any proxy that Docker is configured with.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked)
    )
    reasons = []
    for scheme in ("http", "https"):
        try:
            with opener.open(f"{scheme}://127.0.0.1:{port}/health", timeout=ANSWER_S):
                return 0
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{scheme}: {error}")
    print("; ".join(reasons), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
