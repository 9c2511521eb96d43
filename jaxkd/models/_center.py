"""Equal-mean initialization: a classifier without class means."""

from typing import Any, TypeVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError

Network = TypeVar("Network", bound=nnx.Module)


def center_classifier(model: Network) -> Network:
    r"""Copies a network and takes the class means out of its classifier.

    With kernel :math:`W` (features by classes), bias :math:`b` and :math:`C` classes,

    .. math::
        W' = W - \tfrac{1}{C} W \mathbf{1} \mathbf{1}^\top, \qquad
        b' = b - \tfrac{1}{C} \mathbf{1}^\top b \, \mathbf{1}, \qquad
        z' = z - \operatorname{mean}(z) \mathbf{1}.

    The softmax of the logits :math:`z` stays as it is, and every input's mean logit
    becomes zero, up to the rounding of the parameters.

    Why: a loss that no shift of the logits changes has a gradient that sums to zero
    over the classes, so SGD, with or without momentum and weight decay, leaves class
    means at zero that start there. Student and teacher then keep equal mean logits, and
    distillation at infinite temperature takes the same steps as logit matching: the
    equal-mean initialization of theorem T10, which needs no zero-mean normalization.
    Adam and its relatives do not keep the means.

    Args:
        model: A network whose attribute ``classifier`` is an ``nnx.Linear`` that makes
            the logits, with or without bias. It is not changed.

    Returns:
        The copy; parameters keep their dtype.

    Raises:
        InvalidInputError: If the network has no such classifier.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxkd import models
        >>> model = models.MLP(64, (32,), num_classes=10, rngs=nnx.Rngs(0))
        >>> centered = models.center_classifier(model)
        >>> logits = centered(jnp.ones((2, 64))).logits
        >>> bool(jnp.all(jnp.abs(logits.mean(-1)) < 1e-6))
        True

    References:
        After Chen et al., `Exploring the Connection between Knowledge Distillation and
        Logits Matching <https://arxiv.org/abs/2109.06458>`_, 2021 (after the abstract;
        derivation ours).
    """
    found = getattr(model, "classifier", None)
    if not isinstance(found, nnx.Linear):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise InvalidInputError(
            "model must have an nnx.Linear that makes its logits in the attribute "
            f"'classifier' for its class means to be removed; {type(model).__name__} "
            f"has {what} there"
        )
    copy: Any = nnx.clone(model)
    classifier: nnx.Linear = copy.classifier
    classifier.kernel[...] = _center(classifier.kernel[...])
    if classifier.bias is not None:
        classifier.bias[...] = _center(classifier.bias[...])
    return copy


def _center(x: Float[Array, "... classes"]) -> Float[Array, "... classes"]:
    wide = _checks.as_float_array(x, "classifier")
    # Rounding leaves a mean in proportion to the one removed: the second pass takes
    # that out too, down to the rounding of the entries. A third finds nothing more.
    for _ in range(2):
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    return wide.astype(x.dtype)
