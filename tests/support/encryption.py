"""An AES-GCM payload codec, as an operator would write one."""

import os
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCODING = b"binary/encrypted"


class AesCodec(PayloadCodec):
    """Encrypts with the first key, decrypts with any; like most, leaves alone what is not its own."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self.opened = 0

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        name, nonce = self._keys[0], os.urandom(12)
        data = nonce + _aes(name).encrypt(nonce, payload.SerializeToString(), None)
        return Payload(metadata={"encoding": ENCODING, "key": name.encode()}, data=data)

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        self.opened += 1
        name = payload.metadata["key"].decode()
        if name not in self._keys:
            raise KeyError(name)
        return Payload.FromString(_aes(name).decrypt(payload.data[:12], payload.data[12:], None))


def _aes(name: str) -> AESGCM:
    return AESGCM(name.encode().ljust(32, b"."))
