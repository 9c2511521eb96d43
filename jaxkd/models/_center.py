"""Equal-mean initialization: subtract the class means from a classifier."""

from typing import Any, TypeVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError

Network = TypeVar("Network", bound=nnx.Module)


def center_classifier(model: Network) -> Network:
    r"""Copy a network and subtract the class means from its classifier.

    With kernel :math:`W` (features by classes), bias :math:`b` and :math:`C` classes,

    .. math::
        W' = W - \tfrac{1}{C} W \mathbf{1} \mathbf{1}^\top, \qquad
        b' = b - \tfrac{1}{C} \mathbf{1}^\top b \, \mathbf{1}, \qquad
        z' = z - \operatorname{mean}(z) \mathbf{1}.

    The softmax of the logits :math:`z` does not change, and the mean logit of each
    input becomes zero, up to the rounding of the parameters.

    If a loss is invariant to shifts of the logits, its gradient sums to zero over the
    classes. SGD, with or without momentum and weight decay, therefore keeps class means
    at zero if they are zero initially. Student and teacher then have equal mean logits,
    and distillation at infinite temperature takes the same steps as logit matching.
    This is the equal-mean initialization of theorem T10, which does not require
    zero-mean normalization. Adam and related optimizers do not keep the means.

    Args:
        model: Network whose attribute ``classifier`` is an ``nnx.Linear`` that computes
            the logits, with or without bias. It is not changed.

    Returns:
        The copy, with the same parameter dtypes.

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
        description = "nothing" if found is None else f"a {type(found).__name__}"
        raise InvalidInputError(
            "model must have an nnx.Linear that computes its logits in the attribute "
            f"'classifier', so that its class means can be removed; "
            f"{type(model).__name__} has {description} there",
            argument="model",
        )
    copy: Any = nnx.clone(model)
    classifier: nnx.Linear = copy.classifier
    classifier.kernel[...] = _center(classifier.kernel[...])
    if classifier.bias is not None:
        classifier.bias[...] = _center(classifier.bias[...])
    return copy


def _center(x: Float[Array, "... classes"]) -> Float[Array, "... classes"]:
    wide = _checks.as_float_array(x, "classifier")
    # Due to rounding, a mean proportional to the original one remains. The second pass
    # removes it, up to the rounding of the entries. A third pass would have no effect.
    for _ in range(2):
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    return wide.astype(x.dtype)
