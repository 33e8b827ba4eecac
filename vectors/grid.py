#!/usr/bin/env python3
"""Writes grid.json: known answers for section 1 of docs/protocol.md. Shares no code with the product.

Multiplies by logarithms to the base 3, and recovers by inverting 16 rows of the generator, so that it checks
its own vectors: every vector's losses are decoded here before the file is written.
"""
import hashlib, itertools, json, pathlib

EXP = [1]
for _ in range(254):
    a = EXP[-1]
    EXP.append(a ^ (a << 1) ^ (0x11B if a & 0x80 else 0))
LOG = {a: i for i, a in enumerate(EXP)}
mul = lambda a, b: EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0
div = lambda a, b: EXP[(LOG[a] - LOG[b]) % 255] if a else 0

CELLS = [5 * r + c for r in range(4) for c in range(4)]
ROWS = {CELLS[k]: [int(i == k) for i in range(16)] for k in range(16)}
for n in range(4):
    ROWS[5 * n + 4] = [int(k // 4 == n) for k in range(16)]
    ROWS[20 + n] = [int(k % 4 == n) for k in range(16)]
ROWS[24] = [int(k // 4 == k % 4) for k in range(16)]
for j in range(9):
    ROWS[25 + j] = [div(16 ^ k, (16 + j) ^ k) for k in range(16)]


def combine(row, stripes):
    out = bytearray(len(stripes[0]))
    for factor, stripe in zip(row, stripes):
        for i, b in enumerate(stripe):
            out[i] ^= mul(factor, b)
    return bytes(out)


def encode(block):
    padded = block + bytes(-len(block) % 16)
    n = len(padded) // 16
    data = [padded[k * n:(k + 1) * n] for k in range(16)]
    return [combine(ROWS[i], data) for i in range(34)]


def decode(have):
    """Data stripes from {id: stripe} by Gauss-Jordan, or None."""
    work = [(ROWS[i][:], s) for i, s in sorted(have.items())]
    for col in range(16):
        pivot = next((r for r in range(col, len(work)) if work[r][0][col]), None)
        if pivot is None:
            return None
        work[col], work[pivot] = work[pivot], work[col]
        inverse = div(1, work[col][0][col])
        work[col] = ([mul(inverse, x) for x in work[col][0]], combine([inverse], [work[col][1]]))
        for r in range(len(work)):
            f = work[r][0][col]
            if r != col and f:
                work[r] = ([x ^ mul(f, y) for x, y in zip(work[r][0], work[col][0])],
                           combine([1, f], [work[r][1], work[col][1]]))
    return [s for _, s in work[:16]]


def placement(stripe, block):
    slot = stripe if stripe < 25 else [4, 9, 14, 19, 20, 21, 22, 23, 24][stripe - 25]
    return (slot + block) % 25


GRID, MDS = set(range(25)), set(CELLS) | set(range(25, 34))
LOSSES = [  # stripes sent, stripes lost
    (GRID, {0}), (GRID, {0, 1}), (GRID, {1, 4, 21}), (GRID, {0, 1, 5, 6}), (GRID, {0, 1, 5, 6, 24}),
    (MDS, {7}), (MDS, {0, 1, 2, 3, 5, 6, 7, 8, 10}), (MDS, {0, 5, 10, 15, 18, 25, 27, 30, 33}),
    (MDS, set(range(9)) | {10, 11}), (GRID | MDS, {0, 1, 2, 3, 5, 6, 7, 8, 4, 9, 25, 26, 27, 28, 29, 30}),
    (GRID | MDS, set(range(19)) | {20}),
]
vectors = []
for length in (1, 16, 17, 32, 33, 75, 80):
    block = (hashlib.sha256(b"grid %d" % length).digest() * 3)[:length]
    stripes = encode(block)
    for sent, lost in LOSSES:
        data = decode({i: stripes[i] for i in sent - lost})
        assert data is None or data == [stripes[i] for i in CELLS]
    vectors.append({"block": block.hex(), "stripe_len": len(stripes[0]), "stripes": [s.hex() for s in stripes]})
out = {
    "encode": vectors,
    "recover": [{"have": sorted(sent - lost), "complete": decode({i: bytes(1) for i in sent - lost}) is not None}
                for sent, lost in LOSSES],
    "placement": [{"stripe": s, "block": b, "path": placement(s, b)}
                  for s, b in itertools.product((0, 4, 18, 24, 25, 28, 29, 33), (0, 1, 24, 25, 2**56 - 1))],
}
text = json.dumps(out, indent=1)
pathlib.Path(__file__).with_suffix(".json").write_text(text + "\n")
