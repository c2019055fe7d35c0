"""Storages and a tiny study that tests of faults share."""

import jax.numpy as jnp

import bojax

SPACE = bojax.Space(
    {
        "x": bojax.Float(0.0, 0.1),
        "n": bojax.Int(1, 8),
        "act": bojax.Categorical(["relu", None, 3]),
        "on": bojax.Categorical([True, False]),
        "quality": bojax.Ordinal([1, 2, 4]),
    }
)
PARAMS = {"x": 0.05, "n": 2, "act": "relu", "on": True, "quality": 4}

KINDS = ("memory", "sqlite", "journal")


def url_of(kind, folder, name="study"):
    return {"memory": None, "sqlite": f"sqlite:///{folder}/{name}.db", "journal": f"journal:///{folder}/{name}.log"}[
        kind
    ]


def random_search(space, q):
    return bojax.random_search(space, q=q)


def learns_from_all(space, q):
    """Random search that keeps costs and gradients, as algorithms do that learn from them."""
    algorithm = random_search(space, q)

    def init(key):
        state = algorithm.init(key)
        X, y = state.observations.X, state.observations.y
        kept = state.observations.with_columns(cost=jnp.full_like(y, jnp.nan), grad=jnp.full_like(X, jnp.nan))
        return state._replace(observations=kept)

    return algorithm._replace(init=init, columns=("noise_var", "cost", "grad"))


def make(storage=None, **kwargs):
    return bojax.Study(SPACE, storage=storage, **({"seed": 0, "algorithm": random_search} | kwargs))


def asked(study, **params):
    """A running trial with the given parameters: nothing is compiled for it."""
    study.enqueue({**PARAMS, **params})
    return study.ask()[0]
