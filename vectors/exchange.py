"""Known answers of the key exchange, computed from docs/protocol.md 2, 3 and 18.

Run: python3 exchange.py > exchange.json. Needs the package `cryptography`, for AES-256-GCM.
"""

import hashlib
import hmac
import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def expand(secret, label, context=b"", length=32):
    label = b"qs1 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context
    return mac(secret, info, b"\x01")[:length]


def u(value, width):
    return value.to_bytes(width, "big")


def principal(network, denomination, serial):
    return u(network, 2) + denomination.to_bytes(1, "big", signed=True) + u(serial, 4)


def times(a, b):
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(15, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def share(secret, coefficients, x):
    out = []
    for byte in range(32):
        value, power = secret[byte], 1
        for coefficient in coefficients:
            power = times(power, x)
            value ^= times(coefficient[byte], power)
        out.append(value)
    return bytes(out)


def tree(name, shares):
    leaves = [sha256(b"\0", b"qs share", name, bytes([i]), s) for i, s in enumerate(shares)]
    levels = [leaves + [bytes(32)] * 7]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([sha256(b"\1", below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels


poster, receiver = principal(7, -2, 1042), principal(7, 1, 4294967295)
key_id, nonce, relay_set = sha256(b"id")[:16], sha256(b"nonce"), sha256(b"relays")
k = sha256(b"K")
coefficients = [sha256(b"coefficient", bytes([i])) for i in range(15)]
shares = [share(k, coefficients, i + 1) for i in range(25)]
levels = tree(key_id, shares)

before = u(1, 2) + b"\x11" + poster + receiver + key_id + nonce + u(3600, 4) + u(86400, 4) + relay_set + levels[-1][0]
hh = sha256(before, bytes(32))
e0 = mac(hh, k)
e1 = mac(expand(e0, b"drv"), bytes(32))
header = before + mac(expand(e1, b"commit"), hh)
key = expand(e0, b"stored", poster + receiver + key_id)

memo = b"for the receiver's eyes"
memo_secret = expand(key, b"stored memo", hh)
sealed = AESGCM(expand(memo_secret, b"key")).encrypt(expand(memo_secret, b"iv", length=12), memo, hh)

numbers = [sha256(b"number", bytes([i]))[: 16 if i % 2 else 32] for i in range(25)]
vouching = [i for i in range(25) if i not in (0, 3, 11, 24)]


def receipt(i):
    imported = expand(mac(b"qs1 import", numbers[i]), b"imp", receiver + bytes([i, 2]))
    return mac(expand(imported, b"post receipt"), sha256(header))


signal = u(len(header), 2) + header + u(sum(1 << i for i in vouching), 4)
signal += b"".join(receipt(i) for i in vouching) + u(len(sealed), 2) + sealed
proofs = [b"".join(levels[level][i >> level ^ 1] for level in range(5)) for i in range(25)]
posts = [u(len(header), 2) + header + shares[i] + proofs[i] for i in range(25)]
answers = {
    "header": header.hex(),
    "posts": [p.hex() for p in posts],
    "numbers": [n.hex() for n in numbers],
    "vouching": vouching,
    "signal": signal.hex(),
    "key": key.hex(),
    "memo": memo.hex(),
    "confirmation": mac(expand(key, b"stored done", hh), hh).hex(),
}
print(json.dumps(answers, indent=1))
