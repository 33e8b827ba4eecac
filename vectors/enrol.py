"""Known answers of enrolment, computed from docs/protocol.md 2 and 16 with the standard library alone.

Run: python3 enrol.py > enrol.json
"""

import hashlib
import hmac
import json


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def expand(secret, label, context=b""):
    """2.2, for 32 bytes: one round of HKDF-Expand."""
    label = b"qs1 " + label
    info = (32).to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context
    return mac(secret, info + b"\x01")


def case(network, denomination, serial, role, relay):
    name = b"%d.%d.%d %d %d" % (network, denomination, serial, role, relay)
    draw = lambda what: hashlib.sha256(what + b" of " + name).digest()
    request_id, half, relay_half = draw(b"id")[:16], draw(b"half"), draw(b"relay half")
    principal = (
        network.to_bytes(2, "big") + denomination.to_bytes(1, "big", signed=True) + serial.to_bytes(4, "big")
    )
    subject = principal + bytes([role, relay]) + request_id
    number = expand(mac(b"qs1 enrol", half + relay_half), b"enrol number", subject)
    imported = expand(mac(b"qs1 import", number), b"imp", principal + bytes([relay, role]))
    return {
        "principal": principal.hex(),
        "role": role,
        "relay": relay,
        "id": request_id.hex(),
        "half": half.hex(),
        "relay_half": relay_half.hex(),
        "number": number.hex(),
        "confirmation": mac(expand(imported, b"enrol confirm"), subject + half + relay_half).hex(),
    }


print(
    json.dumps(
        [case(1, 0, 1042, 1, 0), case(1, 0, 1042, 2, 0), case(1, 0, 1042, 1, 24), case(65535, -128, 4294967295, 2, 7)],
        indent=1,
    )
)
