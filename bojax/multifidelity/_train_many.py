"""Many configurations of a training run, trained in full."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bojax._types import Array, Shaped
from bojax.multifidelity._population import Population
from bojax.multifidelity._trainable import Trainable


def train_many(
    objective: Trainable,
    keys: Shaped[Array, "..."],
    hparams: Mapping[str, Any],
    *,
    num_steps: int | None = None,
    num_workers: int | None = None,
) -> dict[str, np.ndarray]:
    """Train n configurations, grouped by structure into a few vmapped programs that run side by side.

    The metrics of a configuration do not depend on those that share its program, up to rounding.

    Args:
        objective: the training run, for example one of `bojax.models`.
        keys: [n] keys, one per configuration.
        hparams: arrays [n] as `Space.decode` returns them.
        num_steps: number of steps; by default a full run.
        num_workers: number of programs that run at once; by default the number of cores, or 1 on an accelerator.

    Returns:
        The metrics, arrays [n].

    Example:
        >>> import jax, numpy as np
        >>> import bojax
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> metrics = multifidelity.train_many(bowl, keys, {"x": np.array([0.0, 0.5])})
        >>> [f"{loss:.3f}" for loss in metrics["loss"]]
        ['0.111', '0.361']
    """
    population = Population(objective, keys, hparams, num_workers=num_workers)
    population.advance(objective.num_steps if num_steps is None else num_steps)
    return population.evaluate()
