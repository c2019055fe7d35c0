"""Successive halving and Hyperband over a vmapped population.

All members of a bracket train at once; at the end of a rung the worst are dropped and the rest continue in smaller
batches.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bojax.loop import Algorithm
from bojax.multifidelity._brackets import Rung, check_brackets, halving, hyperband_brackets
from bojax.multifidelity._history import History, Recorder
from bojax.multifidelity._population import Population, signed
from bojax.multifidelity._samplers import Sampler, decoded, model_sampler, random_sampler
from bojax.multifidelity._stored_population import Kept, StoredPopulation, kept_in
from bojax.multifidelity._trainable import Trainable
from bojax.space import Space, to_space


def successive_halving(
    objective: Trainable,
    *,
    num_members: int = 27,
    seed: int = 0,
    eta: float = 3.0,
    min_steps: int | None = None,
    max_steps: int | None = None,
    num_workers: int | None = None,
    storage: Any = None,
) -> History:
    """One bracket of random configurations (Jamieson and Talwalkar 2016, arXiv:1502.07943).

    Args:
        objective: the training run, for example one of `bojax.models`.
        num_members: number of configurations at the start.
        seed: seed of the configurations and of training.
        eta: at the end of a rung the best 1 / eta of the members continue, to eta times the steps; > 1.
        min_steps: steps of the first rung; by default a 27th of `max_steps`.
        max_steps: steps of a full run; by default those of the objective.
        num_workers: see `Population`.
        storage: where evaluations are stored, so that the same call resumes an interrupted run with the result of an
            uninterrupted one: an Optuna storage or its URL, "sqlite:///run.db" or "journal:///run.log". Every member is
            a trial with its curve as intermediate values. `RunStorage` adds a name of the run and a folder for
            checkpoints. By default nothing is stored.

    Returns:
        All evaluations, and the best.

    Raises:
        ValueError: a number or `storage` is not valid.
        StudyError: the storage holds another run of that name.

    Example:
        >>> import bojax
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> history = multifidelity.successive_halving(bowl, num_members=9)
        >>> history.num_members, history.total_steps
        (9, 21)
    """
    max_steps, min_steps = limits(objective, max_steps, min_steps)
    brackets = [halving(num_members, min_steps, max_steps, eta)]
    settings = {"num_members": num_members, "seed": seed, "eta": eta, "min_steps": min_steps, "max_steps": max_steps}
    kept = kept_in(storage, objective, "successive_halving", settings)
    return _run(objective, brackets, random_sampler, seed, num_workers, kept)


def hyperband(
    objective: Trainable,
    *,
    seed: int = 0,
    eta: float = 3.0,
    min_steps: int | None = None,
    max_steps: int | None = None,
    num_workers: int | None = None,
    storage: Any = None,
) -> History:
    """All brackets of Hyperband, from many short runs to few full ones (Li et al. 2018, JMLR 18(185)).

    `hyperband_brackets` returns the rungs in advance.

    Args:
        objective: the training run, for example one of `bojax.models`.
        seed: seed of the configurations and of training.
        eta: at the end of a rung the best 1 / eta of the members continue, to eta times the steps; > 1.
        min_steps: steps of the first rung; by default a 27th of `max_steps`.
        max_steps: steps of a full run; by default those of the objective.
        num_workers: see `Population`.
        storage: where evaluations are stored, so that the same call resumes a run; see `successive_halving`.

    Returns:
        All evaluations, and the best.

    Raises:
        ValueError: a number or `storage` is not valid.
        StudyError: the storage holds another run of that name.

    Example:
        >>> import bojax
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> history = multifidelity.hyperband(bowl, min_steps=1)
        >>> history.num_members, history.total_steps
        (17, 69)
    """
    max_steps, min_steps = limits(objective, max_steps, min_steps)
    settings = {"seed": seed, "eta": eta, "min_steps": min_steps, "max_steps": max_steps}
    kept = kept_in(storage, objective, "hyperband", settings)
    return _run(objective, hyperband_brackets(max_steps, min_steps, eta), random_sampler, seed, num_workers, kept)


def bohb(
    objective: Trainable,
    *,
    algorithm: Callable[[Space, int], Algorithm] | None = None,
    random_share: float = 1 / 3,
    seed: int = 0,
    eta: float = 3.0,
    min_steps: int | None = None,
    max_steps: int | None = None,
    num_workers: int | None = None,
    storage: Any = None,
) -> History:
    """Hyperband whose configurations a model proposes (Falkner, Klein and Hutter 2018, arXiv:1807.01774).

    Args:
        objective: the training run, for example one of `bojax.models`.
        algorithm: `algorithm(space, q) -> Algorithm`, the model that proposes; see `model_sampler`.
        random_share: fraction of random configurations, in [0, 1].
        seed: seed of the configurations and of training.
        eta: at the end of a rung the best 1 / eta of the members continue, to eta times the steps; > 1.
        min_steps: steps of the first rung; by default a 27th of `max_steps`.
        max_steps: steps of a full run; by default those of the objective.
        num_workers: see `Population`.
        storage: where evaluations are stored, so that the same call resumes a run; see `successive_halving`.

    Returns:
        All evaluations, and the best.

    Raises:
        ValueError: a number or `storage` is not valid.
        StudyError: the storage holds another run of that name.

    Example:
        >>> import bojax
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> model = lambda space, q: bojax.loop.random_search(space, q=q)
        >>> history = multifidelity.bohb(bowl, min_steps=3, algorithm=model)
        >>> history.num_members, history.total_steps
        (5, 33)
    """
    max_steps, min_steps = limits(objective, max_steps, min_steps)

    def sampler(space):
        return model_sampler(space, algorithm, random_share=random_share)

    settings = {"random_share": random_share, "seed": seed, "eta": eta, "min_steps": min_steps, "max_steps": max_steps}
    kept = kept_in(storage, objective, "bohb", settings)
    return _run(objective, hyperband_brackets(max_steps, min_steps, eta), sampler, seed, num_workers, kept)


def limits(objective: Trainable, max_steps: int | None, min_steps: int | None) -> tuple[int, int]:
    """Maximum and minimum steps of a member; raises ValueError if no rungs can be built from them."""
    max_steps = objective.num_steps if max_steps is None else max_steps
    min_steps = max(1, max_steps // 27) if min_steps is None else min_steps
    check_brackets(max_steps, min_steps, 2.0)
    return max_steps, min_steps


def _run(
    objective: Trainable,
    brackets: Any,
    make_sampler: Callable[[Space], Sampler],
    seed: int,
    num_workers: int | None,
    kept: Kept,
) -> History:
    space = to_space(objective.space)
    recorder, sampler = Recorder(objective, space, kept.store), make_sampler(space)
    total_steps, programs = 0, set()
    for number, bracket in enumerate(brackets):
        key = jax.random.fold_in(jax.random.key(seed), number)
        population = _run_bracket(objective, space, bracket, key, sampler, recorder, num_workers, kept)
        total_steps += population.total_steps
        programs |= population.programs
    kept.close()
    return recorder.history(total_steps, len(programs))


def _run_bracket(
    objective: Trainable,
    space: Space,
    bracket: tuple[Rung, ...],
    key: Any,
    sampler: Sampler,
    recorder: Recorder,
    num_workers: int | None,
    kept: Kept,
) -> Population | StoredPopulation:
    sample_key, train_key = jax.random.split(key)
    n, offset = bracket[0].num_members, recorder.num_members
    X = sampler(sample_key, n, recorder)
    keys, hparams = jax.random.split(train_key, n), decoded(space, X)
    population = kept.population(objective, keys, hparams, num_workers=num_workers, offset=offset)
    done = 0
    for i, rung in enumerate(bracket):
        population.advance(rung.num_steps - done)
        done = rung.num_steps
        members, metrics = population.members, population.evaluate()
        values = signed(objective, metrics)
        recorder.record(offset + members, X[members], np.full(len(members), done), values, metrics)
        if i + 1 < len(bracket):
            best = np.argsort(-values, kind="stable")[: bracket[i + 1].num_members]
            population.keep(members[np.sort(best)])
    population.keep([])
    return population
