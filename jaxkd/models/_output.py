"""What every model returns."""

from typing import NamedTuple

from jaxtyping import Array, Float


class ModelOutput(NamedTuple):
    """A network's logits and the features that distillers may read.

    What a distiller does not read, XLA removes from the compiled step.

    Attributes:
        logits: Unnormalized log-probabilities of the classes.
        embedding: What feeds the classifier, after global pooling.
        stages: Feature maps (NHWC) from the stem to the last stage, after the
            activation. Empty for models without stages.
        preactivations: The same maps before their activation; the zoo's networks give
            the stem's after it, as the published benchmarks do. Networks of
            pre-activation blocks have another convention: see :class:`WideResNet`.
    """

    logits: Float[Array, "batch classes"]
    embedding: Float[Array, "batch features"]
    stages: tuple[Float[Array, "batch ..."], ...] = ()
    preactivations: tuple[Float[Array, "batch ..."], ...] = ()
