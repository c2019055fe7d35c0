"""A posterior averaged over hyperparameters: M Gaussian processes with equal weights.

Member i has mean mu_i and covariance c_i. The mixture has the moments

    mean(x) = 1/M sum_i mu_i(x)
    cov(x, z) = 1/M sum_i c_i(x, z) + 1/M sum_i (mu_i(x) - mean(x)) (mu_i(z) - mean(z))

so the disagreement of the members is the uncertainty about the hyperparameters (Rasmussen and Williams 2006,
section 5.2). Samples and `fantasies` come from the members. An acquisition over fantasies is therefore the mean of the
acquisition over the members, the integrated acquisition of Snoek, Larochelle, Adams (2012), arXiv:1206.2944, and not
that of one Gaussian with the same moments.
"""

import dataclasses

import jax
import jax.numpy as jnp

from bojax._linalg import matmul
from bojax._types import Array, Bool, Float, Key
from bojax.surrogates.posteriors._posterior import GPFantasies, GPPosterior


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MixturePosterior:
    """A mixture of Gaussian processes on the same observations, with equal weights.

    `map_ensemble` and `fully_bayesian_gp` make it; its methods are those of `Posterior`. With means mu_i and variances
    v_i of the members, its mean is mean_i mu_i and its variance mean_i v_i + mean_i (mu_i - mean)^2.

    Attributes:
        members: a `GPPosterior` whose arrays have a leading axis of length M.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import map_ensemble
        >>> surrogate = map_ensemble(num_members=2)
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        >>> posterior = surrogate.posterior(surrogate.init(1, jnp.float32), seen)
        >>> posterior.num_members
        2
        >>> [round(value, 2) for value in jax.jit(posterior.mean)(jnp.array([[0.5], [0.8]])).tolist()]
        [0.5, 1.0]
    """

    members: GPPosterior

    @property
    def num_members(self) -> int:
        """M, the number of Gaussian processes."""
        return self.members.mask.shape[0]

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance of the mixture at each of k points."""
        means, variances = jax.vmap(lambda member: member.mean_var(X))(self.members)
        return jnp.mean(means, axis=0), jnp.mean(variances, axis=0) + jnp.mean(_centered(means) ** 2, axis=0)

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        return jnp.mean(self._means(X), axis=0)

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        return self.mean_var(X)[1]

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "q"], Float[Array, "q q"]]:
        """Mean and covariance of q points together."""
        means, covariances = jax.vmap(lambda member: member.joint(X))(self.members)
        spread = _centered(means)
        cov = jnp.mean(covariances, axis=0) + matmul(spread.T, spread) / self.num_members
        return jnp.mean(means, axis=0), cov

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance of the noise-free objective between two sets of points."""
        covariances = jax.vmap(lambda member: member.cov(X, Z))(self.members)
        spread = matmul(_centered(self._means(X)).T, _centered(self._means(Z)))
        return jnp.mean(covariances, axis=0) + spread / self.num_members

    def observation_noise(self) -> Float[Array, ""]:
        """Variance of the noise of one more observation, averaged over the members."""
        return jnp.mean(jax.vmap(lambda member: member.observation_noise())(self.members))

    def sample(self, key: Key, X: Float[Array, "q d"], num_samples: int) -> Float[Array, "s q"]:
        """Joint samples of the noise-free objective at q points; sample i comes from member i % M."""
        each = -(-num_samples // self.num_members)
        keys = jax.random.split(key, self.num_members)
        samples = jax.vmap(lambda member, key: member.sample(key, X, each))(self.members, keys)
        return jnp.swapaxes(samples, 0, 1).reshape(-1, X.shape[0])[:num_samples]

    def append(self, x: Float[Array, "d"], y: Float[Array, ""]) -> "MixturePosterior":
        """The mixture after one more observation of every member; the weights stay equal."""
        return MixturePosterior(jax.vmap(lambda member: member.append(x, y))(self.members))

    def standardized(self) -> "MixturePosterior":
        """The same posterior in units in which the observed y have mean 0 and standard deviation 1."""
        return MixturePosterior(jax.vmap(lambda member: member.standardized())(self.members))

    def fantasies(
        self, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int = 0
    ) -> "MixtureFantasies":
        """Samples of the members with fixed values at m points; see `Posterior.fantasies`.

        Sample i belongs to member i // (s / M).

        Raises:
            ValueError: the number of samples is not a multiple of the number of members.
        """
        divided = _divide(base, self.num_members)
        return MixtureFantasies(
            jax.vmap(lambda member, base: member.fantasies(X, mask, base, num_spare))(self.members, divided)
        )

    def _means(self, X):
        return jax.vmap(lambda member: member.mean(X))(self.members)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MixtureFantasies:
    """Samples of a mixture with fixed values at m points. It implements `Fantasies`.

    `MixturePosterior.fantasies` makes it. The first s / M samples are those of the first member, and so on.

    Attributes:
        members: `GPFantasies` of s / M samples, with a leading axis of length M.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import map_ensemble
        >>> surrogate = map_ensemble(num_members=2)
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        >>> posterior = surrogate.posterior(surrogate.init(1, jnp.float32), seen)
        >>> draw = jax.jit(lambda z: posterior.fantasies(jnp.array([[0.5]]), jnp.array([True]), z))
        >>> draw(jnp.zeros((4, 1))).values.shape  # two samples of each member
        (4, 1)
    """

    members: GPFantasies

    @property
    def values(self) -> Float[Array, "s m"]:
        """Values of every sample at the fixed points; minus infinity where masked."""
        return _merge(self.members.values)

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "s k"], Float[Array, "s k"]]:
        """Mean and variance of every sample at X, those of its member."""
        mean, var = jax.vmap(lambda member: member.mean_var(X))(self.members)
        return _merge(mean), _merge(jnp.broadcast_to(var, mean.shape))

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "s q"], Float[Array, "M q q"]]:
        """Mean of every sample at q points, and one covariance per member, which its samples share."""
        mean, cov = jax.vmap(lambda member: member.joint(X))(self.members)
        return _merge(mean), cov[:, 0]

    def append(self, x: Float[Array, "d"], base: Float[Array, "s"]) -> "MixtureFantasies":
        """The samples with fixed values at one more point."""
        divided = _divide(base, self.members.values.shape[0])
        return MixtureFantasies(jax.vmap(lambda member, base: member.append(x, base))(self.members, divided))


def _centered(means: Float[Array, "M k"]) -> Float[Array, "M k"]:
    return means - jnp.mean(means, axis=0, keepdims=True)


def _divide(base, num_members):
    """[s, ...] as [M, s / M, ...]."""
    if base.shape[0] % num_members:
        raise ValueError(
            f"`base` must hold as many samples for each of the {num_members} members, got {base.shape[0]} samples. "
            f"Give the acquisition a `num_samples` that is a multiple of {num_members}."
        )
    return base.reshape(num_members, base.shape[0] // num_members, *base.shape[1:])


def _merge(array):
    """[M, s / M, ...] as [s, ...]."""
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
