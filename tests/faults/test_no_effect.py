"""What has no effect is said.

Choices compared with texts, hyperparameters that nothing reads or differentiates, columns that no algorithm keeps.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bojax
from bojax import hypergrad, multifidelity
from bojax._errors import BojaxWarning
from bojax.hypergrad import InertHyperparameterError

SPACE = bojax.Space(
    act=bojax.Categorical(["tanh", "relu"]), width=bojax.Ordinal([1, 2, 4, 8]), rate=bojax.Float(0.0, 1.0)
)


def search(space, q):
    return bojax.random_search(space, q=q)


def tune(train, space=SPACE, **arguments):
    settings = {"num_trials": 2, "batch_size": 2, "seed": 0, "algorithm": search, "progress": False}
    return bojax.tune(train, space, **(settings | arguments))


def value_of(hparams):
    """A metric that reads everything as it should."""
    return hparams["rate"] + jnp.where(hparams["act"] == 1, 1.0, 0.0) + hparams["width"]


# A choice compared with what it stands for.

COMPARISONS = {
    "equal": lambda h: 1.0 if h["act"] == "relu" else 0.0,
    "unequal": lambda h: jnp.where(h["act"] != "relu", 1.0, 0.0),
    "in": lambda h: 1.0 if h["act"] in ("relu", "gelu") else 0.0,
    "unknown": lambda h: jnp.where(h["act"] == "gelu", 1.0, 0.0),
    "jitted": lambda h: jax.jit(lambda act: 1.0 if act == "relu" else 0.0)(h["act"]),
    "scanned": lambda h: jax.lax.scan(lambda c, _: (c + (h["act"] == "relu"), None), 0, None, length=2)[0],
    "none": lambda h: 1.0 if h["act"] == None else 0.0,  # noqa: E711
}


@pytest.mark.long
@pytest.mark.parametrize("name", COMPARISONS)
def test_a_training_function_that_compares_a_choice_with_a_text_is_refused(name):
    calls = []

    def train(key, hparams):
        calls.append(hparams)
        return value_of(hparams) + COMPARISONS[name](hparams)

    with pytest.raises(TypeError, match=r"'act' is compared with .* choices arrive as positions.*1 is 'relu'"):
        tune(train)
    assert len(calls) == 1, "nothing was trained"


def test_an_ordinal_compared_with_a_value_that_is_no_position_is_refused():
    with pytest.raises(TypeError, match="'width' is compared with 8"):
        tune(lambda key, h: value_of(h) + jnp.where(h["width"] == 8, 1.0, 0.0))


USES = {
    "position": lambda h: jnp.where(h["act"] == 1, 1.0, 0.0),
    "switch": lambda h: jax.lax.switch(h["act"], [lambda: 0.0, lambda: 1.0]),
    "table": lambda h: jnp.array([0.0, 1.0])[h["act"]],
    "one_hot": lambda h: jax.nn.one_hot(h["act"], 2)[1],
    "arithmetic": lambda h: 1.0 * h["act"],
    "cond": lambda h: jax.lax.cond(h["act"] == 1, lambda: 1.0, lambda: 0.0),
    "tree": lambda h: jax.tree.map(lambda x: x * 1.0, h)["act"],
}


@pytest.mark.parametrize("name", USES)
def test_right_uses_of_a_position_are_left_alone(name):
    result = tune(lambda key, h: USES[name](h) + 0.0 * value_of(h))
    for trial in result.trials:
        assert trial.value == (trial.params["act"] == "relu")


TRAINABLE = multifidelity.from_functions(
    SPACE,
    init=lambda key, h: jnp.zeros(()),
    advance=lambda state, h, n: state + value_of(h) * n.astype(jnp.float32),
    evaluate=lambda state, h: {"value": state},
    metric="value",
    num_steps=2,
)
METHODS = {
    "successive_halving": functools.partial(multifidelity.successive_halving, num_members=2, num_workers=1),
    "asha": functools.partial(multifidelity.asha, budget_steps=4, population=2, num_workers=1),
    "pbt": functools.partial(multifidelity.pbt, population=2, num_rounds=1),
}


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("part", ["init", "advance", "evaluate"])
def test_a_trainable_that_compares_a_choice_with_a_text_is_refused(method, part):
    plain = getattr(TRAINABLE.functions, part)

    def wrong(first, hparams, *rest):
        h = first if part == "none" else hparams
        return jax.tree.map(lambda x: x + COMPARISONS["equal"](h), plain(first, hparams, *rest))

    with pytest.raises(TypeError, match="'act' is compared with 'relu'"):
        METHODS[method](TRAINABLE._replace(functions=TRAINABLE.functions._replace(**{part: wrong})))


def test_a_structure_that_compares_a_choice_with_a_text_is_refused():
    class Structured:
        name, space, metric, direction, num_steps = "structured", SPACE, "value", "maximize", 2

        def structure(self, hparams):
            return hparams["act"] == "relu"

        def program(self, structure):
            return TRAINABLE.functions

    with pytest.raises(TypeError, match="'act' is compared with 'relu'"):
        METHODS["successive_halving"](Structured())


def test_run_refuses_such_a_comparison():
    with pytest.raises(TypeError, match="'act' is compared with 'relu'"):
        bojax.run(jax.random.key(0), bojax.random_search(SPACE), lambda p: value_of(p) + COMPARISONS["equal"](p), 2)


def test_a_vectorized_objective_refuses_such_a_comparison():
    study = bojax.Study(SPACE, seed=0, algorithm=search)
    with pytest.raises(TypeError, match="'act' is compared with 'relu'"):
        study.optimize(
            lambda p: np.where(p["act"] == "relu", 1.0, 0.0), 2, 2, vectorized=True, progress=False, catch=()
        )
    study.optimize(lambda p: np.where(p["act"] == 1, 1.0, 0.0) + p["rate"], 2, 2, vectorized=True, progress=False)


@pytest.mark.long
@pytest.mark.parametrize("make", ["cost", "prior"])
def test_costs_and_priors_refuse_such_a_comparison(make):
    def fn(params):
        return 1.0 if params["act"] == "relu" else 2.0

    if make == "cost":
        algorithm = bojax.loop.cost_aware(SPACE, cost=fn)
    else:
        base = bojax.acquisition.with_prior(bojax.acquisition.batch_log_ei(), fn, space=SPACE)
        algorithm = bojax.bayesopt(SPACE, acquisition=base)
    with pytest.raises(TypeError, match="'act' is compared with 'relu'"):
        key = jax.random.key(0)
        jax.eval_shape(lambda: algorithm.ask(key, algorithm.init(key)))


# Hyperparameters that a program does not read.


@pytest.mark.parametrize("unread", [["rate"], ["act"], ["act", "rate"]])
def test_tune_warns_of_hyperparameters_that_are_not_read(unread):
    def train(key, hparams):
        used = {name: 0 * hparams[name] if name in unread else hparams[name] for name in hparams}
        fixed = {name: jnp.zeros_like(used[name]) if name in unread else used[name] for name in used}
        return {"loss": value_of(fixed), "other": value_of(hparams)}

    with pytest.warns(BojaxWarning, match="does not depend on") as caught:
        tune(train, metric="loss")
    texts = [str(warning.message) for warning in caught if "does not depend on" in str(warning.message)]
    assert len(texts) == 1 and all(name in texts[0] for name in unread) and "'width'" not in texts[0]
    assert ("positions" in texts[0]) == ("act" in unread)


@pytest.mark.unchecked
def test_a_trainable_warns_of_hyperparameters_that_are_not_read():
    def advance(state, h, n):
        # All of the hyperparameters go into the loop, which uses one of them.
        return jax.lax.fori_loop(0, n, lambda _, carry: (carry[0] + carry[1]["width"], carry[1]), (state, h))[0]

    functions = TRAINABLE.functions._replace(init=lambda key, h: jnp.int32(0), advance=advance)
    with pytest.warns(BojaxWarning, match=r"does not depend on \['act', 'rate'\]"):
        METHODS["successive_halving"](TRAINABLE._replace(functions=functions))


def test_nothing_is_said_where_everything_is_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tune(lambda key, h: value_of(h))
        for run in METHODS.values():
            run(TRAINABLE)


# Hypergradients that are zero whatever the value.

ZEROS = {
    "stop_gradient": lambda h: jax.lax.stop_gradient(h) ** 2,
    "round": lambda h: jnp.round(10.0 * h),
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "sign": jnp.sign,
    "comparison": lambda h: jnp.where(h > 0.2, 1.0, 2.0),
    "cast": lambda h: (10.0 * h).astype(jnp.int32) * 0.1,
    "bernoulli": lambda h: jnp.sum(jax.random.bernoulli(jax.random.key(0), h, (5,)) * 0.2),
    "argmax": lambda h: jnp.argmax(jnp.stack([h, 1.0 - h])) * 1.0,
    "scan": lambda h: jax.lax.scan(lambda c, _: (c + jnp.floor(h), None), 0.0, None, length=2)[0],
    "cond": lambda h: jax.lax.cond(h > 0.2, jnp.floor, jnp.round, h),
    "jit": lambda h: jax.jit(jnp.floor)(h),
}
TRAIN, VALID, START = jnp.ones(2), 0.5 * jnp.ones(2), jnp.zeros(2)
HYPERGRAD_METHODS = {
    "implicit": {},
    "one_step": {"method": hypergrad.OneStep()},
    "unrolled": {"method": hypergrad.Unrolled(optax.sgd(0.1), 3)},
    "forward": {"method": hypergrad.Forward(optax.sgd(0.1), 3)},
}


def losses(transform):
    def inner_loss(w, h, data):
        return jnp.sum((w - data) ** 2) + (1.0 + jnp.exp(h["good"]) + transform(h["flat"])) * jnp.sum(w**2)

    return inner_loss, lambda w, h, data: jnp.sum((w - data) ** 2)


HPARAMS = {"good": 0.1, "flat": 0.3}


@pytest.mark.parametrize("name", ZEROS)
def test_a_hypergradient_that_is_zero_everywhere_is_an_error(name):
    fn = hypergrad.hypergradient(*losses(ZEROS[name]))
    with pytest.raises(InertHyperparameterError, match=r"hparams\['flat'\].*no derivative, as round, floor"):
        fn(HPARAMS, START, TRAIN, VALID)


@pytest.mark.parametrize("method", HYPERGRAD_METHODS)
def test_every_method_asks_for_derivatives(method):
    fn = hypergrad.hypergradient(*losses(jnp.floor), **HYPERGRAD_METHODS[method])
    with pytest.raises(InertHyperparameterError, match=r"hparams\['flat'\].*stop_gradient") as raised:
        jax.jit(fn)(HPARAMS, START, TRAIN, VALID)
    assert "good" not in str(raised.value)


@pytest.mark.parametrize("which", ["online", "soba"])
def test_the_algorithms_of_a_single_run_ask_for_derivatives(which):
    inner_loss, outer_loss = losses(jnp.round)
    if which == "online":
        made = hypergrad.online(inner_loss, outer_loss, lambda h: optax.sgd(0.1), optax.sgd(0.1))
    else:
        made = hypergrad.soba(inner_loss, outer_loss, inner_optimizer=optax.sgd(0.1), outer_optimizer=optax.sgd(0.1))
    with pytest.raises(InertHyperparameterError, match=r"hparams\['flat'\]"):
        jax.jit(made.step)(made.init(START, HPARAMS), TRAIN, VALID)


SLOPES = {
    "smooth": lambda h: h**2,
    "also_smooth": lambda h: jnp.round(h) + h,
    "chosen": lambda h: jnp.where(h > 0.2, h, 0.0),
    "remainder": lambda h: h % 1.0,
    "straight_through": lambda h: h + jax.lax.stop_gradient(jnp.round(h) - h),
    "clipped": lambda h: jnp.clip(h, 0.0, 1.0),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SLOPES)
def test_what_has_a_derivative_somewhere_is_no_error(name):
    result = hypergrad.hypergradient(*losses(SLOPES[name]))(HPARAMS, START, TRAIN, VALID)
    assert float(result.grad["flat"]) != 0.0


def test_derivatives_are_found_behind_a_rule_for_reverse_mode():
    @jax.custom_vjp
    def square(h):
        return h**2

    square.defvjp(lambda h: (h**2, h), lambda h, g: (2.0 * h * g,))
    method = hypergrad.Unrolled(optax.sgd(0.1), 3, backprop="plain")
    for transform, inert in ((square, False), (lambda h: square(jnp.floor(h)), True)):
        fn = hypergrad.hypergradient(*losses(transform), method=method)
        if inert:
            with pytest.raises(InertHyperparameterError, match="flat"):
                fn(HPARAMS, START, TRAIN, VALID)
        else:
            assert float(fn(HPARAMS, START, TRAIN, VALID).grad["flat"]) != 0.0


# Columns that an algorithm does not keep.

FLOATS = bojax.Space(x=bojax.Float(0.0, 1.0), y=bojax.Float(0.0, 1.0))
TELLS = {"cost": [2.0], "grad": [[0.1, 0.2]]}
KEEPERS = {
    "random_search": (bojax.random_search, ()),
    "bayesopt": (bojax.bayesopt, ()),
    "thompson": (bojax.thompson, ()),
    "turbo": (bojax.turbo, ()),
    "with gradients": (bojax.gradient_bayesopt, ("grad",)),
    "hybrid": (bojax.loop.hybrid, ("grad",)),
    "learned costs": (bojax.loop.cost_aware, ("cost",)),
    "known costs": (functools.partial(bojax.loop.cost_aware, cost=lambda p: 1.0 + p["x"]), ()),
}


@pytest.mark.long
@pytest.mark.parametrize("name", KEEPERS)
def test_the_pure_tell_refuses_columns_that_nobody_reads(name):
    make, kept = KEEPERS[name]
    algorithm = make(FLOATS)
    state = algorithm.init(jax.random.key(0))
    for column, value in TELLS.items():
        if column in kept:
            assert algorithm.tell(state, [[0.1, 0.2]], [1.0], **{column: value}).observations.count == 1
        else:
            with pytest.raises(ValueError, match=f"`{column}` must be left out: this algorithm learns nothing from it"):
                algorithm.tell(state, [[0.1, 0.2]], [1.0], **{column: value})
    assert algorithm.tell(state, [[0.1, 0.2]], [1.0], noise_var=0.1).observations.count == 1


@pytest.mark.parametrize("column", TELLS)
def test_a_study_refuses_columns_that_nobody_reads_and_loses_no_value(column):
    study = bojax.Study(FLOATS, seed=0)
    trial = study.ask()[0]
    value = 2.0 if column == "cost" else {"x": 0.1}
    with pytest.raises(ValueError, match=f"`{column}` must be left out.*`algorithm`"):
        study.tell(trial, 1.0, **{column: value})
    assert study.trials[0].state == "running"
    assert study.tell(trial, 1.0, user_attrs={"seconds": 2.0}).value == 1.0


def test_a_study_whose_algorithm_reads_them_takes_them():
    study = bojax.Study(FLOATS, seed=0, algorithm=lambda space, q: bojax.loop.cost_aware(space, q=q))
    study.tell(study.ask()[0], 1.0, cost=2.0)
    with pytest.raises(ValueError, match="`grad` must be left out"):
        study.tell(study.ask()[0], 1.0, grad={"x": 0.1})


@pytest.mark.long
def test_a_study_that_is_opened_with_an_algorithm_that_does_not_read_what_is_stored_says_so(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    study = bojax.Study(FLOATS, storage=storage, algorithm=lambda space, q: bojax.loop.cost_aware(space, q=q))
    study.tell(study.ask()[0], 1.0, cost=2.0)
    other = bojax.Study(storage=storage, algorithm=search)
    with pytest.warns(BojaxWarning, match="holds `cost` of trials, from which its algorithm does not learn"):
        other.ask()


def test_gradients_are_not_computed_for_an_algorithm_that_does_not_read_them():
    def train(key, hparams):
        return (hparams["x"] - 0.3) ** 2 + hparams["y"]

    with pytest.raises(ValueError, match="`gradients` must be left out"):
        tune(train, FLOATS, gradients=True)

    class Differentiable:
        metric = "value"

        def train(self, key, hparams):
            return {"value": train(key, hparams)}

        def value_and_grad(self, key, hparams):
            raise AssertionError("gradients are of no use here")

    assert len(tune(Differentiable(), FLOATS).trials) == 2
