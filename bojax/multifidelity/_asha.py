"""Asynchronous successive halving over a vmapped population.

Rungs are never waited for. Whenever a member finishes its rung, a member among the best 1 / eta of some rung, the
highest first, is promoted; if there is none, a new configuration starts (Li et al. 2020, arXiv:1810.05934, algorithm
2). Members in training advance together until one of them reaches its rung.
"""

from typing import Any

import jax
import numpy as np

from bojax.multifidelity._brackets import ladder
from bojax.multifidelity._halving import limits
from bojax.multifidelity._history import History, Recorder
from bojax.multifidelity._population import Population, signed
from bojax.multifidelity._samplers import decoded, sampled
from bojax.multifidelity._stored_population import StoredPopulation, kept_in
from bojax.multifidelity._trainable import Trainable
from bojax.space import to_space


def asha(
    objective: Trainable,
    *,
    budget_steps: int,
    population: int = 8,
    seed: int = 0,
    eta: float = 3.0,
    min_steps: int | None = None,
    max_steps: int | None = None,
    num_workers: int | None = None,
    storage: Any = None,
) -> History:
    """Asynchronous successive halving of random configurations.

    Args:
        objective: the training run, for example one of `bojax.models`.
        budget_steps: total steps of all members after which no member is started or promoted.
        population: number of members that train at a time.
        seed: seed of the configurations and of training.
        eta: one in `eta` members that finish a rung is promoted, to `eta` times the steps; > 1.
        min_steps: steps of the first rung; by default a 27th of `max_steps`.
        max_steps: steps of a full run; by default those of the objective.
        num_workers: see `Population`.
        storage: where evaluations are stored, so that the same call resumes a run; see `successive_halving`. A finished
            run continues with a larger `budget_steps`.

    Returns:
        All evaluations, and the best.

    Raises:
        ValueError: a number is out of range; the message names it.
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
        >>> history = multifidelity.asha(bowl, budget_steps=30)
        >>> history.num_members, history.total_steps
        (22, 32)
    """
    max_steps, min_steps = limits(objective, max_steps, min_steps)
    rungs = ladder(min_steps, max_steps, eta)
    for argument, value in (("budget_steps", budget_steps), ("population", population)):
        if value < 1:
            raise ValueError(f"`{argument}` must be at least 1, got {value}.")
    space = to_space(objective.space)
    settings = {"population": population, "seed": seed, "eta": eta, "min_steps": min_steps, "max_steps": max_steps}
    kept = kept_in(storage, objective, "asha", settings)
    recorder = Recorder(objective, space, kept.store)
    sample_key, train_key = jax.random.split(jax.random.key(seed))

    runs: Population | StoredPopulation | None = None
    X: list[np.ndarray] = []
    finished: list[dict[int, float]] = [{} for _ in rungs]  # per rung: member -> value
    promoted: list[set[int]] = [set() for _ in rungs]
    goal: dict[int, int] = {}  # member in training -> its next rung
    while True:
        spent = 0 if runs is None else runs.total_steps
        num_new = 0
        for _ in range(population - len(goal)):
            if spent >= budget_steps:
                break
            member, rung = promotable(finished, promoted, eta)
            if member is None:
                num_new += 1
            else:
                promoted[rung].add(member)
                goal[member] = rung + 1
        if num_new:
            first = len(X)
            X += list(sampled(space, sample_key, np.arange(first, first + num_new)))
            keys = jax.vmap(lambda i: jax.random.fold_in(train_key, i))(np.arange(first, first + num_new))
            hparams = decoded(space, np.array(X[first:]))
            if runs is None:
                runs = kept.population(objective, keys, hparams, num_workers=num_workers)
            else:
                runs.add(keys, hparams)
            goal |= {member: 0 for member in range(first, first + num_new)}
        if runs is None or not goal:
            break
        runs.advance(min(rungs[rung] - runs.steps[member] for member, rung in goal.items()), sorted(goal))
        arrived = [member for member in sorted(goal) if runs.steps[member] >= rungs[goal[member]]]
        if arrived:
            metrics = runs.evaluate(arrived)
            values = signed(objective, metrics)
            recorder.record(arrived, [X[m] for m in arrived], [runs.steps[m] for m in arrived], values, metrics)
            for member, value in zip(arrived, values.tolist(), strict=True):
                finished[goal.pop(member)][member] = value
            runs.keep([m for m in runs.members if runs.steps[m] < rungs[-1]])
    kept.close()
    return recorder.history(runs.total_steps, runs.num_compilations) if runs else recorder.history(0, 0)


def promotable(
    finished: list[dict[int, float]], promoted: list[set[int]], eta: float
) -> tuple[int, int] | tuple[None, int]:
    """The member to promote next and the rung it finished, or None; the highest rung comes first.

    Args:
        finished: per rung, the values (larger is better) of the members that finished it.
        promoted: per rung, the promoted members.
        eta: see `asha`.
    """
    for rung in range(len(finished) - 2, -1, -1):
        ranked = sorted(finished[rung], key=lambda member, r=rung: (-finished[r][member], member))
        for member in ranked[: int(len(ranked) / eta + 1e-9)]:
            if member not in promoted[rung] and np.isfinite(finished[rung][member]):
                return member, rung
    return None, 0
