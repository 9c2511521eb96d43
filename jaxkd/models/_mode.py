"""Put networks into training or inference mode, by call arguments and attributes."""

import inspect
from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxkd._errors import InvalidInputError

# Values in inference mode of the flags that networks commonly have.
INFERENCE: dict[str, bool] = {
    **dict.fromkeys(
        ("train", "training", "is_training", "is_train", "training_mode", "train_mode"),
        False,
    ),
    **dict.fromkeys(
        ("deterministic", "inference", "use_running_average", "eval", "evaluation"),
        True,
    ),
    **dict.fromkeys(("is_eval", "eval_mode", "inference_mode", "is_inference"), True),
}


def mode_arguments(network: Callable[..., Any], *, train: bool) -> dict[str, bool]:
    """Return the keyword arguments that put a network's call into a mode.

    They are found by their names in the signature, such as ``train``, ``training``,
    ``is_training``, ``deterministic``, ``inference`` and ``use_running_average``. An
    argument is left out if its default is the mode's value: a call that is compiled by
    ``jax.jit`` can only use that value as a Python bool. In training, an argument whose
    default is None is left out, too: the layers' own attributes then decide.

    Args:
        network: A module, or a function of images.
        train: Whether the network is in training.

    Raises:
        InvalidInputError: If the call requires another argument besides the images.
    """
    if isinstance(network, nnx.bridge.ToNNX):  # whose call passes its arguments on
        network = network.to_nnx__module
    try:
        parameters = list(inspect.signature(network).parameters.values())
    except ValueError:  # Functions without a signature, such as those written in C.
        return {}
    found = {}
    for parameter in parameters[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        if _is_flag(parameter):
            wanted = INFERENCE[parameter.name] != train
            if default is not wanted and not (train and default is None):
                found[parameter.name] = wanted
        elif default is parameter.empty:
            raise InvalidInputError(
                f"network is called with images only, but {name_of(network)} also "
                f"requires {parameter.name!r}. Give the argument a default, or, for a "
                "network that is not trained, pass a function of the images that "
                "gives it, in inference mode.",
                argument="network",
            )
    return found


def _is_flag(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter is a flag of the mode that can be passed by name."""
    default = parameter.default
    return (
        parameter.name in INFERENCE
        and parameter.kind != parameter.POSITIONAL_ONLY
        and (default is None or default is parameter.empty or isinstance(default, bool))
    )


def inference_view(network: nnx.Module) -> nnx.Module:
    """Return a view of the network with running statistics and without dropout.

    The view sets the attributes of the layers. It does not change the arguments of
    ``__call__``: if the network's call has a flag such as ``train``, pass it, or call
    :func:`jaxkd.training.freeze` instead, which does so.
    """
    view = nnx.view(
        network,
        # An Rngs creates a stream for any name, so Flax would take it for a layer with
        # a `set_view` method and draw a key. Abstract networks would have no view.
        only=lambda path, node: not isinstance(node, nnx.Rngs),
        use_running_average=True,
        deterministic=True,
        raise_if_not_found=False,  # a network may have no such layers
    )
    _set_inference_attributes(view)
    return view


def _set_inference_attributes(network: nnx.Module) -> None:
    """Set the flags of inference mode on all modules that have them, in place.

    ``nnx.view`` reaches only modules with a method ``set_view``.
    """
    for _, module in nnx.iter_modules(network):
        for name, value in list(vars(module).items()):
            if isinstance(value, bool) and value is not INFERENCE.get(name, value):
                setattr(module, name, INFERENCE[name])


def name_of(network: Callable[..., Any]) -> str:
    """Return a network's name for messages: its class, or the function's name."""
    if isinstance(network, nnx.Module):
        return type(network).__name__
    return getattr(network, "__name__", type(network).__name__)
