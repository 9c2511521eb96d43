"""Losses that match the teacher's logits or softened predictions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxkd import _checks
from jaxkd._math import soft_target_divergence
from jaxkd.losses._arguments import Logits, log_softmax, prepare_logits
from jaxkd.losses._symmetries import SHIFT_INVARIANT, Arguments, Transformation, declare

_MEAN_SENSITIVE = frozenset(
    {Transformation.COMMON_SHIFT, Transformation.CLASS_PERMUTATION}
)


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT)
def soft_target_kl(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the KL divergence from the softened teacher to the softened student.

    With :math:`p = \mathrm{softmax}(z^t/T)` and :math:`q = \mathrm{softmax}(z^s/T)`,

    .. math::
        \ell = T^2 \sum_c p_c (\log p_c - \log q_c), \qquad
        \nabla_{z^s} \ell = T (q - p), \qquad
        \nabla_{z^t} \ell = -p \odot \left(d - p^\top d\right), \quad d = z^s - z^t.

    The factor :math:`T^2` keeps gradients comparable across temperatures, and gives the
    loss a limit: at :math:`T = \infty` it is half the variance of :math:`d` over the
    classes, which is ``logit_matching - mean_gap``.

    Value and student gradient are accurate to the last digits at every temperature in
    :math:`[\varepsilon^2, \infty]`, where :math:`\varepsilon` is the rounding unit of
    the dtype, and the value is never negative. In float32 the relative errors are below
    1e-6 (value) and 1e-5 (gradient, of its largest component), unless probabilities too
    small for the dtype make up the result: then it is off by about as many times the
    smallest normal number as there are classes, and may be zero.

    A class that both networks mask with ``-inf`` is excluded, as with ``where``. A
    class that only the student masks makes the loss infinite. A class that only the
    teacher masks has :math:`p_c = 0` and counts in :math:`q`, so the loss is infinite
    only at :math:`T = \infty`. A row whose logits are all ``-inf`` gives NaN.

    At finite temperatures, the smallest finite number of the dtype is as good a mask as
    ``-inf``, in one or both networks. In particular, a class that only the student sets
    to about ``jnp.finfo(dtype).min`` (to less than half of it, times T where T < 1)
    counts as masked, and the loss is infinite. At :math:`T = \infty` only ``-inf`` and
    ``where`` exclude a class.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        temperature: Softening temperature :math:`T > 0`; ``inf`` is allowed. It may be
            traced, and learned: the loss is differentiable in it.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, :math:`T^2` times nats, at least float32. The caller
        reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive, or below 1.4e-14 (4.9e-32 with
            ``jax_enable_x64``).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]])
        >>> print(losses.soft_target_kl(student, teacher, temperature=1.0).round(4))
        [0.4621]
        >>> print(losses.soft_target_kl(student, teacher, temperature=jnp.inf))
        [0.5]

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, Sec. 2.
    """
    student, teacher = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    ).masked()
    _checks.check_temperature(temperature=temperature)
    return soft_target_divergence(
        student, teacher, jnp.asarray(temperature, student.dtype)
    )


@declare(Arguments.LOGITS, invariant=_MEAN_SENSITIVE)
def logit_matching(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute half the mean squared difference of the logits.

    With :math:`d = z^s - z^t` over :math:`C` classes,

    .. math::
        \ell = \frac{1}{2C} \sum_c d_c^2, \qquad \nabla_{z^s} \ell = \frac{d}{C}.

    Unlike the divergence of softened predictions, this loss depends on the mean of the
    logits: it equals ``soft_target_kl`` at :math:`T = \infty` plus ``mean_gap``.

    Args:
        student_logits: Finite logits :math:`z^s`.
        teacher_logits: Finite logits :math:`z^t`.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in the squared unit of the logits, at least float32. The
        caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])
        >>> print(losses.logit_matching(student, teacher))
        [2.5]

    References:
        Ba and Caruana, `Do Deep Nets Really Need to be Deep?
        <https://arxiv.org/abs/1312.6184>`_, 2014, Eq. 1; Hinton et al., `Distilling the
        Knowledge in a Neural Network <https://arxiv.org/abs/1503.02531>`_, 2015,
        Sec. 2.1.
    """
    logits = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    )
    return 0.5 * _mean(jnp.square(logits.student - logits.teacher), logits)


@declare(Arguments.LOGITS, invariant=_MEAN_SENSITIVE)
def mean_gap(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute half the squared difference of the mean logits.

    With :math:`d = z^s - z^t` over :math:`C` classes and mean :math:`\bar d`,

    .. math::
        \ell = \tfrac{1}{2} \bar d^{\,2}, \qquad
        \nabla_{z^s} \ell = \frac{\bar d}{C} \mathbf{1}.

    This is the difference of ``logit_matching`` and ``soft_target_kl`` at
    :math:`T = \infty`. A softmax is invariant to it.

    Args:
        student_logits: Finite logits :math:`z^s`.
        teacher_logits: Finite logits :math:`z^t`.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in the squared unit of the logits, at least float32. The
        caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])
        >>> print(losses.mean_gap(student, teacher))
        [2.]

    References:
        After Chen et al., `Exploring the Connection between Knowledge Distillation and
        Logits Matching <https://arxiv.org/abs/2109.06458>`_, 2021.
    """
    logits = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    )
    return 0.5 * jnp.square(_mean(logits.student - logits.teacher, logits))


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT, zero_at_equal=False)
def transformed_teacher_matching(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute the KL divergence from the softened teacher to the unsoftened student.

    With :math:`p_T = \mathrm{softmax}(z^t/T)`, the power transform
    :math:`p^\gamma / \sum_k p_k^\gamma` of the teacher's prediction for
    :math:`\gamma = 1/T`, and :math:`q = \mathrm{softmax}(z^s)`,

    .. math::
        \ell = \sum_c p_{T,c} (\log p_{T,c} - \log q_c), \qquad
        \nabla_{z^s} \ell = q - p_T.

    There is no factor :math:`T^2`: the gradient does not shrink with the temperature,
    because the student is not softened. The loss equals :func:`soft_target_kl` only at
    temperature 1.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        temperature: The teacher's temperature :math:`T > 0`, finite.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in nats, at least float32. The caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[4.0, 0.0]])
        >>> print(losses.transformed_teacher_matching(student, teacher).round(4))
        [0.4621]

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, Sec. 4.
    """
    student, teacher = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    ).masked()
    _checks.check_finite_temperature(temperature=temperature)
    t = jnp.asarray(temperature, student.dtype)
    return soft_target_divergence(student, teacher / t, jnp.ones_like(t))


@declare(Arguments.LOGITS, invariant=SHIFT_INVARIANT, zero_at_equal=False)
def weighted_transformed_teacher_matching(
    student_logits: Float[ArrayLike, "*batch classes"],
    teacher_logits: Float[ArrayLike, "*batch classes"],
    *,
    temperature: Real[ArrayLike, ""] = 4.0,
    where: Bool[ArrayLike, "..."] | None = None,
    stop_teacher_gradient: bool = True,
) -> Float[Array, "*batch"]:
    r"""Compute transformed teacher matching, with more weight on uncertain examples.

    With :math:`p = \mathrm{softmax}(z^t)` and :math:`\gamma = 1/T`,

    .. math::
        \ell = U_\gamma(p)\, \ell_{\mathrm{TTM}}, \qquad
        U_\gamma(p) = \sum_c p_c^\gamma,

    where :math:`\ell_{\mathrm{TTM}}` is :func:`transformed_teacher_matching`. For
    :math:`T > 1` the power sum is 1 for a one-hot prediction and
    :math:`C^{1 - \gamma}` for the uniform one of :math:`C` classes.

    Args:
        student_logits: Unnormalized log-probabilities :math:`z^s`.
        teacher_logits: Unnormalized log-probabilities :math:`z^t`.
        temperature: The teacher's temperature :math:`T > 0`, finite.
        where: Mask of participating classes, of a shape that broadcasts to that of the
            logits. A row without any class has loss zero and no gradient.
        stop_teacher_gradient: Whether to treat the teacher as a constant.

    Returns:
        Loss of each example, in nats, at least float32. The caller reduces it.

    Raises:
        TypeError: If the logits are not floating point, or ``where`` is not boolean.
        ValueError: If the shapes do not fit together or have no classes, or if a
            concrete temperature is not positive and finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxkd import losses
        >>> student, teacher = jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 0.0]])
        >>> print(losses.weighted_transformed_teacher_matching(
        ...     student, teacher, temperature=2.0
        ... ).round(4))
        [0.1699]

    References:
        Zheng and Yang, `Knowledge Distillation Based on Transformed Teacher Matching
        <https://arxiv.org/abs/2402.11148>`_, 2024, Sec. 5.
    """
    student, teacher = prepare_logits(
        student_logits, teacher_logits, where, stop_teacher_gradient
    ).masked()
    _checks.check_finite_temperature(temperature=temperature)
    t = jnp.asarray(temperature, student.dtype)
    matching = soft_target_divergence(student, teacher / t, jnp.ones_like(t))
    log_p = log_softmax(teacher, jnp.ones_like(t))
    return jnp.exp(jax.nn.logsumexp(log_p / t, axis=-1)) * matching


def _mean(x: Float[Array, "*batch classes"], logits: Logits) -> Float[Array, "*batch"]:
    """Average over the participating classes; ``x`` is zero elsewhere."""
    if logits.where is None:
        return jnp.mean(x, axis=-1)
    count = jnp.sum(logits.where, axis=-1, dtype=x.dtype)
    return jnp.sum(x, axis=-1) / jnp.maximum(count, 1.0)
