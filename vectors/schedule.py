"""Known answers of the key schedule, computed from docs/protocol.md 2 with the standard library alone.

Run: python3 schedule.py > schedule.json
"""

import hashlib
import hmac
import json


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def extract(salt, ikm):
    return mac(salt, ikm)


def expand(secret, label, context=b"", length=32):
    """2.2: HKDF-Expand over u16 length, u8-prefixed label, u8-prefixed context."""
    label = b"qs1 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context
    out, block, n = b"", b"", 1
    while len(out) < length:
        block = mac(secret, block + info + bytes([n]))
        out, n = out + block, n + 1
    return out[:length]


def prefixed(data):
    return len(data).to_bytes(8, "big") + data


def principal(network, denomination, serial):
    return network.to_bytes(2, "big") + denomination.to_bytes(1, "big", signed=True) + serial.to_bytes(4, "big")


def key_iv(secret, key=b"key", iv=b"iv"):
    return {"key": expand(secret, key), "iv": expand(secret, iv, length=12)}


def phase(secret):
    return {
        "secret": secret,
        "stripe": key_iv(secret, b"str key", b"str iv"),
        "control": key_iv(secret, b"ctl key", b"ctl iv"),
    }


def connection(name, encryption_key, kem):
    k = sha256(b"K", name)
    before, after = b"header before " + name, b"header after"
    nonce, hello, reply = sha256(b"nonce", name), b"hello block " * 9, b"reply"
    key_id = sha256(b"key id")[:16]
    poster, receiver = principal(1, -3, 1042), principal(1, 0, 4294967295)
    zero = bytes(32)

    hh = sha256(before, zero, after)
    e0 = extract(hh, k)
    e1 = extract(expand(e0, b"drv"), encryption_key or zero)
    m = extract(expand(e1, b"drv"), kem or zero)
    commitment = mac(expand(e1, b"commit"), hh)
    header = before + commitment + after
    th = sha256(prefixed(header), prefixed(hello), nonce, prefixed(reply))
    c1, s1 = expand(m, b"c 1", th), expand(m, b"s 1", th)
    c2 = expand(c1, b"ku")
    return {
        "name": name,
        "in": {
            "k": k,
            "before": before,
            "after": after,
            "encryption_key": encryption_key or b"",
            "kem": kem or b"",
            "server_nonce": nonce,
            "hello": hello,
            "reply": reply,
            "key_id": key_id,
            "poster": poster,
            "receiver": receiver,
        },
        "hh": hh,
        "e0": e0,
        "refuse": key_iv(expand(e0, b"s refuse", hh + nonce)),
        "stored": expand(e0, b"stored", poster + receiver + key_id),
        "e1": e1,
        "commitment": commitment,
        "client_0": phase(expand(e1, b"c 0", hh)),
        "reply": key_iv(expand(e1, b"s reply", hh + nonce)),
        "m": m,
        "th": th,
        "client_1": phase(c1),
        "server_1": phase(s1),
        "client_2": phase(c2),
        "client_3": phase(expand(c2, b"ku")),
        "server_2": phase(expand(s1, b"ku")),
    }


def hop(number, who, relay, role):
    hello, accept = b"HELLO with binder", b"ACCEPT without its MAC"
    p = expand(extract(b"qs1 import", number), b"imp", principal(*who) + bytes([relay, role]))
    hs = expand(p, b"hop hs", sha256(prefixed(hello), prefixed(accept)))
    i, r = expand(hs, b"hop i ap"), expand(hs, b"hop r ap")
    message = b"a transcript"
    return {
        "in": {
            "number": number,
            "principal": principal(*who),
            "relay": bytes([relay]),
            "role": bytes([role]),
            "hello": hello,
            "accept": accept,
            "message": message,
        },
        "p": p,
        "binder": mac(expand(p, b"hop bind"), hello),
        "initiator_finished": mac(expand(hs, b"hop i fin"), message),
        "responder_finished": mac(expand(hs, b"hop r fin"), message),
        "initiator": {"secret": i, **key_iv(i)},
        "initiator_rekeyed": {"secret": expand(i, b"ku"), **key_iv(expand(i, b"ku"))},
        "responder": {"secret": r, **key_iv(r)},
    }


def hexed(value):
    if isinstance(value, dict):
        return {key: hexed(v) for key, v in value.items()}
    if isinstance(value, list):
        return [hexed(v) for v in value]
    return value.hex()


encryption_key, kem = sha256(b"Encryption key"), sha256(b"ML-KEM secret")
print(
    json.dumps(
        hexed(
            {
                "connections": [
                    connection(b"plain", None, None),
                    connection(b"keyed", encryption_key, None),
                    connection(b"kem", None, kem),
                    connection(b"both", encryption_key, kem),
                ],
                "hops": [
                    hop(sha256(b"an")[:16], (1, -3, 1042), 0, 1),
                    hop(sha256(b"an"), (65535, 127, 1), 24, 2),
                ],
            }
        ),
        indent=1,
    )
)
