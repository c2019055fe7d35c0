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
from bojax.integrations._hyperopt._spaces import space_eval
from bojax.integrations._hyperopt._suggest import Method, method_of
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
from bojax.study import Study, Trial


class _Search(NamedTuple):
    """What chooses trials, and what they are recorded in.

    Attributes:
        fn: the objective.
        forms: the search space.
        beliefs: densities that guide the search.
        trials: the record.
        method: how trials are chosen.
        study: what chooses them; None where they are drawn.
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
        algo: None for `bojax.bayesopt`, a Gaussian process; `tpe.suggest`; `rand.suggest`, draws from the
            distributions of the space; `anneal.suggest`, draws near good trials; or a function from (bojax space, q) to
            a bojax algorithm.
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
    points = checked_points(forms, points_to_evaluate)
    search = _begin(fn, forms, trials, _guided(method, forms), seed_of(rstate, seed))
    for point in points:
        trials.insert_trial_docs([new_trial(trials.new_trial_ids(1)[0], point, forms.labels, trials._exp_key)])
    show = show_progressbar if verbose else False
    with _shown(trials, limits.max_evals, show) as advance:
        _run(search, limits, advance)
    if return_argmin:
        return trials.argmin
    return space_eval(space, trials.argmin) if trials.trials else None


def _guided(method: Method, forms: Forms) -> Method:
    """The method, told of beliefs if it is the default one."""
    beliefs = beliefs_of(forms)
    if not (method.takes_beliefs and beliefs):
        return method
    return method._replace(factory=functools.partial(believing, beliefs))


def _begin(fn: Callable[..., Any], forms: Forms, trials: Trials, method: Method, seed: int) -> _Search:
    """A study that knows the trials that are done."""
    rng, beliefs, factory = np.random.default_rng([seed, len(trials)]), beliefs_of(forms), method.factory
    done = [trial for trial in trials._dynamic_trials if trial["state"] in (JOB_STATE_DONE, JOB_STATE_ERROR)]
    earlier = [complete(forms, params_of(forms, vals_of_trial(trial))) for trial in done]
    if forms.space is None or factory is None:
        return _Search(fn, forms, beliefs, trials, method, None, False, rng)
    study = Study(forms.space, seed=seed, algorithm=factory)
    columns = getattr(factory(forms.space, 1), "columns", None) or ()
    search = _Search(fn, forms, beliefs, trials, method, study, "noise_var" in columns, rng)
    for trial, params in zip(done, earlier, strict=True):
        study.add(params, **_outcome(search, trial))
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
    given, asked, forms = vals_of_trial(trial), None, search.forms
    try:
        asked = None if search.study is None else search.study.ask(fixed=params_of(forms, given))[0]
        chosen = {} if asked is None else vals_of(forms, asked.params)
        vals = draw_vals(forms.expression, forms.labels, search.rng, chosen | given)
    except SpaceExhaustedError:  # all points with these values are known: one is repeated
        vals = draw_vals(forms.expression, forms.labels, search.rng, given)
        asked = _standing_for(search, vals)
    trial["misc"] = new_trial(trial["tid"], vals, forms.labels)["misc"]
    return trial, asked


def _standing_for(search: _Search, vals: Mapping[str, Any]) -> Trial | None:
    """The trial of the study that stands for a complete point."""
    if search.study is None:
        return None
    return search.study.ask(fixed=complete(search.forms, params_of(search.forms, vals)))[0]


def _chosen(search: _Search, q: int, max_evals: int | None) -> list[tuple[dict[str, Any], Trial | None]]:
    """Up to q trials, recorded as waiting, and the trials of the study that stand for them; none if all are done."""
    forms, study, trials = search.forms, search.study, search.trials
    if study is None:
        ranked = _ranked(trials)
        pairs = [(search.method.draw(forms, ranked, search.rng), None) for _ in range(q)]
    elif _draws_design(search):
        drawn = [draw_vals(forms.expression, forms.labels, search.rng) for _ in range(q)]
        pairs = [(vals, _standing_for(search, vals)) for vals in drawn]
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


def _ranked(trials: Trials) -> list[dict[str, Any]]:
    """The values of the trials that have a loss, the best one first."""
    pairs = [(loss, trial) for trial in trials if (loss := _finite_loss(trial)) is not None]
    return [vals_of_trial(trial) for _, trial in sorted(pairs, key=lambda pair: pair[0])]


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
