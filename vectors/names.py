"""Known answers of names, computed from docs/protocol.md 19 with the standard library alone.

Run: python3 names.py > names.json
"""

import ipaddress
import json


def be(value, length):
    return value.to_bytes(length, "big")


def principal(text):
    network, denomination, serial = (int(part) for part in text.split("."))
    return be(network, 2) + denomination.to_bytes(1, "big", signed=True) + be(serial, 4)


def label(name):
    return bytes([len(name)]) + name.encode("ascii")


def address(at):
    if at is None:
        return b"\0"
    ip, port = at
    ip = ipaddress.ip_address(ip)
    return bytes([ip.version]) + ip.packed + be(port, 2)


def record(r):
    """19.3"""
    out = be(1, 2) + label(r["name"]) + be(r["number"], 4) + principal(r["owner"]) + be(r["version"], 4)
    out += be(r["begin"], 8) + be(r["ttl"], 4)
    out += b"\1" + principal(r["server"]) if r["server"] else b"\0"
    out += address(r["service"]) + be(r["signalling"], 2) + bytes([len(r["endpoints"])])
    for relay, ip, port in r["endpoints"]:
        out += bytes([relay]) + address((ip, port))
    return out


def membership(r):
    """19.10"""
    server = "server=%s; " % r["server"] if r["server"] else ""
    return "v=rke1; network=%s; %snumber=%d" % (r["owner"].split(".")[0], server, r["number"])


A, SOA, PTR, TXT, AAAA, SRV = 1, 6, 12, 16, 28, 33


def dns_name(name):
    return b"".join(bytes([len(part)]) + part.encode("ascii") for part in name.split(".") if part) + b"\0"


def question(name, kind):
    """RFC 1035: id 0x1234, recursion desired, one question."""
    return be(0x1234, 2) + b"\x01\0" + be(1, 2) + bytes(6) + dns_name(name) + be(kind, 2) + be(1, 2)


def a_record(at):
    ip = ipaddress.ip_address(at[0])
    return (A if ip.version == 4 else AAAA), ip.packed


def zone(r):
    """19.9: what is there, by owner; each record as type and data."""
    host = r["name"] + ".raida"
    srv = lambda port, target: (SRV, bytes(4) + be(port, 2) + dns_name(target))
    text = membership(r).encode("ascii")
    there = {
        host: [(TXT, bytes([len(text)]) + text)],
        "_tcp." + host: [],
        "_raida._tcp." + host: [srv(port, "r%d.%s" % (relay, host)) for relay, ip, port in r["endpoints"]],
        "_rke._tcp." + host: [srv(r["signalling"], host)] if r["signalling"] else [],
        "_qsocket._tcp." + host: [srv(r["service"][1], host)] if r["service"] else [],
        "%d.number.raida" % r["number"]: [(PTR, dns_name(host))],
    }
    if r["service"]:
        there[host].append(a_record(r["service"]))
    for relay, ip, port in r["endpoints"]:
        there["r%d.%s" % (relay, host)] = [a_record((ip, port))]
    return there


def answer(r, name, kind):
    """The response code, the data of the answer section with its time to live, and whether the SOA is there."""
    soa = dns_name("raida") + dns_name("hostmaster.raida") + b"".join(be(n, 4) for n in (1, 3600, 600, 86400, 60))
    there = dict(zone(r), **{"raida": [(SOA, soa)], "number.raida": []})
    code = 0 if name in there else 3
    data = sorted(value.hex() for of, value in there.get(name, []) if of == kind)
    ttl = 60 if name == "raida" else r["ttl"]
    return {
        "question": question(name, kind).hex(),
        "code": code,
        "ttl": ttl if data else None,
        "data": data,
        "soa": None if data else soa.hex(),
    }


def case(r):
    host = r["name"] + ".raida"
    asked = [(owner, kind) for owner in zone(r) for kind in (A, AAAA, TXT, SRV, PTR)]
    asked += [("raida", SOA), ("raida", A), ("number.raida", PTR), ("other.raida", A)]
    asked += [("r24.other." + host, A), ("_udp." + host, SRV), ("0.number.raida", PTR)]
    return {
        "fields": dict(r, service=r["service"] and list(r["service"])),
        "record": record(r).hex(),
        "put": (be(len(record(r)), 2) + record(r) + bytes([3]) + bytes(range(16))).hex(),
        "renew": (label(r["name"]) + bytes([10]) + bytes(range(16, 32))).hex(),
        "describe": label(r["name"]).hex(),
        "membership": membership(r),
        "standing": (bytes([2]) + be(r["begin"] + 3 * 365 * 86400, 8) + be(4000, 8) + b"USD").hex(),
        "description": (
            bytes([2]) + be(r["begin"] + 3 * 365 * 86400, 8) + be(2000, 4) + be(1000, 4) + b"USD"
            + be(len(record(r)), 2) + record(r) + bytes([2])
            + bytes(range(16, 32)) + bytes([2, 10]) + be(10000, 8) + b"USD" + bytes([0])
            + bytes(range(16)) + bytes([1, 3]) + be(4000, 8) + b"USD" + bytes([1])
        ).hex(),
        "answers": [answer(r, owner, kind) for owner, kind in asked],
    }


bare = {
    "name": "cloudcoin",
    "number": 305419896,
    "owner": "1.0.1042",
    "version": 1,
    "begin": 1800000000,
    "ttl": 300,
    "server": None,
    "service": None,
    "signalling": 0,
    "endpoints": [],
}
full = dict(
    bare,
    name="xn--bcher-kva",
    number=4294967295,
    owner="65535.-128.4294967295",
    version=4294967295,
    begin=1 << 40,
    ttl=86400,
    server="65535.127.7",
    service=("2001:db8::7", 443),
    signalling=65535,
    endpoints=[(i, "192.0.2.%d" % (i + 1) if i % 3 else "2001:db8::%d" % (i + 1), 50000 + i) for i in range(25)],
)
some = dict(
    bare,
    name="a" * 63,
    number=1,
    server="1.0.7",
    service=("198.51.100.1", 1),
    signalling=8443,
    endpoints=[(3, "192.0.2.3", 65535), (24, "2001:db8::24", 1)],
)

print(json.dumps([case(bare), case(full), case(some)], indent=1))
