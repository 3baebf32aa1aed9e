"""The states of all generators of random numbers in 64 bits, cheap enough for every step."""

import _random
import ctypes
import random
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.random import mtrand

_MERSENNE_WORDS = 625
_SIZE = _random.Random.__basicsize__ - object.__basicsize__
States = tuple[tuple[torch.Tensor, ...], tuple[int, ...], tuple[int, ...]]
"""States of torch's generators, marks of those of Python and NumPy."""


class Generators:
    """The generators of torch, Python and NumPy, found once and read where they lie.

    Those of Python and NumPy are told by position and by first and last word of their state: each
    draw moves the position, each seed changes the words, and `getstate` costs 15 us, `get_state`
    50. The second of a pair of normal numbers that these two may hold back is left out: drawing
    it shows with the next pair.
    """

    def __init__(self) -> None:
        """Find the generators in use."""
        self.find()

    def find(self) -> None:
        """Look again: NumPy's generator may have been replaced, a device be in use since."""
        self._on_cuda = torch.cuda.is_initialized()
        self._python = _python_words()
        self._numpy_generator = mtrand.get_bit_generator()  # Kept alive: its words are read.
        self._numpy = _numpy_words(self._numpy_generator)

    def states(self) -> States:
        """The present states, copied: a third of the cost of their digest, which can wait."""
        torch_state = torch.default_generator.get_state()
        on_devices = torch.cuda.get_rng_state_all() if self._on_cuda else ()
        return (
            (torch_state, *on_devices),
            _python_marks(self._python),
            _numpy_marks(self._numpy),
        )

    def digest(self) -> int:
        """64 bits over the present states."""
        return digest_of(self.states())


def digest_of(states: States) -> int:
    """64 bits; never 0. Hashes of numbers are alike in each process."""
    tensors, *marks = states
    digests = [xxhash.xxh3_64_intdigest(state.numpy().data) for state in tensors]
    return (hash((*digests, *chain.from_iterable(marks))) & (2**64 - 1)) or 1


def _python_marks(words: memoryview | None) -> tuple[int, ...]:
    if words is None:
        return (hash(random.getstate()[1]),)
    return words[0], words[1], words[624]


def _numpy_marks(words: memoryview | None) -> tuple[int, ...]:
    if words is None:
        return (xxhash.xxh3_64_intdigest(repr(np.random.get_state(legacy=False)).encode()),)
    return words[0], words[623], words[624]


def _numpy_words(generator: Any) -> memoryview | None:
    """NumPy's 624 words and position where they lie; None for a generator of another kind."""
    if not isinstance(generator, np.random.MT19937):
        return None
    return _words_at(generator.ctypes.state_address)


@cache
def _python_words() -> memoryview | None:
    """The 624 words of `random` and their index behind the head of its object, if they lie there.

    CPython promises no such layout, so it is compared once with what `getstate` says.
    """
    generator = getattr(random.random, "__self__", None)
    if type(generator) is not random.Random or _SIZE < _MERSENNE_WORDS * 4:
        return None
    words = _words_at(id(generator) + object.__basicsize__)
    index, *state = words
    return words if (*state, index) == generator.getstate()[1] else None


def _words_at(address: int) -> memoryview:
    return memoryview((ctypes.c_uint32 * _MERSENNE_WORDS).from_address(address)).cast("B").cast("I")
