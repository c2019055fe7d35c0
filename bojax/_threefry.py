"""JAX's random integers on the host, without a compiled program.

Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"). Element i
of `jax.random.bits` is the exclusive or of the two words that the counter (0, i) is encrypted to.
"""

import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def random_bits(words: np.ndarray, count: int) -> np.ndarray:
    """What `jax.random.bits(key, (count,), jnp.uint32)` gives.

    Args:
        words: [2] uint32, the data of a Threefry key.
        count: number of integers, >= 0.

    Returns:
        [count] uint32.
    """
    first, second = np.asarray(words, np.uint32)
    schedule = (first, second, first ^ second ^ _PARITY)
    with np.errstate(over="ignore"):
        x = np.full(count, first, np.uint32)
        y = np.arange(count, dtype=np.uint32) + second
        for block in range(5):
            for rotation in _ROTATIONS[block % 2]:
                x = x + y
                y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
                y = x ^ y
            x = x + schedule[(block + 1) % 3]
            y = y + schedule[(block + 2) % 3] + np.uint32(block + 1)
    return x ^ y
