"""Class sums of a small network trained by many optimizers side by side."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxkd import losses
from proofs_checks._evidence import Settings
from proofs_checks._optimizers import Optimizer
from proofs_checks._programs import compile_together, numerics

EXAMPLES, FEATURES, HIDDEN = 32, 6, 8

CENTERED, UNCENTERED = 0, 1
"""The two initializations: class sums of zero, and class sums of about one."""

_GROUP = 20  # largest number of optimizers in a program

PyTree = Any
Transformation = optax.GradientTransformationExtraArgs


class Task(NamedTuple):
    """A full batch with the teacher's logits."""

    inputs: Float[Array, "examples features"]
    labels: Int[Array, " examples"]
    teacher: Float[Array, "examples classes"]


class History(NamedTuple):
    """One optimizer's training from both initializations.

    The first axis is the step, the second the initialization.

    Attributes:
        kernel: Kernel of the classifier, ``[steps + 1, 2, hidden, classes]``.
        bias: Bias of the classifier, ``[steps + 1, 2, classes]``.
        mean_logit: Largest absolute mean logit of an example, ``[steps + 1, 2]``.
        typical_mean_logit: Average absolute mean logit over the batch,
            ``[steps + 1, 2]``.
        logit: Largest absolute logit, ``[steps + 1, 2]``.
    """

    kernel: np.ndarray
    bias: np.ndarray
    mean_logit: np.ndarray
    typical_mean_logit: np.ndarray
    logit: np.ndarray


class Sums(NamedTuple):
    """Class sums during a training, from both initializations.

    Attributes:
        kernel: Class sums of the kernel, ``[steps + 1, 2, hidden]``.
        bias: Class sum of the bias, ``[steps + 1, 2]``.
    """

    kernel: np.ndarray
    bias: np.ndarray


def train(
    optimizers: Sequence[Optimizer], settings: Settings, *, steps: int, classes: int
) -> dict[str, History]:
    """Train the network with each optimizer, from both initializations.

    In float64 and float32 everything is in that dtype. In bfloat16 the network computes
    in bfloat16 with float32 parameters, as in mixed-precision training: a bfloat16
    parameter would not change if a step is smaller than its last digit.

    Args:
        optimizers: Rows of the table.
        settings: Dtype and seed.
        steps: Number of steps.
        classes: Number of classes.

    Returns:
        The history of each training, by the name of the optimizer.
    """
    count = -(-len(optimizers) // _GROUP)
    groups = [optimizers[i::count] for i in range(count)]
    dtype = settings.array_dtype
    with numerics(settings):
        task, start = _draw(settings, classes)
        networks = [_repeat(start, len(group)) for group in groups]
        values = [_repeat(jnp.zeros(2), len(group)) for group in groups]
        values = [x.astype(settings.compute_dtype) for x in values]
        made = [[_make(optimizer) for optimizer in group] for group in groups]
        initials = [functools.partial(_initial, group) for group in made]
        states = [
            jax.eval_shape(initial, network)
            for initial, network in zip(initials, networks, strict=True)
        ]
    differentiate = functools.partial(_differentiate, dtype)
    updates = [functools.partial(_update, group, dtype) for group in made]
    programs: list[tuple[Any, tuple[Any, ...]]] = [(differentiate, (task, networks))]
    programs += zip(initials, ((network,) for network in networks), strict=True)
    given = zip(networks, states, values, networks, strict=True)
    programs += zip(updates, ((task, *arguments) for arguments in given), strict=True)
    differentiate, *others = compile_together(programs, settings)
    initials, updates = others[: len(groups)], others[len(groups) :]

    with numerics(settings):
        states = [f(network) for f, network in zip(initials, networks, strict=True)]
        seen = []
        for step in range(steps + 1):
            values, grads, observed = differentiate(task, networks)
            seen.append(observed)
            if step == steps:
                break
            given = zip(updates, networks, states, values, grads, strict=True)
            after = [update(task, *arguments) for update, *arguments in given]
            networks, states = map(list, zip(*after, strict=True))

    everything = [np.stack(x, dtype=np.float64) for x in zip(*seen, strict=True)]
    order = [optimizer.name for group in groups for optimizer in group]
    return {
        optimizer.name: History(
            *(x[:, order.index(optimizer.name)] for x in everything)
        )
        for optimizer in optimizers
    }


def own_recursions(
    optimizers: Sequence[Optimizer],
    histories: Mapping[str, History],
    settings: Settings,
) -> dict[str, Sums]:
    """Apply each optimizer to the class sums alone, with gradient zero.

    The class sums at initialization replace the classifier of a network with a single
    class, and every gradient is zero.

    Args:
        optimizers: Rows of the table.
        histories: The trainings, which give the initialization and the number of steps.
        settings: Dtype.

    Returns:
        The class sums after each step, by the name of the optimizer.
    """
    if not optimizers:
        return {}
    dtype = settings.compute_dtype
    starts = [
        {
            "body": {"kernel": np.zeros((2, FEATURES, HIDDEN), dtype)},
            "head": {
                "kernel": history.kernel[0].sum(-1, keepdims=True).astype(dtype),
                "bias": history.bias[0].sum(-1, keepdims=True).astype(dtype),
            },
        }
        for history in (histories[optimizer.name] for optimizer in optimizers)
    ]
    made = [_make(optimizer) for optimizer in optimizers]
    length = len(histories[optimizers[0].name].bias)

    def follow(starts):
        zeros = jax.tree.map(jnp.zeros_like, starts)
        value = jnp.ones((), dtype)

        def step(carry, _):
            after = [
                _step(transformation, None, params, state, value, zero)
                for transformation, (params, state), zero in zip(
                    made, carry, zeros, strict=True
                )
            ]
            return after, [params["head"] for params, _ in carry]

        carry = [
            (start, transformation.init(start))
            for transformation, start in zip(made, starts, strict=True)
        ]
        return jax.lax.scan(step, carry, None, length=length)[1]

    program = jax.vmap(follow, out_axes=1)
    (program,) = compile_together([(program, (starts,))], settings)
    with numerics(settings):
        heads = program(starts)
    heads = jax.tree.map(lambda x: np.asarray(x, np.float64)[..., 0], heads)
    return {
        optimizer.name: Sums(head["kernel"], head["bias"])
        for optimizer, head in zip(optimizers, heads, strict=True)
    }


def _make(optimizer: Optimizer) -> Transformation:
    return optax.with_extra_args_support(optimizer.make())


def _repeat(tree: PyTree, times: int) -> PyTree:
    return jax.tree.map(lambda x: jnp.stack([x] * times), tree)


def _draw(settings: Settings, classes: int) -> tuple[Task, PyTree]:
    """Draw the task and both initializations, stacked."""
    rng = np.random.default_rng((settings.seed, classes))
    dtype = settings.compute_dtype
    task = Task(
        jnp.asarray(rng.normal(size=(EXAMPLES, FEATURES)), dtype),
        jnp.asarray(rng.integers(0, classes, EXAMPLES, np.int32)),
        jnp.asarray(2 * rng.normal(size=(EXAMPLES, classes)), dtype),
    )
    body = rng.normal(size=(FEATURES, HIDDEN)) / np.sqrt(FEATURES)
    kernel = rng.normal(size=(HIDDEN, classes)) / np.sqrt(HIDDEN)
    kernel -= kernel.mean(-1, keepdims=True)
    bias = rng.normal(size=classes)
    bias -= bias.mean()
    sums = rng.normal(size=(HIDDEN, 1))
    start = {
        "body": {"kernel": np.stack([body, body])},
        "head": {
            "kernel": np.stack([kernel, kernel + sums / classes]),
            "bias": np.stack([bias, bias + 1 / classes]),
        },
    }
    return task, jax.tree.map(lambda x: jnp.asarray(x, dtype), start)


def _logits(params: PyTree, inputs: Array, dtype: np.dtype) -> Array:
    """Apply a two-layer ReLU network in ``dtype``, with logits in the inputs' dtype."""
    wide = inputs.dtype
    params, inputs = jax.tree.map(lambda x: x.astype(dtype), (params, inputs))
    hidden = jax.nn.relu(inputs @ params["body"]["kernel"])
    logits = hidden @ params["head"]["kernel"] + params["head"]["bias"][None]
    return logits.astype(wide)


def _cross_entropy(logits: Array, task: Task) -> Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, task.labels)


def _differentiate(
    dtype: np.dtype, task: Task, networks: list[PyTree]
) -> tuple[PyTree, PyTree, PyTree]:
    """Compute losses and gradients by group, and the fields of :class:`History`."""

    def objective(params):
        logits = _logits(params, task.inputs, dtype)
        kd = losses.soft_target_kl(logits, task.teacher, temperature=jnp.inf)
        loss = jnp.mean(0.1 * _cross_entropy(logits, task) + 0.9 * kd)
        mean = jnp.abs(jnp.mean(logits, axis=-1))
        return loss, (
            params["head"]["kernel"],
            params["head"]["bias"],
            jnp.max(mean),
            jnp.mean(mean),
            jnp.max(jnp.abs(logits)),
        )

    everyone = jax.tree.map(lambda *x: jnp.concatenate(x), *networks)
    differentiate = jax.vmap(jax.vmap(jax.value_and_grad(objective, has_aux=True)))
    (values, observed), grads = differentiate(everyone)
    ends = np.cumsum([len(network["head"]["bias"]) for network in networks])
    found = jax.tree.map(lambda x: jnp.split(x, ends[:-1]), (values, grads))
    is_split = lambda x: isinstance(x, list)
    by_group = [
        jax.tree.map(lambda x, i=i: x[i], found, is_leaf=is_split)
        for i in range(len(networks))
    ]
    return [v for v, _ in by_group], [g for _, g in by_group], observed


def _initial(transformations: Sequence[Transformation], networks: PyTree) -> list:
    return [
        jax.vmap(t.init)(jax.tree.map(lambda x, i=i: x[i], networks))
        for i, t in enumerate(transformations)
    ]


def _update(
    transformations: Sequence[Transformation],
    dtype: np.dtype,
    task: Task,
    networks: PyTree,
    states: list,
    values: Array,
    grads: PyTree,
) -> tuple[PyTree, list]:
    """Take one step with every optimizer of a group."""

    def objective(params):
        # Equal to soft_target_kl at infinite temperature (T4), and faster to compile.
        logits = _logits(params, task.inputs, dtype)
        kd = losses.logit_matching(logits, task.teacher)
        kd -= losses.mean_gap(logits, task.teacher)
        return jnp.mean(0.1 * _cross_entropy(logits, task) + 0.9 * kd)

    after = []
    for i, transformation in enumerate(transformations):
        step = jax.vmap(functools.partial(_step, transformation, objective))
        network, grad = jax.tree.map(lambda x, i=i: x[i], (networks, grads))
        after.append(step(network, states[i], values[i], grad))
    networks = jax.tree.map(lambda *x: jnp.stack(x), *(network for network, _ in after))
    return networks, [state for _, state in after]


def _step(
    transformation: Transformation,
    objective: Callable[[PyTree], Array] | None,
    params: PyTree,
    state: PyTree,
    value: Array,
    grad: PyTree,
) -> tuple[PyTree, PyTree]:
    """Take one step. Line searches and step-size rules need the objective too."""
    # optax's bias corrections mix integer counts with floats.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = transformation.update(
            grad, state, params, value=value, grad=grad, value_fn=objective
        )
        return optax.apply_updates(params, updates), state
