"""The interfaces of surrogates and posteriors.

A surrogate is three functions of hyperparameters `params` (any pytree of arrays):

    params = surrogate.init(num_dims, dtype)
    params, fit_info = surrogate.fit(key, observations, params)      # starts from the params of the last fit
    posterior = surrogate.posterior(params, observations)

A posterior gives means, covariances and samples at points X of the unit cube, in the units of y. It is a pytree, so it
can be passed through jit and vmap.
"""

from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from bojax._types import Array, Bool, Float, Int, Key
from bojax.surrogates._contracts import BindFn, FitFn, InitFn, PosteriorFn, SeesFn

PosteriorT = TypeVar("PosteriorT", bound="Posterior")


@runtime_checkable
class Posterior(Protocol):
    """The belief about the objective after some observations."""

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance of the noise-free objective at each of k points."""
        ...

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        ...

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        ...

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "q"], Float[Array, "q q"]]:
        """Mean and covariance of q points together."""
        ...

    def sample(self, key: Key, X: Float[Array, "q d"], num_samples: int) -> Float[Array, "s q"]:
        """Joint samples of the noise-free objective at q points."""
        ...

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance of the noise-free objective between two sets of points, in squared units of y."""
        ...

    def observation_noise(self) -> Float[Array, ""]:
        """Variance of the noise of one more observation, in squared units of y."""
        ...

    def fantasies(
        self, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int = 0
    ) -> "Fantasies":
        """Sampled objectives with fixed values at m points.

        Args:
            X: [m, d] points where the samples are fixed.
            mask: [m] which rows count.
            base: [s, m] standard normal numbers from which the samples are made.
            num_spare: number of further points that `Fantasies.append` may fix.
        """
        ...

    def append(self: PosteriorT, x: Float[Array, "d"], y: Float[Array, ""]) -> PosteriorT:
        """The posterior after one more (imagined) observation, hyperparameters unchanged."""
        ...

    def standardized(self: PosteriorT) -> PosteriorT:
        """The same posterior in units in which the observed y have mean 0 and standard deviation 1."""
        ...


@runtime_checkable
class Fantasies(Protocol):
    """Sampled objectives: each has known values at a few fixed points and is Gaussian everywhere else.

    Conditioning on sampled values, not on means, makes a batch joint: the next point is chosen for all outcomes that
    the points before it may have.
    """

    @property
    def values(self) -> Float[Array, "s m"]:
        """Values of every sample at the fixed points; minus infinity in rows that are masked or not used yet."""
        ...

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "s k"], Float[Array, "#s k"]]:
        """Mean and variance of every sample at X, given its values at the fixed points."""
        ...

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "s q"], Float[Array, "#s q q"]]:
        """Mean and covariance of every sample at q points together."""
        ...

    def append(self, x: Float[Array, "d"], base: Float[Array, "s"]) -> "Fantasies":
        """The samples with fixed values at one more point; `base` [s] is standard normal."""
        ...


class FitInfo(NamedTuple):
    """Diagnostics of a fit.

    Attributes:
        loss: negative log posterior density of the hyperparameters, from the best start.
        losses: [r] the same for every start.
        num_evals: number of batched evaluations of the loss.
        ok: whether the loss is finite. If it is not, `fit` returns the hyperparameters it was given.
    """

    loss: Float[Array, ""]
    losses: Float[Array, "r"]
    num_evals: Int[Array, ""]
    ok: Bool[Array, ""]


class Surrogate(NamedTuple):
    """A statistical model of the objective, as three pure functions.

    Attributes:
        init: `init(num_dims, dtype) -> params`, the start of the first fit.
        fit: `fit(key, observations, params) -> (params, FitInfo)`.
        posterior: `posterior(params, observations, num_spare=0) -> Posterior`; `num_spare` rows are kept free for
            `append`.
        bind: `bind(inputs) -> Surrogate`, the surrogate for given categorical columns (`Inputs`). Algorithms call it
            once, on spaces with categories. None refuses such spaces; `lambda inputs: surrogate` accepts them
            unchanged. If you replace `fit` or `posterior`, replace `bind` too, set `sees` and `model` to None, and
            `resumes` to False.
        columns: the columns of the observations that `fit` and `posterior` read (names in `bojax.data.COLUMNS`).
            Algorithms keep these and refuse others.
        sees: `sees(observations) -> Observations`, the values, and columns in their units, after the output transforms
            of the surrogate; None if it has none.
        model: the surrogate of what `sees` returns; None if `sees` is.
        resumes: whether `fit` takes a keyword argument `trusted`, a [] bool that may be traced. If it is true, `params`
            are a fit of most of the same data: the fit goes on from them alone, without other starts, and ends once
            hardly anything is left to gain. A `Study` uses it to spend few evaluations between full fits.
    """

    init: InitFn
    fit: FitFn
    posterior: PosteriorFn
    bind: BindFn | None = None
    columns: tuple[str, ...] = ("noise_var",)
    sees: SeesFn | None = None
    model: "Surrogate | None" = None
    resumes: bool = False
