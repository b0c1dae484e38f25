"""Randomness as a function of the seed and of what it is for.

A generator is made from a key such as ``(seed, "noise", epoch, chunk)``. The state of all random streams of a training
is then its step number, which makes resuming exact and lets several processes draw the same global noise.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ONE_THREAD = threading.RLock()


def _anew() -> None:
    global _ONE_THREAD
    _ONE_THREAD = threading.RLock()


if hasattr(os, "register_at_fork"):  # a child must not wait for a thread that it does not have
    os.register_at_fork(after_in_child=_anew)


def seed_of(*key: int | str) -> int:
    """Hash a key to a 63-bit seed."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(device: torch.device | str, *key: int | str) -> torch.Generator:
    """Return a fresh generator on the device for this key."""
    return torch.Generator(device).manual_seed(seed_of(*key))


@contextmanager
def forked(device: torch.device | str, *key: int | str) -> Iterator[None]:
    """Seed torch's global generators inside the block only: for initial weights, and networks that draw themselves.

    One thread at a time is inside, since there is one global generator of the CPU, and one of each other device.
    """
    device = torch.device(device)
    with _ONE_THREAD, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed_of(*key))  # torch.manual_seed would touch every device
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed_of(*key))
        yield
