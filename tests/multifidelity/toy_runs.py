"""Training runs that cost nothing: a score that approaches an asymptote, some of which diverge."""

import jax
import jax.numpy as jnp
import numpy as np

from bojax import Float, Int, Space
from bojax.multifidelity import Program, from_functions
from bojax.multifidelity._samplers import decoded, sampled

SPACE = Space(x=Float(0.0, 1.0), rate=Float(0.05, 0.5, log=True))
DIVERGES_AT = 2  # steps


def asymptote(x):
    return 1.0 - (x - 0.3) ** 2


def functions(sign=1.0, noise=0.0, diverging=2.0, trace=None, factor=1.0):
    """The three functions; runs with x >= `diverging` become NaN, `trace` collects the names of those traced."""
    trace = [] if trace is None else trace

    def init(key, hparams):
        trace.append("init")
        return jnp.int32(0), noise * jax.random.normal(key, (), hparams["x"].dtype)

    def advance(state, hparams, num_steps):
        trace.append("advance")

        def step(_, state):
            count, score = state[0] + 1, state[1]
            score += hparams["rate"] * (factor * asymptote(hparams["x"]) - score)
            return count, jnp.where((hparams["x"] >= diverging) & (count >= DIVERGES_AT), jnp.nan, score)

        return jax.lax.fori_loop(0, num_steps, step, state)

    def evaluate(state, hparams):
        trace.append("evaluate")
        return {"score": sign * state[1], "count": state[0].astype(state[1].dtype), "x": hparams["x"]}

    return init, advance, evaluate


def toy(direction="maximize", num_steps=27, space=SPACE, **options):
    init, advance, evaluate = functions(1.0 if direction == "maximize" else -1.0, **options)
    return from_functions(
        space,
        init=init,
        advance=advance,
        evaluate=evaluate,
        metric="score",
        num_steps=num_steps,
        direction=direction,
        name="toy",
    )


def score(hparams, num_steps):
    """What `toy` gives without noise, in NumPy; larger is better."""
    return asymptote(hparams["x"]) * (1.0 - (1.0 - hparams["rate"]) ** num_steps)


class TwoStructures:
    """The score of a run with two layers is twice that of a run with one."""

    name, metric, direction, num_steps = "two", "score", "maximize", 9
    space = Space(x=Float(0.0, 1.0), rate=Float(0.05, 0.5, log=True), layers=Int(1, 2))

    def __init__(self):
        self.trace = {layers: [] for layers in (1, 2)}
        self.programs = {n: Program(*functions(noise=1.0, trace=self.trace[n], factor=float(n))) for n in (1, 2)}

    def structure(self, hparams):
        return int(hparams["layers"])

    def program(self, structure):
        return self.programs[structure]


def some_hparams(n, space=SPACE, seed=0):
    """n random configurations, NumPy arrays."""
    return decoded(space, sampled(space, jax.random.key(seed), np.arange(n)))


def some_keys(n, seed=1):
    return jax.random.split(jax.random.key(seed), n)
