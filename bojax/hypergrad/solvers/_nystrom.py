"""A randomized low-rank preconditioner for conjugate gradients.

With a Gaussian sketch O [p, rank] of the curvature C, the Nystrom approximation is A = (C O) (O^T C O)^-1 (C O)^T. The
preconditioner is (A + s I)^-1 with s the smallest eigenvalue of A: eigenvalues captured by the sketch end up near one,
and the others keep their scale. By Woodbury only rank x rank matrices are factored.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._linalg import inverse, matmul
from bojax._runtime import PRNG_IMPL
from bojax.hypergrad import _tree
from bojax.hypergrad._problem import MatVec

POWER_STEPS = 8


@dataclasses.dataclass(frozen=True)
class Nystrom:
    """Nystrom preconditioning (Frangella, Tropp and Udell 2021, arXiv:2110.02820).

    Costs `rank` products with the curvature and 2 rank p numbers. Worthwhile if the spectrum decays and the system is
    solved to many digits. Useless as a solver by itself if weight decay makes the curvature full rank.

    Attributes:
        rank: size of the sketch, at most the number of inner parameters.
        seed: seed of the sketch, which is the same in every call.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Implicit(preconditioner=hg.Nystrom(rank=1)))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    rank: int = 20
    seed: int = 0

    def __call__(self, matvec: MatVec, like: Any) -> MatVec:
        """The preconditioner of C, whose vectors are trees like `like`."""
        flat, unravel = ravel_pytree(like)
        on_flat, _ = _tree.on_flat(matvec, like)
        rank, kind = min(self.rank, flat.size), flat.dtype
        sketch = jax.random.normal(jax.random.key(self.seed, impl=PRNG_IMPL), (rank, flat.size), kind)
        image = jax.vmap(on_flat)(sketch)
        # A small multiple of the identity keeps the small factor positive definite; it is subtracted again in s.
        nu = float(jnp.finfo(kind).eps) ** 0.5 * jnp.sqrt(jnp.sum(image**2)) / flat.size
        image = image + nu * sketch
        core = matmul(image, sketch.T)
        half = matmul(inverse(0.5 * (core + core.T))[1], image)  # A = half^T half
        gram = matmul(half, half.T)
        s = jnp.maximum(_smallest(gram), nu)
        small = inverse(s * jnp.eye(rank, dtype=kind) + gram)[2]

        def apply(v):
            v = ravel_pytree(v)[0]
            return unravel(v - matmul(half.T, matmul(small, matmul(half, v))))

        return apply


def _smallest(gram):
    """The smallest eigenvalue by inverse iteration."""
    gram_inv = inverse(gram)[2]
    v = jnp.ones(len(gram), gram.dtype)
    for _ in range(POWER_STEPS):
        v = matmul(gram_inv, v)
        v = v / jnp.sqrt(jnp.sum(v * v))
    return 1 / jnp.sum(v * matmul(gram_inv, v))
