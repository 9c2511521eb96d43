"""Output of all networks."""

from typing import NamedTuple

from jaxtyping import Array, Float


class ModelOutput(NamedTuple):
    """Logits of a network, and the features that distillers can read.

    XLA removes features that no distiller reads from the compiled step.

    Attributes:
        logits: Unnormalized log-probabilities of the classes.
        embedding: Input of the classifier, after global pooling.
        stages: Feature maps (NHWC) from the stem to the last stage, after the
            activation. Empty for networks without stages.
        preactivations: The same maps before their activation. In jaxkd's networks, the
            stem's map is after its activation, as in the published benchmarks. Networks
            of pre-activation blocks have another convention: see :class:`WideResNet`.
    """

    logits: Float[Array, "batch classes"]
    embedding: Float[Array, "batch features"]
    stages: tuple[Float[Array, "batch ..."], ...] = ()
    preactivations: tuple[Float[Array, "batch ..."], ...] = ()
