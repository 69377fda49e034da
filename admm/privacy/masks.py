"""Masks that cancel in a sum: who sees the masked numbers of all members learns their sum, and nothing of one of them.

K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning" (CCS 2017), without the part
for members that drop out. Members i and j agree on a key (X25519, then HKDF with SHA-256), from which each takes the
same stream of whole numbers for each exchange (ChaCha20; exchange as nonce):

    told_i = fixed(x_i) + sum over j > i of stream_ij - sum over j < i of stream_ij        modulo 2^53
    sum of told_i = sum of fixed(x_i)                                                      modulo 2^53, exactly

Modulo 2^53, not 2^64, because every such number is a float64: masked values travel as any others do. fixed(x) =
round(x / step): 53 bits hold 4e6 times an entry's scale at 1e-9 of it. A stream is used once: a member answers each
exchange once, in rising order. Keys are made anew for each run and held in memory only.

The only import of `cryptography`, an optional package (`pip install 'tieline[privacy]'`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from admm.errors import InputError, SolverError

MODULUS_BITS = 53
MODULUS = np.uint64(1 << MODULUS_BITS)
LOW = MODULUS - np.uint64(1)
STEP = 2.0**-30
"""Of a fixed-point number, as a share of the entry's scale."""
WORD_BYTES, NONCE_BYTES = 8, 16
LABEL = b"tieline mask 1"


class Masks:
    """The masks of one member of a group, for one run. public: what the others need of it, 32 bytes."""

    def __init__(self, name: str) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        except ImportError:
            raise InputError("masks need the package 'cryptography': pip install 'tieline[privacy]'") from None
        self.name, self._latest = name, 0
        self._private = X25519PrivateKey.generate()
        self.public: bytes = self._private.public_key().public_bytes_raw()
        self._publics: dict[str, bytes] = {}
        self._keys: dict[str, bytes] | None = None

    def meet(self, publics: Mapping[str, bytes]) -> None:
        """Learn the public keys of all members, this one among them."""
        self._publics, self._keys = dict(publics), None

    def mask(self, numbers: np.ndarray, exchange: int) -> np.ndarray:
        """Whole numbers (n,), uint64 below 2^53, masked for an exchange. SolverError: it has been, or no keys."""
        if exchange <= self._latest:
            words = f"asked for exchange {exchange} after {self._latest}: a mask that is used twice hides nothing"
            raise SolverError(f"member '{self.name}': {words}")
        if self._keys is None:
            self._keys = self._agree()
        self._latest, masked = exchange, numbers.copy()
        for peer, key in self._keys.items():
            stream = _stream(key, exchange, numbers.size)
            masked = masked + stream if self.name < peer else masked - stream  # uint64 wraps, and 2^53 divides 2^64
        return masked & LOW

    def _agree(self) -> dict[str, bytes]:
        """{other member: the key that only it and this one know}."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        if self._publics.get(self.name) != self.public or len(set(self._publics.values())) < len(self._publics):
            raise SolverError(f"member '{self.name}': the keys that came are not those of the members")
        found = {}
        for peer, public in self._publics.items():
            if peer == self.name:
                continue
            try:
                shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
            except ValueError as error:
                raise SolverError(f"member '{self.name}': the key of '{peer}' is none ({error})") from None
            both = b"".join(sorted((self.public, public)))
            found[peer] = HKDF(SHA256(), length=32, salt=None, info=LABEL + both).derive(shared)
        return found


def _stream(key: bytes, exchange: int, count: int) -> np.ndarray:
    """Whole numbers below 2^53 for an exchange, uint64, shape (count,)."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

    nonce = bytes(NONCE_BYTES - WORD_BYTES) + exchange.to_bytes(WORD_BYTES, "little")  # its first half counts blocks
    data = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(WORD_BYTES * count))
    return np.frombuffer(data, dtype="<u8") & LOW


def to_fixed(values: np.ndarray, step: np.ndarray, members: int) -> np.ndarray:
    """Values (n,) as whole numbers modulo 2^53, uint64. Raises SolverError: a sum of so many might not fit."""
    scaled = np.rint(values / step)
    if not (np.abs(scaled) < 2.0 ** (MODULUS_BITS - 1) / members).all():
        at = int(np.argmax(np.abs(scaled)))
        raise SolverError(f"entry {at} is {values[at]:g}, too large for a mask: far beyond its coupling's scale")
    return scaled.astype(np.int64).astype(np.uint64) & LOW


def from_fixed(numbers: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Values (n,) of whole numbers modulo 2^53, those from 2^52 on negative."""
    signed = numbers.astype(np.int64)
    signed[signed >= 1 << (MODULUS_BITS - 1)] -= 1 << MODULUS_BITS
    return signed * step
