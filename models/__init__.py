"""The Flax model zoo: real training runs with a search space each, ready to be tuned.

Installed as `bojax.models`, and independent of the rest of bojax: any tuner can use it.

Example:
    Train four configurations of one network as a single program::

        import jax, jax.numpy as jnp
        from bojax.models import digits_mlp

        hparams = {
            "learning_rate": jnp.array([1e-3, 3e-3, 1e-2, 3e-2]),
            "weight_decay": jnp.full(4, 1e-4),
            "width": jnp.array([32, 64, 128, 256]),
            "depth": jnp.array([1, 2, 3, 4]),
            "dropout": jnp.full(4, 0.1),
            "activation": jnp.zeros(4, jnp.int32),  # position 0: "relu"
            "optimizer": jnp.full(4, 2),            # position 2: "adamw"
            "batch_size": jnp.full(4, 3),           # position 3: 128
        }
        keys = jax.random.split(jax.random.key(0), 4)
        metrics = jax.jit(jax.vmap(digits_mlp.train))(keys, hparams)
        metrics["validation_accuracy"]              # [4]
"""

from ._objective import Objective
from .cnn import digits_cnn, make_digits_cnn
from .mlp import digits_mlp, make_digits_mlp

OBJECTIVES: dict[str, Objective] = {objective.name: objective for objective in (digits_mlp, digits_cnn)}


def objectives() -> dict[str, Objective]:
    """Every objective of the zoo by name, in a dictionary of the caller's own."""
    return dict(OBJECTIVES)


__all__ = [
    "OBJECTIVES",
    "Objective",
    "digits_cnn",
    "digits_mlp",
    "make_digits_cnn",
    "make_digits_mlp",
    "objectives",
]
