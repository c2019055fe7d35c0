"""Array types and the legend of dimension letters.

Letters: n observations, d inputs, q batch, m outputs, s samples, r restarts, b studies.
"""

from typing import TypeAlias

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

Key: TypeAlias = PRNGKeyArray
"""A typed key as `jax.random.key` makes it."""

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Shaped"]
