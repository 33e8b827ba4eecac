"""Known answers of registration, computed from docs/protocol.md 20.1 with the standard library alone.

Run: python3 register.py > register.json
"""

import ipaddress
import json


def address(text):
    host, port = text.rsplit(":", 1)
    host = ipaddress.ip_address(host.strip("[]"))
    return bytes([host.version]) + host.packed + int(port).to_bytes(2, "big")


def case(*registrations):
    body = bytes([len(registrations)])
    for destination, dial in registrations:
        body += address(destination) + (b"\x00" if dial is None else b"\x01" + address(dial))
    return {
        "registrations": [{"destination": destination, "dial": dial} for destination, dial in registrations],
        "request": body.hex(),
    }


V4, V6 = "203.0.113.7:443", "[2001:db8::1]:65535"

print(
    json.dumps(
        [
            case(),
            case((V4, None)),
            case((V6, None)),
            case((V4, "198.51.100.1:60003")),
            case((V6, V6), (V4, V6), ("203.0.113.7:444", V4), ("203.0.113.8:1", None)),
        ],
        indent=1,
    )
)
