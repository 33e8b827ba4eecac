"""Known answer of a file under a passphrase, computed from docs/keys.md with OpenSSL's Argon2id and AES-256-GCM.

Run: python3 sealed.py > sealed.json     (needs the package `cryptography`, 44 or newer)
"""

import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB, PASSES, LANES = 8192, 2, 3
PASSPHRASE = "correct horse battery"
TEXT = """kind = "encryption-key"
version = 1
id = "0102030405060708090a0b0c0d0e0f10"
with = "1.0.7"
key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
"""


def main():
    salt, nonce = bytes(range(0x20, 0x30)), bytes(range(0x40, 0x4C))
    derive = Argon2id(salt=salt, length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    key = derive.derive(PASSPHRASE.encode())
    associated = b"qsocket sealed-key 1"
    for number in MEMORY_KIB, PASSES, LANES:
        associated += number.to_bytes(4, "big")
    sealed = AESGCM(key).encrypt(nonce, TEXT.encode(), associated + salt + nonce)
    file = (
        'kind = "sealed-key"\nversion = 1\nkdf = "argon2id"\n'
        f"memory_kib = {MEMORY_KIB}\npasses = {PASSES}\nlanes = {LANES}\n"
        f'salt = "{salt.hex()}"\nnonce = "{nonce.hex()}"\nsealed = "{sealed.hex()}"\n'
    )
    print(json.dumps({"passphrase": PASSPHRASE, "text": TEXT, "file": file}, indent=1))


main()
