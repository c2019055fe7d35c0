"""Configurations of the zoo's objectives, and ways to run them."""

import jax
import numpy as np


def middle(objective, **given):
    """The middle of every range, the first of every choice, the smallest model; ``given`` instead where there is."""

    def scalar(name, entry):
        if name in given:
            value = given[name]
        elif entry["type"] == "float":
            low, high = entry["low"], entry["high"]
            value = np.sqrt(low * high) if entry["log"] else (low + high) / 2
        else:
            value = entry["low"] if entry["type"] == "int" else 0
        return np.asarray(value, np.float32 if entry["type"] == "float" else np.int32)

    return {name: scalar(name, entry) for name, entry in objective.space.items()}


def rows(hparams, num):
    """The configurations of a batch in which some hyperparameters are arrays [num] and others scalars."""
    full = {name: np.broadcast_to(value, num) for name, value in hparams.items()}
    return [{name: value[i] for name, value in full.items()} for i in range(num)]


def fixed(objective, hparams):
    """``train(key, hparams)`` whose structural hyperparameters are those of ``hparams``, whatever it is given."""
    static = {name: hparams[name] for name in objective.structural}
    return lambda key, h, **kwargs: objective.train(key, {**h, **static}, **kwargs)


def run_alone(objective, key, hparams, num_steps=None):
    """Metrics of one configuration in the program of its own structure."""
    init, advance, evaluate = objective.program(objective.structure(hparams))
    steps = objective.num_steps if num_steps is None else num_steps
    return to_numpy(jax.jit(lambda key, h: evaluate(advance(init(key, h), h, steps), h))(key, hparams))


def to_numpy(metrics):
    """The same on the host."""
    return {name: np.asarray(value) for name, value in metrics.items()}


def assert_close(got, expected, **tolerance):
    """All metrics, by default to the rounding of some steps; an accuracy may differ by one example in a part."""
    assert set(got) == set(expected)
    for name in expected:
        np.testing.assert_allclose(
            got[name], expected[name], **({"rtol": 2e-3, "atol": 3e-3} | tolerance), err_msg=name
        )
