"""A method that applies the teacher's classifier to the student's embedding."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxkd import losses
from jaxkd.distillers._base import (
    Distiller,
    DistillerState,
    require_classifier,
    require_embeddings,
)
from jaxkd.distillers._metadata import method
from jaxkd.heads import bind_heads, init_heads, rest_of


@method(
    "srrl",
    weights={"ce": 1.0, "srrl": 1.0},
    compares="the student's embedding, read by the teacher's classifier",
    reads=("embedding",),
    losses=(
        losses.hint,
        losses.logit_matching,
    ),
)
def softmax_regression() -> Distiller:
    r"""Match embeddings, also as the teacher's classifier reads them (SRRL).

    The student's embedding :math:`h^s` passes through a trained connector :math:`r`
    (linear, batch normalization, rectifier) and then through the teacher's classifier
    :math:`W^t, b^t`, which does not change:

    .. math::
        \ell = \operatorname{mean} (r(h^s) - h^t)^2
             + \operatorname{mean} (W^t r(h^s) + b^t - z^t)^2,

    the means over features and over the teacher's classes, which need not be the
    student's.

    Returns:
        A distiller; its metrics are the two terms, ``embedding`` and ``logits``.

    Raises:
        ValueError: From ``init``, if there is no teacher, its classifier is not known
            (see :func:`jaxkd.training.freeze_teacher`), or a network returns logits
            alone.

    Example:
        >>> from jaxkd import distillers
        >>> objective = distillers.weighted(
        ...     ce=(1.0, distillers.cross_entropy()),
        ...     srrl=(1.0, distillers.softmax_regression()),
        ... )

    References:
        Yang et al., `Knowledge Distillation via Softmax Regression Representation
        Learning <https://openreview.net/forum?id=ZzwDy_wiWv>`_, 2021.
    """

    def make_connector(student, teacher):
        widths = student.embedding.shape[-1], teacher.embedding.shape[-1]
        return lambda rngs: _Connector(*widths, rngs=rngs)

    def init(rngs, spec):
        classifier = require_classifier(spec, "softmax_regression")
        teacher = require_embeddings(spec, "softmax_regression")
        params, rest = init_heads(make_connector(spec.student, teacher), rngs)
        # A copy: the training state is donated, the teacher is not.
        classifier = jax.tree.map(jnp.copy, classifier)
        return DistillerState(params, {"statistics": rest, "classifier": classifier})

    def loss(params, extra, student, teacher, batch):
        del batch
        make = make_connector(student, teacher)
        connector = bind_heads(make, params, extra["statistics"])
        adapted = connector(student.embedding)
        logits = extra["classifier"](adapted)
        embedding_term = losses.hint(adapted, teacher.embedding)
        # Half the mean squared difference, as logits matching is defined.
        logit_term = 2.0 * losses.logit_matching(logits, teacher.logits)
        extra = {**extra, "statistics": rest_of(connector)}
        metrics = {
            "embedding": jnp.mean(embedding_term),
            "logits": jnp.mean(logit_term),
        }
        return embedding_term + logit_term, extra, metrics

    return Distiller(init, loss)


class _Connector(nnx.Module):
    """A linear layer without bias, batch normalization and a rectifier."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(in_features, out_features, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(out_features, momentum=0.9, rngs=rngs)

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch out"]:
        """Adapt a batch of embeddings."""
        return nnx.relu(self.norm(self.linear(x)))
