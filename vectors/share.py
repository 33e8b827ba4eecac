"""Known answers of the secret sharing, computed from docs/protocol.md 3 with the standard library alone.

Run: python3 share.py > share.json
"""

import hashlib
import json


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def times(a, b):
    """Schoolbook product of polynomials over GF(2), reduced by x^8 + x^4 + x^3 + x + 1."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(15, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def power(a, n):
    result = 1
    for _ in range(n):
        result = times(result, a)
    return result


def evaluate(secret, coefficients, at):
    """Sum of coefficient k times x to the k, one polynomial for each of the 32 bytes."""
    share = []
    for byte in range(32):
        value = secret[byte]
        for k, coefficient in enumerate(coefficients, 1):
            value ^= times(coefficient[byte], power(at, k))
        share.append(value)
    return bytes(share)


def tree(connection, shares):
    leaves = [sha256(b"\0", b"qs share", connection, bytes([i]), share) for i, share in enumerate(shares)]
    levels = [leaves + [bytes(32)] * 7]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([sha256(b"\1", below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def case(name, secret, coefficients):
    connection = sha256(b"connection", name)[:16]
    shares = [evaluate(secret, coefficients, i + 1) for i in range(25)]
    levels = tree(connection, shares)
    return {
        "name": name.decode(),
        "secret": secret.hex(),
        "connection": connection.hex(),
        "coefficients": [c.hex() for c in coefficients],
        "shares": [s.hex() for s in shares],
        "root": levels[-1][0].hex(),
        "proofs": [[levels[level][i >> level ^ 1].hex() for level in range(5)] for i in range(25)],
    }


def random(name):
    return [sha256(b"coefficient", name, bytes([k])) for k in range(1, 16)]


cases = [
    case(b"random", sha256(b"a secret"), random(b"1")),
    case(b"zero secret", bytes(32), random(b"2")),
    case(b"zero coefficients", sha256(b"another"), [bytes(32)] * 15),
    case(b"top coefficient only", bytes(range(32)), [bytes(32)] * 14 + [bytes([1]) * 32]),
]
print(json.dumps(cases, indent=1))
