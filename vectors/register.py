"""Known answers of registration and of enrolment over hops, computed from docs/protocol.md 2, 16, 20.1, 20.16 and 20.17 with the
standard library alone.

Run: python3 register.py > register.json
"""

import hashlib
import hmac
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


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def expand(secret, label, context=b""):
    """2.2, for 32 bytes: one round of HKDF-Expand."""
    label = b"qs1 " + label
    info = (32).to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context
    return mac(secret, info + b"\x01")


def enrol(network, denomination, serial, role, relay):
    name = "%d.%d.%d" % (network, denomination, serial)
    draw = lambda what: hashlib.sha256(b"%s of %s %d %d" % (what, name.encode(), role, relay)).digest()
    request_id, half, relay_half = draw(b"id")[:16], draw(b"half"), draw(b"relay half")
    principal = network.to_bytes(2, "big") + denomination.to_bytes(1, "big", signed=True) + serial.to_bytes(4, "big")
    subject = principal + bytes([role, relay]) + request_id
    number = expand(mac(b"qs1 enrol", half + relay_half), b"enrol number", subject)
    imported = expand(mac(b"qs1 import", number), b"imp", principal + bytes([relay, role]))
    confirmation = mac(expand(imported, b"enrol confirm"), subject + half + relay_half)
    return {
        "principal": name,
        "role": {1: "client", 2: "server"}[role],
        "relay": relay,
        "request": (principal + bytes([role]) + request_id + half).hex(),
        "answer": (relay_half + confirmation).hex(),
        "number": number.hex(),
    }


V4, V6 = "203.0.113.7:443", "[2001:db8::1]:65535"

registers = [
    case(),
    case((V4, None)),
    case((V6, None)),
    case((V4, "198.51.100.1:60003")),
    case((V6, V6), (V4, V6), ("203.0.113.7:444", V4), ("203.0.113.8:1", None)),
]
enrolments = [enrol(1, 0, 1042, 2, 0), enrol(1, 0, 1042, 1, 24), enrol(65535, -128, 4294967295, 2, 7)]

print(json.dumps({"register": registers, "enrol": enrolments}, indent=1))
