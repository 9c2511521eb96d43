"""Start a run from the weights of another one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxkd import interchange, runs, training
from jaxkd._errors import InvalidInputError
from jaxkd._files import expand_home
from jaxkd._messages import say
from jaxkd._text import count
from jaxkd.cli._header import network_of_header, normalization_of_header
from jaxkd.cli._options import Distill, Train
from jaxkd.data import Normalization
from jaxkd.models import ReusedClassifier

_SAFETENSORS = ".safetensors"
_CLASSIFIER = "classifier"
_MAX_NAMES = 3  # of variables in a message
# Not the randomness of dropout, which is the run's own.
_STARTED_FROM = (nnx.Param, nnx.BatchStat)

Build = Callable[[nnx.Rngs], nnx.Module]


class Initial(NamedTuple):
    """The weights and statistics that a network starts from.

    Attributes:
        description: What ``config.json`` records: the network that they are from, the
            fingerprint of its variables, and whether the classifier is new.
        state: The variables; None if only the description is known.
        normalization: The normalization of the images that they were trained with; None
            if it is not known.
    """

    description: dict[str, Any]
    state: Any = None
    normalization: Normalization | None = None

    def build(self, build: Build) -> Build:
        """Return a builder of networks that start from these variables.

        Args:
            build: Builds the network with new variables.
        """
        if self.state is None:
            return build
        state = self.state

        def started(rngs: nnx.Rngs) -> nnx.Module:
            network = build(rngs)
            nnx.update(network, jax.tree.map(jnp.asarray, state))
            return network

        return started

    def check_loaded(self, path: Path | None) -> None:
        """Check that a run can go back to its first step.

        Raises:
            InvalidInputError: If only the description of the variables is known.
        """
        if self.state is None:
            raise InvalidInputError(
                f"the run returns to its first step, for which --init {path} is "
                "needed, but it does not exist. Restore it",
                argument="init",
            )

    def warn_of_other_inputs(
        self, path: Path | None, normalization: Normalization
    ) -> None:
        """Print a warning if the images of a run are normalized otherwise.

        Differences of less than a hundredth are ignored: the statistics of a part of a
        dataset differ that much.
        """
        before = self.normalization
        if before is None:
            return
        pairs = list(zip(before, normalization, strict=True))
        if all(np.allclose(a, b, rtol=0.01, atol=0.01) for a, b in pairs):
            return
        (mean, now_mean), (std, now_std) = pairs
        say(
            f"warning: the weights of --init {path} were trained on images normalized "
            f"with mean {_numbers(mean)}, std {_numbers(std)}, but this run normalizes "
            f"with mean {_numbers(now_mean)}, std {_numbers(now_std)}; their batch "
            "statistics fit other inputs until training has adapted them"
        )


def load_initial(
    path: Path, network: runs.NetworkConfig, *, new_classifier: bool = False
) -> Initial:
    """Load the weights and statistics that a network is to start from.

    Args:
        path: A run folder, of which the first trial is used, or a ``.safetensors`` file
            of ``jaxkd export``.
        network: The network to start.
        new_classifier: Whether its classifier keeps its new weights, because its
            classes are others.

    Raises:
        InvalidInputError: If the path is neither, or its network has another
            architecture, or another number of classes and ``new_classifier`` is False.
    """
    path = expand_home(path, "init")
    try:
        theirs, module, normalization = _load(path)
    except InvalidInputError as error:
        message = str(error)
        if str(path) not in message:
            message = f"{path}: {message}"
        raise InvalidInputError(f"--init: {message}", argument="init") from None
    if isinstance(module, ReusedClassifier):  # the projector is a head, which is new
        module = module.network
    state = nnx.state(module, _STARTED_FROM)
    wanted = nnx.eval_shape(lambda: network.build(nnx.Rngs(0)))
    if new_classifier:
        state = _without_classifier(state)
    found, new = _shapes(state), _shapes(nnx.state(wanted, _STARTED_FROM))
    differing = [
        name
        for name in dict.fromkeys((*new, *found))
        if found.get(name) != new.get(name)
        and not (new_classifier and _in_classifier(name))
    ]
    if differing:
        shapes = [(name, found.get(name), new.get(name)) for name in differing]
        raise _misfit(path, theirs, network, shapes)
    description = {
        "model": theirs.model,
        "width": theirs.width,
        "fingerprint": runs.fingerprint_of(state),
        "new_classifier": new_classifier,
    }
    return Initial(description, state, normalization)


def initial_of(options: Train | Distill, network: runs.NetworkConfig) -> Initial | None:
    """Load the weights that a run starts from; None if they are random.

    If a run is resumed from a checkpoint, they need not exist any more: then they are
    those that the run folder describes.

    Raises:
        InvalidInputError: If they cannot be loaded, or do not fit the network.
    """
    if options.init is None:
        return None
    if options.resume and not expand_home(options.init, "init").exists():
        checkpoints = training.Checkpoints(runs.RunFolder(options.out).checkpoints)
        description = runs.read_config(options.out).get("initial")
        if checkpoints.latest() is not None and description is not None:
            return Initial(description)
    return load_initial(options.init, network, new_classifier=options.new_classifier)


def _load(path: Path) -> tuple[runs.NetworkConfig, nnx.Module, Normalization]:
    is_file = path.is_file() and path.suffix.lower() == _SAFETENSORS
    if not is_file and not path.is_dir():
        raise InvalidInputError(
            f"there is no run folder and no {_SAFETENSORS} file {path}. Check the "
            "path.",
            argument="init",
        )
    if not is_file:
        loaded = runs.load_network(path)
        return loaded.network, loaded.module, loaded.normalization
    state = interchange.read_state_dict(path)
    header = interchange.read_metadata(path)
    if not header:
        raise InvalidInputError(
            f"{path} has no header of `jaxkd export`, so its architecture is not "
            "known. Make a run folder of it with `jaxkd convert`, and start from that.",
            argument="init",
        )
    network = network_of_header(header)
    mean, std = normalization_of_header(header)
    module = network.abstract()
    interchange.load_state_dict(module, state)
    return (
        network,
        module,
        Normalization(*(np.asarray(x, np.float32) for x in (mean, std))),
    )


def _without_classifier(state: Any) -> Any:
    flat = nnx.to_flat_state(state)
    return nnx.from_flat_state([(p, x) for p, x in flat if p[0] != _CLASSIFIER])


def _shapes(state: Any) -> dict[str, list[int]]:
    """Return the shape of each variable by its name, such as ``stem.conv.kernel``."""
    return {
        ".".join(map(str, path)): list(variable.get_value().shape)
        for path, variable in nnx.to_flat_state(state)
    }


def _in_classifier(name: str) -> bool:
    return name.split(".")[0] == _CLASSIFIER


def _misfit(
    path: Path,
    theirs: runs.NetworkConfig,
    ours: runs.NetworkConfig,
    differing: Sequence[tuple[str, list[int] | None, list[int] | None]],
) -> InvalidInputError:
    """Build the error for weights of another architecture or of other classes.

    Args:
        path: Where the weights are from.
        theirs: Their network.
        ours: The network that is to start from them.
        differing: Name, their shape and our shape of each variable that differs.
    """
    listed = "; ".join(
        f"{name} is {there or 'absent'} there, {here or 'absent'} here"
        for name, there, here in differing[:_MAX_NAMES]
    )
    if len(differing) > _MAX_NAMES:
        listed += "; ..."
    if all(_in_classifier(name) for name, _, _ in differing):
        return InvalidInputError(
            f"--init {path} has {_classes(theirs)}, but this run has {_classes(ours)} "
            f"({listed}). Add --new-classifier to start with a new classifier",
            argument="init",
        )
    return InvalidInputError(
        f"--init {path} holds {_name(theirs)}, whose weights do not fit {_name(ours)}: "
        f"{count(len(differing), 'variable')} differ ({listed}). Choose the same "
        "--model and --width, and images of the same size and channels",
        argument="init",
    )


def _name(network: runs.NetworkConfig) -> str:
    width = "" if network.width is None else f" of width {network.width}"
    return network.model + width


def _classes(network: runs.NetworkConfig) -> str:
    return count(network.num_classes, "class", "classes")


def _numbers(values: Any) -> str:
    return " ".join(f"{x:.4g}" for x in np.asarray(values))
