"""A posterior averaged over hyperparameters: M Gaussian processes with equal weights.

Each member i has mean mu_i and covariance c_i. The mixture is described by its first two moments,

    mean(x) = 1/M sum_i mu_i(x)
    cov(x, z) = 1/M sum_i c_i(x, z) + 1/M sum_i (mu_i(x) - mean(x)) (mu_i(z) - mean(z))

so the uncertainty about the hyperparameters shows as what the members disagree on (Rasmussen and Williams 2006,
section 5.2). Samples and `fantasies` come from the members themselves: an acquisition over fantasies is the mean of the
acquisition over the members, the integrated acquisition of Snoek, Larochelle, Adams (2012), arXiv:1206.2944, and not
that of one Gaussian with matched moments.
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
    """Several Gaussian processes on the same observations, with equal weights.

    Attributes:
        members: a `GPPosterior` whose arrays have a leading axis of length M.
    """

    members: GPPosterior

    @property
    def num_members(self) -> int:
        """M, how many processes are averaged."""
        return self.members.mask.shape[0]

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
        """Mean and variance of the mixture at each of k points."""
        means, variances = jax.vmap(lambda member: member.mean_var(X))(self.members)
        return jnp.mean(means, axis=0), jnp.mean(variances, axis=0) + jnp.mean(_centred(means) ** 2, axis=0)

    def mean(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Mean at each of k points."""
        return jnp.mean(self._means(X), axis=0)

    def var(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Variance at each of k points."""
        return self.mean_var(X)[1]

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "q"], Float[Array, "q q"]]:
        """Mean and covariance of q points together."""
        means, covariances = jax.vmap(lambda member: member.joint(X))(self.members)
        spread = _centred(means)
        cov = jnp.mean(covariances, axis=0) + matmul(spread.T, spread) / self.num_members
        return jnp.mean(means, axis=0), cov

    def cov(self, X: Float[Array, "k d"], Z: Float[Array, "l d"]) -> Float[Array, "k l"]:
        """Covariance of the noise-free objective between two sets of points."""
        covariances = jax.vmap(lambda member: member.cov(X, Z))(self.members)
        spread = matmul(_centred(self._means(X)).T, _centred(self._means(Z)))
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
        """The mixture after one more observation; each member takes it in, the weights stay equal."""
        return MixturePosterior(jax.vmap(lambda member: member.append(x, y))(self.members))

    def standardized(self) -> "MixturePosterior":
        """The same belief in units in which the observed y have mean 0 and standard deviation 1."""
        return MixturePosterior(jax.vmap(lambda member: member.standardized())(self.members))

    def fantasies(
        self, X: Float[Array, "m d"], mask: Bool[Array, "m"], base: Float[Array, "s m"], num_spare: int = 0
    ) -> "MixtureFantasies":
        """Samples of the members, fixed at m points; see `Posterior.fantasies`.

        Sample i belongs to member i // (s / M).

        Raises:
            ValueError: when the number of samples is no multiple of the number of members.
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
    """Samples of a mixture; see `Fantasies`. The first s / M samples are those of the first member, and so on.

    Attributes:
        members: `GPFantasies` of s / M samples, with a leading axis of length M.
    """

    members: GPFantasies

    @property
    def values(self) -> Float[Array, "s m"]:
        """Every sample at the fixed points; minus infinity where masked."""
        return _merge(self.members.values)

    def mean_var(self, X: Float[Array, "k d"]) -> tuple[Float[Array, "s k"], Float[Array, "s k"]]:
        """Mean and variance of every sample at X, by its own member."""
        mean, var = jax.vmap(lambda member: member.mean_var(X))(self.members)
        return _merge(mean), _merge(jnp.broadcast_to(var, mean.shape))

    def joint(self, X: Float[Array, "q d"]) -> tuple[Float[Array, "s q"], Float[Array, "M q q"]]:
        """Mean of every sample at q points, and one covariance a member: samples of a member share theirs."""
        mean, cov = jax.vmap(lambda member: member.joint(X))(self.members)
        return _merge(mean), cov[:, 0]

    def append(self, x: Float[Array, "d"], base: Float[Array, "s"]) -> "MixtureFantasies":
        """The samples fixed at one more point."""
        divided = _divide(base, self.members.values.shape[0])
        return MixtureFantasies(jax.vmap(lambda member, base: member.append(x, base))(self.members, divided))


def _centred(means: Float[Array, "M k"]) -> Float[Array, "M k"]:
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
