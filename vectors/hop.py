"""Checks hop.json against docs/protocol.md 2.7, 2.8, 4 and 5, written apart from the Rust code.

Run: python3 hop.py. Needs the standard library alone; with the package `cryptography` it opens the record too.
"""

import hashlib
import hmac
import json
import pathlib


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def expand(secret, label, context=b"", length=32):
    label = b"qs1 " + label
    info = length.to_bytes(2, "big") + bytes([len(label)]) + label + bytes([len(context)]) + context
    return mac(secret, info, b"\x01")[:length]


def u(value, width):
    return value.to_bytes(width, "big")


def principal(v):
    return u(v["network"], 2) + v["denomination"].to_bytes(1, "big", signed=True) + u(v["serial"], 4)


def request_header(v, body_len, nonce):
    p = principal(v)
    out = bytes([1, 0, v["relay"], 0, 0x51, 1]) + p[:2] + bytes([1, 0, 0, 0, 0, 0, 0, 1, 0x10]) + p[2:]
    return out + u(body_len, 2) + nonce


def frame(kind, body):
    return bytes([kind]) + u(len(body), 2) + body


def check(name, got, want):
    assert got.hex() == want, f"{name}\n  here {got.hex()}\n  file {want}"


def main():
    v = json.loads(pathlib.Path(__file__).with_name("hop.json").read_text())
    h = v["request_header"]
    check("request header", request_header(h, h["body_len"], bytes.fromhex(h["nonce"])), h["wire"])
    check("reject", bytes([3, 0, 0]), v["reject"])

    route, header = u(0x0A0B0C0D, 4), u(6, 2) + b"header"
    proof = b"".join(bytes([0x21 + i]) * 32 for i in range(5))
    frames = {
        "ping": frame(0x01, u(0x0102030405060708, 8)),
        "pong": frame(0x02, u(1, 8)),
        "rekey": frame(0x03, b""),
        "close": frame(0x04, b"\x02"),
        "open": frame(0x10, route + header + b"\x11" * 32 + proof),
        "attach": frame(0x11, route + header),
        "detach": frame(0x12, route),
        "route_error": frame(0x13, route + b"\x07"),
        "congested": frame(0x14, route + u(65536, 4)),
        "data": frame(0x20, route + u(0xFFFFFFFE, 4) + b"payload"),
        "call": frame(0x30, route + bytes([4]) + b"request"),
        "answer": frame(0x31, route + bytes([9]) + b"answer"),
    }
    assert frames.keys() == v["frames"].keys()
    for name, wire in frames.items():
        check(name, wire, v["frames"][name])

    s = v["handshake"]
    number = bytes.fromhex(s["authenticity_number"])
    imported = expand(mac(b"qs1 import", number), b"imp", principal(s) + bytes([s["relay"], s["role"]]))
    # The client draws 0, 1, 2, ...; the relay 0x80, 0x81, ..., of which 16 bytes go into the number that nobody holds.
    client_nonce, relay_nonce = bytes(range(32)), bytes(range(0x90, 0xB0))
    offers = bytes([s["role"], 0, 1]) + u(1, 2) + bytes([1, 1])
    body_len = len(offers) + 24 + 32
    hello = request_header(s, body_len, client_nonce[:8]) + offers + client_nonce[8:]
    hello += mac(expand(imported, b"hop bind"), hello)
    check("hello", hello, s["hello"])
    accept = bytes([2]) + u(67, 2) + u(1, 2) + bytes([1]) + relay_nonce
    transcript = hashlib.sha256(u(len(hello), 8) + hello + u(len(accept), 8) + accept).digest()
    hs = expand(imported, b"hop hs", transcript)
    accept += mac(expand(hs, b"hop r fin"), hello, accept)
    check("accept", accept, s["accept"])
    finish = bytes([4]) + u(32, 2)
    finish += mac(expand(hs, b"hop i fin"), hello, accept, finish)
    check("finish", finish, s["finish"])

    plaintext = frame(0x01, u(1, 8)) + frame(0x20, u(7, 4) + u(0x01020304, 4) + b"abc")
    check("record plaintext", plaintext, s["record_plaintext"])
    record = bytes.fromhex(s["record"])
    head, sealed = record[:12], record[12:]
    assert head == u(len(plaintext) + 16, 4) + u(0, 8) and len(sealed) == len(plaintext) + 16
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        print("hop.json: all but the record's encryption holds (package cryptography is not installed)")
        return
    traffic = expand(hs, b"hop i ap")
    opened = AESGCM(expand(traffic, b"key")).decrypt(expand(traffic, b"iv", length=12), sealed, head)
    assert opened == plaintext
    print("hop.json: all holds")


if __name__ == "__main__":
    main()
