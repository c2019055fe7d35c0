"""Log-domain functions of the normal distribution, accurate far in the tails.

With phi and Phi the density and distribution function of the standard normal, and u = |z|,

    R0(u) = Phi(-u) / phi(u)         Mills' ratio, about 1/u for large u
    R1(u) = 1 - u R0(u)              its first iterated integral over phi, about 1/u^2

every function here is a sum of positive terms in R0 and R1, so nothing cancels:

    Phi(z) = phi(u) R0(u)  for z <= 0
    h(z) = phi(z) + z Phi(z) = max(z, 0) + phi(u) R1(u)

(1 + u) R0(u) and (1 + u)^2 R1(u) are smooth and bounded, and are evaluated as Chebyshev series in
t = (u - 5) / (u + 5), the substitution of Shepherd and Laframboise (1981) for the scaled complementary error
function. The coefficients were computed with 40 digits by interpolation at 60 Chebyshev nodes; the series ends where
terms fall below 2e-17. Valid for |z| up to 1e150 in float64 and 1e18 in float32; values and gradients have a relative
error of a few units in the last place.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from bojax._types import Array, Float

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)

_SCALE = 5.0

_MILLS = (
    1.1579976221305187167,
    -1.6334493884513978905e-1,
    -1.3683136055781576407e-2,
    3.0822000198100039725e-2,
    -1.6220073012046806988e-2,
    5.6166910164600934864e-3,
    -1.413393378354921628e-3,
    2.5026254607256606546e-4,
    -2.4689072397283870041e-5,
    -1.0107964061837592256e-6,
    7.4954191797405729054e-7,
    -7.6002742687283368758e-8,
    -1.1574771441328644748e-8,
    3.3333864725998431463e-9,
    7.5380396281713470189e-11,
    -1.1104247263727494478e-10,
    3.5092437765510588325e-12,
    3.6894953861750953684e-12,
    -2.3376697776383093717e-13,
    -1.3271797523541405453e-13,
    9.9217069958882765537e-15,
    5.2760049954553790653e-15,
    -3.3730976941879218316e-16,
    -2.2804338776379945603e-16,
    7.4963305658086263881e-18,
    1.0328041877290668347e-17,
)
_MILLS_1 = (
    1.1786939013866436594,
    -1.0125727962799317049e-1,
    -1.486554620852188733e-1,
    9.8168487785801515601e-2,
    -3.1717988981526068062e-2,
    4.1183803066302061965e-3,
    1.38401749830792646e-3,
    -9.8383403534953123477e-4,
    2.9489504920453161057e-4,
    -4.7092601951401713687e-5,
    8.5900292729208072256e-7,
    1.3554619080433913252e-6,
    -2.3147555595831767753e-7,
    -1.7075440607920012211e-8,
    9.9493628738662351935e-9,
    -2.4106464654592277439e-10,
    -3.5666175303257516448e-10,
    2.8945226947362403745e-11,
    1.3016100717797053611e-11,
    -1.5524538138949633892e-12,
    -5.2209306303151938154e-13,
    6.9501846119013343836e-14,
    2.3459444607000382119e-14,
    -2.771885973444679307e-15,
    -1.154428219441168279e-15,
    9.1160452744461335229e-17,
    5.9551597630848374539e-17,
    -1.4216719997436312657e-18,
)


def holds(condition: Any) -> bool:
    """Whether a condition on a numeric setting holds. Traced ones, as under `vmap` over settings, count as true."""
    return isinstance(condition, Tracer) or bool(condition)


def largest(values: Float[Array, "*b n"]) -> Float[Array, "*b"]:
    """The largest value along the last axis; its derivative is that of the first largest one.

    The derivative of `jnp.max` compares the values with their maximum once more. A compiler may compute them anew with
    another rounding, so that none is equal, and the derivative is NaN.
    """
    index = jnp.argmax(values, axis=-1, keepdims=True)
    return jnp.take_along_axis(values, index, axis=-1)[..., 0]


def normal_pdf(z: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Density of the standard normal."""
    return jnp.exp(-0.5 * z * z - LOG_SQRT_2PI)


def mills(u: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """(1 + u) R0(u) for u >= 0, in (1, 1.26]."""
    return _chebyshev(_MILLS, u)


def mills_1(u: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """(1 + u)^2 R1(u) for u >= 0, in [1, 1.4)."""
    return _chebyshev(_MILLS_1, u)


def h(z: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """phi(z) + z Phi(z), the expected improvement of a standard normal; underflows to 0 below z = -38 (float64)."""
    u = _magnitude(z)
    return jnp.where(z > 0.0, z, 0.0) + _h_tail(u, mills_1(u))


@jax.custom_jvp
def log_h(z: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log(phi(z) + z Phi(z)) for all finite z.

    Source: Ament, Daulton, Eriksson, Balandat, Bakshy (2023), "Unexpected improvements to expected improvement for
    Bayesian optimization", arXiv:2310.20708; the evaluation through R1 is our own.
    """
    u = _magnitude(z)
    return _log_h(z, u, mills_1(u))


def _log_h(z, u, m1):
    left = -0.5 * u * u - LOG_SQRT_2PI + jnp.log(m1) - 2.0 * jnp.log1p(u)
    right = jnp.log(jnp.maximum(z, 0.0) + _h_tail(u, m1))
    return jnp.where(z <= 0.0, left, right)


def _h_tail(u, m1):
    """phi(u) R1(u). Both factors become tiny together, so the square in the denominator is split."""
    return normal_pdf(u) / (1.0 + u) * m1 / (1.0 + u)


@log_h.defjvp
def _log_h_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    u = _magnitude(z)
    m0, m1 = mills(u), mills_1(u)
    left = m0 * (1.0 + u) / m1
    h_right = jnp.maximum(z, 0.0) + _h_tail(u, m1)
    right = (1.0 - normal_pdf(u) * m0 / (1.0 + u)) / jnp.where(z > 0.0, h_right, 1.0)
    return _log_h(z, u, m1), jnp.where(z <= 0.0, left, right) * dz


def ndtr(z: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Phi(z), to full relative accuracy until it underflows."""
    u = _magnitude(z)
    tail = normal_pdf(u) * mills(u) / (1.0 + u)
    return jnp.where(z <= 0.0, tail, 1.0 - tail)


@jax.custom_jvp
def log_ndtr(z: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log Phi(z) for all finite z."""
    u = _magnitude(z)
    return _log_ndtr(z, u, mills(u))


def _log_ndtr(z, u, m0):
    left = -0.5 * u * u - LOG_SQRT_2PI + jnp.log(m0) - jnp.log1p(u)
    right = jnp.log1p(-(normal_pdf(u) * m0 / (1.0 + u)))
    return jnp.where(z <= 0.0, left, right)


@log_ndtr.defjvp
def _log_ndtr_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    u = _magnitude(z)
    m0 = mills(u)
    left = (1.0 + u) / m0
    pdf = normal_pdf(u)
    right = pdf / (1.0 - pdf * m0 / (1.0 + u))
    return _log_ndtr(z, u, m0), jnp.where(z <= 0.0, left, right) * dz


def _magnitude(z):
    """|z| with a slope of -1 at 0, where `abs` has slope 0 and would make derivatives wrong."""
    return jnp.where(z <= 0.0, -z, z)


def _chebyshev(coefficients: tuple[float, ...], u: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Clenshaw's sum of a Chebyshev series in t = (u - 5) / (u + 5)."""
    t = 1.0 - 2.0 * _SCALE / (u + _SCALE)
    b1 = jnp.zeros_like(t)
    b2 = jnp.zeros_like(t)
    for c in coefficients[:0:-1]:
        b1, b2 = c + 2.0 * t * b1 - b2, b1
    return coefficients[0] + t * b1 - b2
