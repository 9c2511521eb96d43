"""Classify pictures with a trained network."""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxkd import _checks, _json, training
from jaxkd._watch import Watch
from jaxkd.data import find_pictures, read_pictures
from jaxkd.runs._load import LoadedNetwork, load_run

TOP = 5


@dataclasses.dataclass(frozen=True)
class Choice:
    """A class that a picture may have.

    Attributes:
        class_name: Name of the class; its number if the run does not record names.
        index: Number of the class.
        probability: Its probability, of all classes of the network.
    """

    class_name: str
    index: int
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network answers for a picture.

    Attributes:
        file: The picture.
        top: The five most probable classes, or all if there are fewer, most probable
            first. Of equally probable classes, the one with the lower number is first.
    """

    file: str
    top: tuple[Choice, ...]

    @property
    def class_name(self) -> str:
        """Name of the most probable class."""
        return self.top[0].class_name

    @property
    def index(self) -> int:
        """Number of the most probable class."""
        return self.top[0].index

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.top[0].probability


def predict(
    run: str | os.PathLike | LoadedNetwork,
    images: Sequence[str | os.PathLike],
    *,
    trial: int = 0,
    batch_size: int = 64,
) -> list[Prediction]:
    """Classify picture files with a run's network.

    The pictures are decoded, resized and normalized as the run's test images were.

    Args:
        run: The run folder, or the result of :func:`load_run`.
        images: Picture files, and folders of which all pictures are taken, sorted by
            name, with those of the folders inside.
        trial: Index of the trial, for a run of several trials.
        batch_size: Pictures per forward pass.

    Returns:
        A prediction for each picture.

    Raises:
        InvalidInputError: If the run has no network, there is no picture, or a picture
            cannot be read.
    """
    _checks.check_at_least(1, batch_size=batch_size)
    loaded = run if isinstance(run, LoadedNetwork) else load_run(run, trial=trial)
    files = find_pictures(images)
    batch_size = min(batch_size, len(files))
    network = training.freeze_teacher(loaded.module, loaded.normalization)

    @jax.jit
    def forward(variables, images):
        logits = network.apply(variables, images).logits.astype(jnp.float32)
        return logits, jax.nn.softmax(logits)

    batches = read_pictures(
        files,
        loaded.network.image_shape,
        background=loaded.load_options.get("background", "white"),
        test_resize=loaded.load_options.get("test_resize"),
        batch_size=batch_size,
    )
    found: list[Prediction] = []
    with Watch("predicting", len(files)) as watch:
        for batch in batches:
            rows = len(batch)
            if rows < batch_size:  # fill up, so that one program serves all batches
                batch = np.resize(batch, (batch_size, *batch.shape[1:]))
            outputs = jax.device_get(forward(network.variables, batch))
            names = files[len(found) : len(found) + rows]
            found += [
                Prediction(
                    os.fspath(file), _choices(logits, shares, loaded.class_names)
                )
                for file, logits, shares in zip(names, *outputs, strict=False)
            ]
            watch(len(found))
    return found


def _choices(
    logits: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...] | None
) -> tuple[Choice, ...]:
    """Return the most probable classes, by logits: probabilities may round to 1."""
    best = np.argsort(-logits, kind="stable")[:TOP]
    return tuple(
        Choice(str(i) if names is None else names[int(i)], int(i), float(p))
        for i, p in zip(best, probabilities[best], strict=True)
    )


def format_predictions(
    predictions: Sequence[Prediction], kind: Literal["csv", "jsonl"]
) -> str:
    """Format predictions as a table or as one JSON object a line.

    Args:
        predictions: Results of :func:`predict`.
        kind: ``"csv"`` has the columns ``file``, ``class``, ``index`` and
            ``probability``, and ``class_2``, ``probability_2`` and so on for the next
            most probable classes. ``"jsonl"`` has the same four entries, and ``top``
            with all of them.

    Returns:
        The text.
    """
    if kind == "jsonl":
        return "".join(_json.dumps(_as_entries(each)) + "\n" for each in predictions)
    ranks = range(2, 1 + max((len(each.top) for each in predictions), default=1))
    more = [f"{name}_{rank}" for rank in ranks for name in ("class", "probability")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", "index", "probability", *more])
    for each in predictions:
        others = [
            x
            for choice in each.top[1:]
            for x in (choice.class_name, choice.probability)
        ]
        writer.writerow(
            [each.file, each.class_name, each.index, each.probability, *others]
        )
    return text.getvalue()


def _as_entries(prediction: Prediction) -> dict[str, object]:
    def entries(choice: Choice) -> dict[str, object]:
        return {
            "class": choice.class_name,
            "index": choice.index,
            "probability": choice.probability,
        }

    top = [entries(choice) for choice in prediction.top]
    return {"file": prediction.file, **entries(prediction.top[0]), "top": top}
