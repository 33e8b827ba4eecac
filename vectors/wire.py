#!/usr/bin/env python3
"""Writes open.json and stripe.json: known answers for sections 8 to 10 of docs/protocol.md, written from that text
with the standard library alone. Shares no code with the product.
"""
import hashlib, ipaddress, json, pathlib, struct


def fill(name, n):
    """n bytes that look like nothing in particular, so that swapped fields show."""
    return hashlib.shake_128(name.encode()).digest(n)


def be(width, value):
    return value.to_bytes(width, "big")


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def syn(source, sport, destination, dport):
    """The IP and TCP headers of a SYN (RFC 791, RFC 8200, RFC 9293)."""
    s, d = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    tcp = struct.pack(">HHIIBBHHH", sport, dport, 0, 0, 5 << 4, 0x02, 65535, 0, 0)
    pseudo = s.packed + d.packed + (struct.pack(">BBH", 0, 6, 20) if s.version == 4 else struct.pack(">IBBBB", 20, 0, 0, 0, 6))
    tcp = tcp[:16] + be(2, checksum(pseudo + tcp)) + tcp[18:]
    if s.version == 6:
        return struct.pack(">IHBB", 6 << 28, 20, 6, 64) + s.packed + d.packed + tcp
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, 6, 0) + s.packed + d.packed
    return ip[:10] + be(2, checksum(ip)) + ip[12:] + tcp


def principal(network, denomination, serial):
    return struct.pack(">HbI", network, denomination, serial)


def header(name, client, server, key, ml_kem, source, destination):
    f = {k: fill(f"{name} {k}", n) for k, n in
         (("connection", 16), ("nonce", 32), ("relay_set", 32), ("root", 32), ("commitment", 32))}
    packet = syn(*source, *destination)
    out = (b"\x00\x01\x10" + principal(*client) + principal(*server) + f["connection"] + f["nonce"]
           + (b"\x01" + key if key else b"\x00") + be(1, ml_kem) + be(1, len(packet)) + packet
           + f["relay_set"] + f["root"] + f["commitment"])
    show = lambda a: f"[{a[0]}]:{a[1]}" if ":" in a[0] else f"{a[0]}:{a[1]}"
    return {"client": client, "server": server, **{k: v.hex() for k, v in f.items()},
            "encryption_key": key.hex() if key else None, "ml_kem": ml_kem,
            "source": show(source), "destination": show(destination), "bytes": out.hex()}


def parameters(max_data, max_stream_data, max_streams, idle_ms):
    return be(8, max_data) + be(8, max_stream_data) + be(4, max_streams) + be(4, idle_ms)


def optional(value):
    return b"\x01" + value if value else b"\x00"


def block_header(kind, fin, offset, length):
    return be(1, kind) + be(1, fin) + be(8, offset) + be(4, length)


LOW, HIGH = (0, 0, 0, 0), (2**64 - 1, 2**63 + 1, 2**32 - 1, 2**31 + 1)
USUAL = (16 << 20, 4 << 20, 16384, 60000)
V4, V6 = (("192.0.2.1", 40000), ("198.51.100.7", 53)), (("2001:db8::1", 1), ("2001:db8:ffff::7", 65535))
A, B = (1, 0, 1042), (1, 0, 7)
C, D = (65535, -128, 2**32 - 1), (65535, 127, 0)
key = fill("Encryption key id", 16)
hellos = []
for p, kem in ((USUAL, fill("ek", 1184)), (USUAL, None), (LOW, None), (HIGH, fill("ek 2", 1184))):
    content = parameters(*p) + optional(kem)
    hellos.append({"parameters": p, "kem_key": kem.hex() if kem else None, "content": content.hex(),
                   "block": (block_header(0, 0, 0, len(content)) + content).hex()})
accepted = [{"parameters": p, "kem_ciphertext": ct.hex() if ct else None,
             "bytes": (b"\x00" + parameters(*p) + optional(ct)).hex()}
            for p, ct in ((USUAL, fill("ct", 1088)), (USUAL, None), (HIGH, None))]
refused = [{"reason": code, "bytes": be(1, code).hex()} for code in range(1, 11)]
sealed = []
for which, n in ((0, 1 + 24 + 1 + 1088 + 16), (0, 17), (1, 17)):
    nonce, body = fill(f"server nonce {n}", 32), fill(f"sealed {n}", n)
    sealed.append({"nonce": nonce.hex(), "key": which, "sealed": body.hex(),
                   "payload": (b"\x03" + nonce + be(1, which) + body).hex()})
cid = fill("connection", 16)
opening = {
    "header": [header("a", A, B, None, 1, *V4), header("b", A, B, key, 2, *V4),
               header("c", C, D, None, 0, *V6), header("d", C, D, key, 1, *V6)],
    "hello": hellos, "accepted": accepted, "refused": refused, "sealed_reply": sealed,
    "reply_associated_data": {"connection": cid.hex(), "bytes": (b"reply " + cid).hex()},
}


def stripe(phase, stream, block, ident, length, direction):
    head = be(4, phase) + be(4, stream) + be(7, block) + be(1, ident) + be(4, length)
    return {"phase": phase, "stream": stream, "block": block, "stripe": ident, "block_len": length,
            "stripe_len": -(-length // 16), "connection": cid.hex(), "direction": direction,
            "clear": (b"\x01" + head).hex(), "associated_data": (b"\x00\x01" + cid + be(1, direction) + head).hex()}


def control(phase, number, direction):
    head = be(4, phase) + be(8, number)
    return {"phase": phase, "number": number, "connection": cid.hex(), "direction": direction,
            "clear": (b"\x02" + head).hex(), "associated_data": (b"\x00\x01" + cid + be(1, direction) + head).hex()}


def block(kind, fin, offset, resource, data):
    name = be(1, len(resource)) + resource if kind == 2 else b""
    return {"kind": kind, "fin": bool(fin), "offset": offset, "resource": resource.hex(), "data": data.hex(),
            "bytes": (block_header(kind, fin, offset, len(data)) + name + data).hex()}


def ack(paths, number, before, streams, partial):
    out = b"\x01" + be(4, sum(1 << p for p, _, _ in paths))
    out += b"".join(be(4, end) + be(4, received) for _, end, received in paths)
    out += be(8, number) + be(8, before) + be(1, len(streams))
    for stream, following, ranges in streams:
        out += be(4, stream) + be(7, following) + be(1, len(ranges))
        out += b"".join(be(2, start) + be(2, count) for start, count in ranges)
    out += be(1, len(partial))
    out += b"".join(be(4, stream) + be(7, number) + be(8, have) for stream, number, have in partial)
    return {"frame": "ACK", "paths": paths, "control": number, "control_before": before, "streams": streams,
            "partial": partial, "bytes": out.hex()}


def frame(name, kind, *fields, text=None):
    out = be(1, kind) + b"".join(be(w, v) for w, v in fields)
    if text is not None:
        out += be(1, len(text.encode())) + text.encode()
    return {"frame": name, "values": [v for _, v in fields], "text": text, "bytes": out.hex()}


full = ack([(p, 2**32 - 1 - p, p * 0x01010101) for p in range(25)], 2**64 - 1, 2**64 - 2,
           [(2**32 - 1 - s, 2**56 - 1 - s, [(2 * r + s, 1) for r in range(31)] + [(65535, 65535)]) for s in range(16)],
           [(s, 2**56 - s, (1 << 34) - s) for s in range(1, 17)])
stripes = {
    "stripe": [stripe(0, 0, 0, 33, 1223, 0), stripe(1, 1, 0, 0, 14, 0), stripe(2, 4, 25, 24, 4097, 1),
               stripe(2**32 - 1, 2**32 - 1, 2**56 - 1, 18, 262144, 1)],
    "control": [control(1, 0, 0), control(7, 1024, 1), control(2**32 - 1, 2**64 - 1, 1)],
    "block": [block(1, 0, 2**40, b"", b"bytes"), block(1, 1, 2**64 - 1, b"", b""), block(2, 0, 0, b"", b"x"),
              block(2, 1, 0, b"web:443", b""), block(2, 0, 0, fill("name", 255), fill("data", 33)),
              block(0, 0, 0, b"", fill("hello", 25))],
    "frame": [
        ack([], 0, 0, [], []), ack([(0, 1400, 1400), (24, 0, 0)], 9, 0x1FF, [(1, 7, [(1, 2), (3, 1)])], [(1, 7, 0b111)]),
        full, frame("MAX_DATA", 2, (8, 2**64 - 1)), frame("MAX_STREAM_DATA", 3, (4, 5), (8, 2**40)),
        frame("MAX_STREAMS", 4, (4, 2**32 - 1)), frame("RESET", 5, (4, 3), (4, 6), (8, 2**33)),
        frame("STOP", 6, (4, 2), (4, 1)), frame("PING", 7), frame("PATH", 8, (1, 24)), frame("PATH", 8, (1, 0)),
        frame("PHASE_DONE", 9, (4, 2**32 - 1)), frame("CLOSE", 10, (4, 0), text=""),
        frame("CLOSE", 10, (4, 1), text="blocks leave a gap or overlap"), frame("CLOSE", 10, (4, 2**32 - 1), text="é" * 100),
    ],
}
here = pathlib.Path(__file__).parent
(here / "open.json").write_text(json.dumps(opening, indent=1) + "\n")
(here / "stripe.json").write_text(json.dumps(stripes, indent=1) + "\n")
