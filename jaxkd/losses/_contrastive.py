"""Losses that distinguish a positive from negatives, given their scores."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd.losses._arguments import broadcast_by_class
from jaxkd.losses._symmetries import Arguments, Transformation, declare

# As published: keeps the logarithms defined where a probability underflows.
_NCE_EPSILON = 1e-7


@declare(
    Arguments.SCORES,
    invariant=frozenset(
        {Transformation.SCORE_SHIFT, Transformation.NEGATIVE_PERMUTATION}
    ),
    settings={"temperature": 0.5},
)
def info_nce(
    positive: Float[ArrayLike, "*batch"],
    negatives: Float[ArrayLike, "*batch negatives"],
    *,
    temperature: Real[ArrayLike, ""],
    log_weight: Real[ArrayLike, "..."] = 0.0,
) -> Float[Array, "*batch"]:
    r"""Compute the cross-entropy of selecting the positive among weighted negatives.

    With scores :math:`s^+, s_k` and weights :math:`\omega_k`,

    .. math::
        \ell = -\frac{s^+}{\tau}
            + \log\left(e^{s^+/\tau} + \sum_k \omega_k e^{s_k/\tau}\right), \qquad
        \frac{\partial \ell}{\partial s_k} = \frac{\pi_k}{\tau}, \qquad
        \frac{\partial \ell}{\partial s^+} = -\frac{1}{\tau} \sum_k \pi_k,

    where :math:`\pi_k = \omega_k e^{s_k/\tau - \ell - s^+/\tau}` is the probability
    given to negative :math:`k`. Without negatives the loss is zero.

    Args:
        positive: Score :math:`s^+` of each anchor with its positive.
        negatives: Scores :math:`s_k` of each anchor with its negatives.
        temperature: :math:`\tau > 0`, finite.
        log_weight: :math:`\log \omega_k`, of a shape that broadcasts to that of the
            negatives. ``-inf`` removes a negative.

    Returns:
        Loss of each anchor, in nats, at least float32. The caller reduces it.

    Raises:
        TypeError: If the scores are not floating point.
        ValueError: If the shapes do not fit together, or if a concrete temperature is
            not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> positive, negatives = jnp.array([1.0]), jnp.array([[1.0, 0.0, -1.0]])
        >>> print(losses.info_nce(positive, negatives, temperature=0.5).round(4))
        [0.7672]

    References:
        van den Oord et al., `Representation Learning with Contrastive Predictive Coding
        <https://arxiv.org/abs/1807.03748>`_, 2018, Eq. 4.
    """
    anchor_scores, scores = _scores(positive, negatives)
    _checks.check_finite_temperature(temperature=temperature)
    temperature = jnp.asarray(temperature, scores.dtype)
    weights = broadcast_by_class(
        jnp.asarray(log_weight, scores.dtype), scores.shape, "log_weight", "negatives"
    )

    # log(1 + sum_k e^x_k) = m + log(e^-m + sum_k e^(x_k - m)) for any m. With
    # m = max(0, x) nothing overflows, and log1p keeps a small sum to the last digit.
    x = (scores - anchor_scores[..., None]) / temperature + weights
    m = jax.lax.stop_gradient(jnp.max(x, axis=-1, initial=0.0))
    others = jnp.sum(jnp.exp(x - m[..., None]), axis=-1)
    return m + jnp.log1p(jnp.expm1(-m) + others)


@declare(
    Arguments.SCORES,
    invariant=frozenset({Transformation.NEGATIVE_PERMUTATION}),
    settings={"normalizer": 5.0, "noise_probability": 0.1, "temperature": 0.5},
)
def noise_contrastive(
    positive: Float[ArrayLike, "*batch"],
    negatives: Float[ArrayLike, "*batch negatives"],
    *,
    normalizer: Real[ArrayLike, ""],
    noise_probability: Real[ArrayLike, ""],
    temperature: Real[ArrayLike, ""] = 0.07,
) -> Float[Array, "*batch"]:
    r"""Compute the noise-contrastive loss of a positive against ``K`` noise samples.

    With scores :math:`s^+, s_k`, a constant normalizer :math:`Z`, noise of probability
    :math:`1/N` and :math:`P(s) = e^{s/\tau}/Z`,

    .. math::
        \ell = -\log \frac{P(s^+)}{P(s^+) + K/N + \varepsilon}
            - \sum_{k=1}^K \log \frac{K/N}{P(s_k) + K/N + \varepsilon}, \qquad
        \frac{\partial \ell}{\partial s_k}
            = \frac{1}{\tau} \frac{P(s_k)}{P(s_k) + K/N + \varepsilon},

    with :math:`\varepsilon = 10^{-7}` as published. The computation stays in
    logarithms, so that no score overflows.

    Args:
        positive: Score :math:`s^+` of each anchor with its positive.
        negatives: Scores :math:`s_k` of each anchor with its :math:`K` negatives.
        normalizer: :math:`Z > 0`; a constant for the gradient.
        noise_probability: :math:`1/N` for ``N`` examples.
        temperature: :math:`\tau > 0`, finite.

    Returns:
        Loss of each anchor, in nats, at least float32. The caller reduces it.

    Raises:
        TypeError: If the scores are not floating point.
        ValueError: If the shapes do not fit together, or if a concrete setting is not
            positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> positive, negatives = jnp.array([1.0]), jnp.array([[0.0, -1.0]])
        >>> print(losses.noise_contrastive(
        ...     positive, negatives, normalizer=5.0, noise_probability=0.2,
        ...     temperature=1.0,
        ... ).round(4))
        [1.1258]

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, Eq. 10 and 18 to 19.
    """
    anchor_scores, scores = _scores(positive, negatives)
    settings = {
        "normalizer": normalizer,
        "noise_probability": noise_probability,
        "temperature": temperature,
    }
    _checks.check_finite_positive(**settings)
    normalizer, noise_probability, temperature = (
        jnp.asarray(x, scores.dtype) for x in settings.values()
    )
    noise = scores.shape[-1] * noise_probability
    log_z = jax.lax.stop_gradient(jnp.log(normalizer))
    log_noise = jnp.log(noise + _NCE_EPSILON)
    log_positive = anchor_scores / temperature - log_z
    log_negative = scores / temperature - log_z
    attraction = jax.nn.softplus(log_noise - log_positive)
    repulsion = jax.nn.softplus(log_negative - log_noise)
    # log((K/N + eps) / (K/N)): the published epsilon adds this to every negative.
    constant = scores.shape[-1] * jnp.log1p(_NCE_EPSILON / noise)
    return attraction + jnp.sum(repulsion, axis=-1) + constant


def _scores(positive: ArrayLike, negatives: ArrayLike) -> tuple[Array, Array]:
    anchor_scores, scores = _checks.common_float_arrays(
        positive=positive, negatives=negatives
    )
    if scores.ndim == 0 or scores.shape[:-1] != anchor_scores.shape:
        raise InvalidInputError(
            "negatives must have the shape of positive plus one more axis, "
            f"got {scores.shape} and {anchor_scores.shape}",
            argument="negatives",
        )
    return anchor_scores, scores
