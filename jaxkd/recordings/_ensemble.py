"""Several recordings as one teacher."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxkd import _checks
from jaxkd._errors import InvalidInputError
from jaxkd._text import count, printable
from jaxkd.data import Augmentation, ImageDataset
from jaxkd.models import ModelOutput
from jaxkd.recordings._not_recorded import NotRecorded
from jaxkd.recordings._recording import PyTree, Recording
from jaxkd.recordings._views import Views, describe

_TOLERANCE = 1e-6


def ensemble(
    recordings: Sequence[Recording],
    *,
    weights: Sequence[float | int] | None = None,
    temperature: float | int,
) -> "Ensemble":
    r"""Combine several recordings into one teacher: the mean of their probabilities.

    With the members' logits :math:`z_i` and weights :math:`w_i`, its logits are

    .. math::
        z = T \log \sum_i w_i \operatorname{softmax}(z_i / T),

    so that :math:`\operatorname{softmax}(z / T)` is the weighted mean of the members'
    softened probabilities. They are computed in log space.

    Args:
        recordings: At least two recordings of the same views and classes.
        weights: One positive weight per recording; together they sum to 1. By default
            all are equal.
        temperature: Temperature :math:`T` of the mean. Use the temperature of the loss:
            at another one, the probabilities are not the mean of the members'.

    Returns:
        A teacher with the interface of :class:`Recording` that has only logits.

    Raises:
        InvalidInputError: If the recordings' views or classes differ, one has no
            logits, or the weights are not positive or do not sum to 1.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxkd import data, recordings
        >>> dataset = data.load("digits")
        >>> logits = np.eye(10, dtype=np.float32)[dataset.train.labels]
        >>> members = [
        ...     recordings.write(tempfile.mkdtemp(), dataset, logits=scale * logits)
        ...     for scale in (2.0, 5.0)
        ... ]
        >>> teacher = recordings.ensemble(
        ...     members, weights=[0.3, 0.7], temperature=4.0
        ... )
        >>> teacher.outputs
        ('logits',)

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, Section 1.
    """
    members = tuple(recordings)
    if len(members) < 2:
        raise InvalidInputError(
            f"recordings must hold at least two, got {len(members)}",
            argument="recorded",
        )
    for member in members:
        if "logits" not in member.outputs:
            raise InvalidInputError(
                f"an ensemble averages logits, but {printable(str(member.path))} has "
                f"only {', '.join(member.outputs)}. Record its logits.",
                argument="recorded",
            )
        _check_same(members[0], member)
    _checks.check_finite_temperature(temperature=temperature)
    return Ensemble(members, _checked_weights(weights, len(members)), temperature)


class Ensemble(Recording):
    """Several recordings as one teacher. Get one from :func:`ensemble`.

    Attributes:
        members: The recordings.
        weights: Their weights.
        temperature: The temperature of the mean.
        path: The members' folders, as text.
        views: The images that the teachers saw; the epochs that all members have.
        outputs: ``("logits",)``.
        num_classes: Number of classes.
        class_names: Their names.
        fingerprint: Identifies the members' contents, the weights and the temperature.
        teacher: What is known about the members.
        load_options: How the dataset was loaded.
        classifier: None.
        deviations: Empty; see those of the members.
    """

    def __init__(
        self,
        members: tuple[Recording, ...],
        weights: tuple[float, ...],
        temperature: float | int,
    ):
        first = members[0]
        self.outputs, self.classifier, self.deviations = ("logits",), None, {}
        self.members, self.weights = members, weights
        self.temperature = float(temperature)
        self.path = " + ".join(str(member.path) for member in members)
        epochs = min(member.views.epochs for member in members)
        self.views: Views = first.views._replace(epochs=epochs)
        self.num_classes, self.class_names = first.num_classes, first.class_names
        self.load_options = first.load_options
        prints = [member.fingerprint for member in members]
        text = repr((prints, weights, self.temperature))
        self.fingerprint = f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.teacher: dict[str, Any] = {
            "temperature": self.temperature,
            "members": [
                {"weight": weight, "fingerprint": member.fingerprint, **member.teacher}
                for weight, member in zip(weights, members, strict=True)
            ],
        }

    def abstract(self, batch_size: int) -> ModelOutput:
        """Return the shapes and dtypes of the teacher's output for a batch."""
        return self._output(self.members[0].abstract(batch_size).logits)

    def check(
        self,
        dataset: ImageDataset,
        *,
        augmentation: Augmentation | None,
        batch_size: int,
        data_seed: int,
        epochs: int,
    ) -> None:
        """Check that a run shows the recorded images, as :meth:`Recording.check`."""
        for member in self.members:
            member.check(
                dataset,
                augmentation=augmentation,
                batch_size=batch_size,
                data_seed=data_seed,
                epochs=epochs,
            )

    def stored(self, step: int, rows: np.ndarray) -> PyTree:
        """Read the stored logits of one batch, as :meth:`Recording.stored`."""
        return tuple(
            {"logits": member.stored(step, rows)["logits"]} for member in self.members
        )

    def decode(self, stored: PyTree) -> ModelOutput:
        """Return the teacher's output for a batch in float32; works inside jit."""
        return self._output(self.logits_of(stored))

    def logits_of(self, stored: PyTree) -> Float[Array, "batch classes"]:
        """Return only the logits of :meth:`decode`."""
        logits = [
            member.logits_of(part)
            for member, part in zip(self.members, stored, strict=True)
        ]
        return _mixed(logits, self.weights, self.temperature)

    def _output(self, logits: Any) -> ModelOutput:
        def missing(name: str) -> Any:
            return NotRecorded(name, str(self.path), in_ensemble=True)

        names = ("embedding", "stages", "preactivations", "layers")
        return ModelOutput(logits, **{name: missing(name) for name in names})


def _mixed(
    logits: Sequence[Float[Array, "batch classes"]],
    weights: Sequence[float],
    temperature: float,
) -> Float[Array, "batch classes"]:
    terms = [
        jax.nn.log_softmax(x / temperature) + math.log(weight)
        for x, weight in zip(logits, weights, strict=True)
    ]
    return temperature * jax.nn.logsumexp(jnp.stack(terms), axis=0)


def _checked_weights(
    weights: Sequence[float | int] | None, members: int
) -> tuple[float, ...]:
    if weights is None:
        return (1 / members,) * members
    if len(weights) != members:
        raise InvalidInputError(
            f"weights has {count(len(weights), 'number')} for {members} recordings",
            argument="recorded_weights",
        )
    for weight in weights:
        _checks.check_finite_positive(weights=weight)
    total = math.fsum(weights)
    if abs(total - 1) > _TOLERANCE:
        raise InvalidInputError(
            f"weights must sum to 1, but {' + '.join(f'{x:g}' for x in weights)} is "
            f"{total:g}",
            argument="recorded_weights",
        )
    return tuple(map(float, weights))


def _check_same(first: Recording, other: Recording) -> None:
    """Refuse recordings of different images or classes."""
    pairs = {
        name.replace("_", " "): (getattr(first.views, name), getattr(other.views, name))
        for name in ("dataset", "fingerprint", "rows", "image_shape", "data_seed")
    }
    kinds = [
        "clean images" if x.views.clean else describe(x.views.augmentation)
        for x in (first, other)
    ]
    sizes = [0 if x.views.clean else x.views.batch_size for x in (first, other)]
    widths = [x.abstract(1).logits.shape[-1] for x in (first, other)]
    for name, (one, two) in {
        "augmentation": kinds,
        **pairs,
        "batch size": sizes,
        "number of logits": widths,
        "class names": [first.class_names, other.class_names],
    }.items():
        if one != two:
            paths = [printable(str(x.path)) for x in (first, other)]
            if name == "class names":
                one, two = ([*map(printable, names)][:5] for names in (one, two))
            raise InvalidInputError(
                f"the recordings of an ensemble must be of the same images, but the "
                f"{name} of {paths[0]} is {one}, and that of {paths[1]} is {two}. "
                "Record both with the same options.",
                argument="recorded",
            )
