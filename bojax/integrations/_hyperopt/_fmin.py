"""`fmin`: Hyperopt's loop, with trials chosen by a bojax study in memory."""

import contextlib
import functools
import math
import numbers
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bojax._errors import BojaxWarning, SpaceExhaustedError
from bojax._plain import plain
from bojax._progress import progress_bar
from bojax.integrations._hyperopt._arguments import Limits, annotated, checked_limits, checked_points, seed_of
from bojax.integrations._hyperopt._beliefs import Belief, beliefs_of, believing
from bojax.integrations._hyperopt._errors import InvalidLoss, InvalidResultStatus
from bojax.integrations._hyperopt._expressions import evaluate
from bojax.integrations._hyperopt._forms import (
    Forms,
    complete,
    draw_vals,
    forms_of,
    params_of,
    vals_of,
)
from bojax.integrations._hyperopt._pyll import from_pyll
from bojax.integrations._hyperopt._suggest import Method, bayesopt, method_of
from bojax.integrations._hyperopt._trials import (
    JOB_STATE_CANCEL,
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_NEW,
    JOB_STATE_RUNNING,
    STATUS_OK,
    STATUS_STRINGS,
    Trials,
    new_trial,
    utc_now,
    vals_of_trial,
)
from bojax.space import Space
from bojax.study import Study, Trial


class _Search(NamedTuple):
    """What chooses trials, and what they are recorded in.

    Attributes:
        fn: the objective.
        forms: the search space.
        beliefs: densities that guide the search.
        trials: the record.
        method: how trials are chosen.
        study: what chooses them; None where nothing is left to choose.
        takes_noise: whether it learns from the variance of losses.
        rng: the generator of draws.
    """

    fn: Callable[[Any], Any]
    forms: Forms
    beliefs: tuple[Belief, ...]
    trials: Trials
    method: Method
    study: Study | None
    takes_noise: bool
    rng: np.random.Generator


def fmin(
    fn: Callable[..., Any],
    space: Any,
    algo: Any = None,
    max_evals: int | None = 50,
    timeout: float | None = None,
    loss_threshold: float | None = None,
    trials: Trials | None = None,
    rstate: Any = None,
    seed: int = 0,
    *,
    catch_eval_exceptions: bool = False,
    verbose: bool = True,
    return_argmin: bool = True,
    points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
    max_queue_len: int = 1,
    show_progressbar: Any = True,
    early_stop_fn: Callable[..., Any] | None = None,
) -> Any:
    """Minimizes a function over a search space of Hyperopt's kind.

    Args:
        fn: a function of a point of the space. It returns the loss, or a dict with "status" (one of `STATUS_STRINGS`),
            "loss" if that is "ok", and anything else to record. Of these, "loss_variance" is the known variance of the
            loss's noise, >= 0, which the default algorithm uses; "attachments", a dict, goes to
            `trials.trial_attachments`.
        space: dicts, lists and tuples, nested, of constants and `hp.*`, either of this module or of Hyperopt; or
            "annotated" to take it from the annotations of `fn`, which is then called with keywords.
        algo: None for `bojax.bayesopt`, a Gaussian process; `rand.suggest`, draws from the
            distributions of the space; or a function from (bojax space, q) to a bojax algorithm.
        max_evals: number of trials that `trials` holds at the end, those of earlier calls included, and
            `points_to_evaluate` not; >= 0. None to go on until something else ends the loop.
        timeout: seconds after which no further trial starts, > 0; None for no limit.
        loss_threshold: the loop ends once a loss is smaller; None for no limit.
        trials: where trials are recorded; those it holds are learned from, and its waiting ones come first. None for
            a record that is dropped.
        rstate: a NumPy generator from which the seed is drawn, in place of `seed`.
        seed: 0 <= seed < 2**32; the same seed, 0 by default, chooses the same trials for the same losses.
        catch_eval_exceptions: whether an exception of `fn` ends only its trial. By default it ends the loop, and
            `trials` keeps everything until then.
        verbose: whether to show anything.
        return_argmin: whether to return `trials.argmin`; otherwise the best point itself.
        points_to_evaluate: points to begin with: values by label, of choices the number of the option. Labels that
            are left out are chosen.
        max_queue_len: number of trials chosen jointly before any of them is evaluated, >= 1.
        show_progressbar: whether to show progress on stderr; or a context manager of `initial` and `total` with a
            method `update(n)`.
        early_stop_fn: called after each round as `early_stop_fn(trials, *arguments)`; it returns whether to stop, and
            the next arguments.

    Returns:
        The values of the labels that the best trial uses, of choices the number of the option; the best point with
        `return_argmin=False`, and then None if there are no trials.

    Raises:
        BadSearchSpace: the space has no hyperparameters, or something in it cannot be read.
        DuplicateLabel: two hyperparameters have the same label.
        InvalidResultStatus, InvalidLoss: `fn` returned something else than a loss or a proper dict.
        AllTrialsFailed: no trial has a loss.
        TypeError, ValueError: an argument is wrong. Nothing is evaluated.

    Example:
        >>> from bojax.integrations.hyperopt import fmin, hp
        >>> best = fmin(lambda x: (x - 1.0) ** 2, hp.uniform("x", -5, 5), max_evals=12, seed=0, show_progressbar=False)
        >>> abs(best["x"] - 1.0) < 0.2
        True
    """
    if not callable(fn):
        raise TypeError(f"`fn` must be a function of a point of the space, got {fn!r}.")
    fn, space = annotated(fn, space)
    forms, method = forms_of(space), method_of(algo)
    limits = checked_limits(locals())
    trials = Trials() if trials is None else trials
    if not isinstance(trials, Trials):
        raise TypeError(f"`trials` must be a bojax.integrations.hyperopt.Trials, got {type(trials).__qualname__}.")
    for point in checked_points(forms, points_to_evaluate):
        trials.insert_trial_docs([new_trial(trials.new_trial_ids(1)[0], point, forms.labels, trials._exp_key)])
    search = _begin(fn, forms, trials, _guided(method, forms, max_evals), seed_of(rstate, seed))
    show = show_progressbar if verbose else False
    with _shown(trials, limits.max_evals, show) as advance:
        _run(search, limits, advance)
    if return_argmin:
        return trials.argmin
    return space_eval(space, trials.argmin) if trials.trials else None


def space_eval(space: Any, hp_assignment: Mapping[str, Any]) -> Any:
    """The point of a space that values of its labels make.

    Args:
        space: the space, as `fmin` takes it.
        hp_assignment: values by label, of choices the number of the option, as `fmin` returns them; or the `params` of
            a trial of `space_from_hyperopt(space)`.

    Returns:
        The point, as the objective gets it.

    Raises:
        ValueError: a value that is needed is missing.

    Example:
        >>> from bojax.integrations.hyperopt import hp
        >>> space = {"kind": hp.choice("kind", ["linear", {"rbf": hp.uniform("gamma", 0, 1)}])}
        >>> space_eval(space, {"kind": 1, "gamma": 0.5})
        {'kind': {'rbf': 0.5}}
    """
    expression = from_pyll(space)
    return evaluate(expression, hp_assignment)[0]


def space_from_hyperopt(hp_space: Any) -> Space:
    """The bojax space of a search space of Hyperopt's kind, for `Study`, `minimize` and every algorithm of bojax.

    Each label is a parameter: choices are Categoricals of the numbers of their options, whole numbers Ints, all others
    Floats, with a `step` for those with a `q`. Labels within an option exist only with it (`when`). Normal
    distributions are cut at `mu +- 4.89 sigma`, and the space does not know which values are more likely. `space_eval`
    makes the point from the params of a trial. It rounds values with a `q` that begin with 0 on a logarithmic scale.

    Args:
        hp_space: dicts, lists and tuples, nested, of constants and `hp.*`, either of this module or of Hyperopt.

    Returns:
        The space. Labels with a single value are not in it.

    Raises:
        BadSearchSpace: nothing is to be chosen, or something in the space cannot be read.
        DuplicateLabel: two hyperparameters have the same label.

    Example:
        >>> from bojax.integrations.hyperopt import hp
        >>> space_from_hyperopt([hp.quniform("width", 8, 64, 8), hp.choice("kind", ["relu", "tanh"])])
        Space({'width': Float(low=8.0, high=64.0, log=False, step=8.0), 'kind': Categorical(choices=(0, 1))})
    """
    space = forms_of(hp_space).space
    if space is None:
        raise ValueError(f"`hp_space` must have a hyperparameter with two values or more, got {hp_space!r}.")
    return space


def _guided(method: Method, forms: Forms, max_evals: int | None) -> Method:
    """The method, told of beliefs if it is the default one."""
    beliefs = beliefs_of(forms)
    if not (method.takes_beliefs and beliefs):
        return method
    return method._replace(factory=functools.partial(believing, beliefs, max_evals))


def _begin(fn: Callable[..., Any], forms: Forms, trials: Trials, method: Method, seed: int) -> _Search:
    """A study that knows the trials that are done."""
    rng, beliefs = np.random.default_rng([seed, len(trials)]), beliefs_of(forms)
    if forms.space is None:
        return _Search(fn, forms, beliefs, trials, method, None, False, rng)
    factory: Any = bayesopt().factory if method.factory is None else method.factory
    study = Study(forms.space, seed=seed, algorithm=factory)
    columns = getattr(factory(forms.space, 1), "columns", None) or ()
    search = _Search(fn, forms, beliefs, trials, method, study, "noise_var" in columns, rng)
    for trial in trials._dynamic_trials:
        if trial["state"] in (JOB_STATE_DONE, JOB_STATE_ERROR):
            study.add(complete(forms, params_of(forms, vals_of_trial(trial))), **_outcome(search, trial))
    return search


def _run(search: _Search, limits: Limits, advance: Callable[[float | None], None]) -> None:
    trials, start, arguments = search.trials, time.monotonic(), []
    left = math.inf if limits.max_evals is None else limits.max_evals - _num_counted(trials)
    best = math.inf
    while limits.timeout is None or time.monotonic() - start < limits.timeout:
        if limits.loss_threshold is not None and best < limits.loss_threshold:
            return
        waiting = [trial for trial in trials._dynamic_trials if trial["state"] == JOB_STATE_NEW]
        if waiting:
            chosen = [_asked_for(search, waiting[0])]
        elif left > 0:
            chosen = _chosen(search, int(min(limits.max_queue_len, left)), limits.max_evals)
            left -= len(chosen)
        else:
            return
        if not chosen:
            return
        for trial, asked in chosen:
            _evaluate(search, trial, asked, limits.catch)
            advance(_finite_loss(trial))
        best = min([loss for loss in map(_finite_loss, trials) if loss is not None], default=math.inf)
        if limits.early_stop_fn is not None:
            stop, arguments = limits.early_stop_fn(trials, *arguments)
            if stop:
                return


def _num_counted(trials: Trials) -> int:
    """The trials that count towards `max_evals`: waiting ones are evaluated in addition."""
    return sum(trial["state"] != JOB_STATE_NEW for trial in trials)


def _asked_for(search: _Search, trial: dict[str, Any]) -> tuple[dict[str, Any], Trial | None]:
    """A waiting trial, and the trial of the study that stands for it; what its point leaves out is chosen."""
    if search.study is None:
        return trial, None
    vals = vals_of_trial(trial)
    asked = search.study.ask(fixed=params_of(search.forms, vals))[0]
    every = vals_of(search.forms, asked.params) | vals
    _, used = evaluate(search.forms.expression, search.forms.constants | every)
    full = {label: value for label, value in (search.forms.constants | every).items() if label in used}
    trial["misc"] = new_trial(trial["tid"], full, search.forms.labels)["misc"]
    return trial, asked


def _chosen(search: _Search, q: int, max_evals: int | None) -> list[tuple[dict[str, Any], Trial | None]]:
    """Up to q trials, recorded as waiting, and the trials of the study that stand for them; none if all are done."""
    forms, study, trials = search.forms, search.study, search.trials
    if study is None:
        pairs = [(vals_of(forms, {}), None) for _ in range(q)]
    elif search.method.factory is None or _draws_design(search):
        drawn = [draw_vals(forms.expression, forms.labels, search.rng) for _ in range(q)]
        pairs = [(vals, study.ask(fixed=complete(forms, params_of(forms, vals)))[0]) for vals in drawn]
    else:
        try:
            pairs = [(vals_of(forms, asked.params), asked) for asked in study.ask(q)]
        except SpaceExhaustedError as error:
            of = "" if max_evals is None else f" of {max_evals}"
            warnings.warn(f"fmin ends after {len(trials)}{of} trials: {error}", BojaxWarning, stacklevel=4)
            return []
    made = [new_trial(trials.new_trial_ids(1)[0], vals, forms.labels, trials._exp_key) for vals, _ in pairs]
    trials.insert_trial_docs(made)
    return [(trial, asked) for trial, (_, asked) in zip(made, pairs, strict=True)]


def _draws_design(search: _Search) -> bool:
    """Whether the next trials are drawn from the distributions: the first ones, if some values are more likely."""
    space = search.forms.space
    return (
        space is not None
        and bool(search.beliefs)
        and len(search.trials._dynamic_trials) < search.method.num_initial(space.num_dims)
    )


def _evaluate(search: _Search, trial: dict[str, Any], asked: Trial | None, catch: bool) -> None:
    """Calls the objective, and records what it returns or raises."""
    trial["state"], trial["book_time"] = JOB_STATE_RUNNING, utc_now()
    try:
        point, _ = evaluate(search.forms.expression, vals_of_trial(trial))
        trial["result"] = _result(search, trial, search.fn(point))
        trial["state"] = JOB_STATE_DONE
    except Exception as error:
        trial["state"] = JOB_STATE_ERROR
        trial["misc"]["error"] = (str(type(error)), str(error))
        if not catch:
            raise
    finally:
        trial["refresh_time"] = utc_now()
        if trial["state"] == JOB_STATE_RUNNING:  # Ctrl-C
            trial["state"] = JOB_STATE_CANCEL
        if search.study is not None and asked is not None:
            search.study.tell(asked, **_outcome(search, trial))


def _result(search: _Search, trial: dict[str, Any], returned: Any) -> dict[str, Any]:
    """What the objective returned, as a dict, without its attachments."""
    number = plain(returned)
    if isinstance(number, numbers.Real) and not isinstance(number, bool):
        return {"loss": float(number), "status": STATUS_OK}
    if not isinstance(returned, Mapping):
        raise InvalidLoss(f"`fn` must return a number or a dict, got {returned!r}.")
    result = dict(returned)
    if result.get("status") not in STATUS_STRINGS:
        raise InvalidResultStatus(f"`status` must be one of {STATUS_STRINGS}, got {result.get('status')!r}.")
    if result["status"] == STATUS_OK:
        try:
            result["loss"] = float(result["loss"])
        except (KeyError, TypeError, ValueError):
            raise InvalidLoss(f"`loss` must be a number where `status` is 'ok', got {result.get('loss')!r}.") from None
        variance = plain(result.get("loss_variance", 0.0))
        if not isinstance(variance, int | float) or not 0 <= variance < math.inf:
            raise InvalidLoss(f"`loss_variance` must be a number of at least 0, got {variance!r}.")
    attachments = search.trials.trial_attachments(trial)
    for name, value in result.pop("attachments", {}).items():
        attachments[name] = value
    return result


def _outcome(search: _Search, trial: Mapping[str, Any]) -> dict[str, Any]:
    """What the study is told of a trial."""
    loss = _finite_loss(trial)
    if loss is None:
        return {"state": "fail"}
    noise_var = trial["result"].get("loss_variance")
    if noise_var is None or not search.takes_noise:
        return {"value": loss}
    return {"value": loss, "noise_var": float(noise_var)}


def _finite_loss(trial: Mapping[str, Any]) -> float | None:
    loss = trial["result"].get("loss")
    done = trial["state"] == JOB_STATE_DONE and trial["result"].get("status") == STATUS_OK
    return loss if done and loss is not None and math.isfinite(loss) else None


@contextlib.contextmanager
def _shown(trials: Trials, total: int | None, show: Any) -> Iterator[Callable[[float | None], None]]:
    """Yields a function to call with the loss of each trial."""
    waiting = sum(trial["state"] == JOB_STATE_NEW for trial in trials)
    initial, total = len(trials) - waiting, None if total is None else total + waiting
    if callable(show):
        shown: Any = show(initial=initial, total=total)
        with shown as bar:
            yield lambda loss: bar.update(1)
        return
    losses = [loss for loss in map(_finite_loss, trials) if loss is not None]
    with progress_bar("fmin", "minimize", losses, total, bool(show), initial) as advance:
        yield advance
