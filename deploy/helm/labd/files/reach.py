"""What `helm test` runs: labd answers by its own authority's certificate, with its database, in the chart's release.

Its agents' door shows a certificate by the same authority.
"""

import json
import os
import socket
import ssl
import sys
import urllib.request

url, ca = os.environ["LABD_URL"], os.environ["LABD_CA"]
trust = ssl.create_default_context(cafile=ca)


def get(path: str) -> dict[str, str]:
    """Raises OSError when labd is not reached, is another, or answers with an error."""
    with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=20, context=trust) as answer:  # noqa: S310 - the chart's
        content: dict[str, str] = json.load(answer)
        return content


health = get("healthz")
print("health:", health["status"])
version = get("version")["version"]
print("release:", version)

host, _, port = os.environ["LABD_AGENTS"].rpartition(":")
trust.set_alpn_protocols(["h2"])
with (
    socket.create_connection((host, int(port)), timeout=20) as plain,
    trust.wrap_socket(plain, server_hostname="labd.internal") as door,
):
    print("agents' door:", door.version())

if version != os.environ["LABD_RELEASE"]:
    sys.exit(f"this labd is of release {version}, the chart is for {os.environ['LABD_RELEASE']}")
