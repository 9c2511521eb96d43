"""Lockstep training of a student by distillation and by logits matching."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, DTypeLike, Float, Int

from jaxkd import distillers, models, training
from proofs_checks._evidence import Settings
from proofs_checks._programs import compile_together, numerics

CLASSES = 5
EXAMPLES, BATCH = 64, 8

PyTree = Any
Step = Callable[..., tuple[list[Array], Float[Array, " numbers"]]]
NamedOptimizer = tuple[str, Callable[[], optax.GradientTransformation]]
Build = Callable[[int, DTypeLike, nnx.Rngs], nnx.Module]
Means = Callable[[nnx.Module, nnx.Module], tuple[nnx.Module, nnx.Module]]


class ResidualNet(nnx.Module):
    """Residual block with batch normalization, global pooling and linear classifier.

    Args:
        width: Number of channels.
        dtype: Dtype of the computation.
        rngs: Random streams for the initial parameters.
    """

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
        self.block = models.BasicBlock(1, width, stride=2, dtype=dtype, rngs=rngs)
        self.classifier = nnx.Linear(
            width, CLASSES, dtype=dtype, param_dtype=wide, rngs=rngs
        )
        self.dtype = dtype

    def __call__(self, images: Float[Array, "b h w 1"]) -> models.ModelOutput:
        """Classify images."""
        x = nnx.relu(self.block(images.astype(self.dtype)))
        embedding = jnp.mean(x, axis=(1, 2))
        return models.ModelOutput(self.classifier(embedding), embedding)


class Network(NamedTuple):
    """Architecture of student and teacher.

    Attributes:
        name: Name in the report.
        size: Height and width of the images.
        widths: Widths of the student and of the teacher.
        build: A function ``(width, dtype, rngs) -> module``.
    """

    name: str
    size: int
    widths: tuple[int, int]
    build: Build


def _mlp(width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Module:
    return models.MLP(16, (width,), num_classes=CLASSES, dtype=dtype, rngs=rngs)


def _residual(width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Module:
    return ResidualNet(width, dtype=dtype, rngs=rngs)


MLP = Network("MLP", 4, (8, 12), _mlp)
CONV = Network("conv net", 6, (3, 4), _residual)


class Run(NamedTuple):
    """Settings of one training.

    Attributes:
        network: Architecture of student and teacher.
        optimizer: Name of the optimizer, and a function that builds it.
        means: Name of the preparation, and a function that sets the mean logits of
            student and teacher.
        offset: Mean logit of both networks after the preparation.
    """

    network: Network
    optimizer: NamedOptimizer
    means: tuple[str, Means]
    offset: float = 0.0

    @property
    def name(self) -> str:
        """The name of the run in the report."""
        return f"{self.network.name}, {self.optimizer[0]}, {self.means[0]}"


class Course(NamedTuple):
    """Results of a run.

    Attributes:
        difference: Largest difference between the students' parameters after each step.
        mean_logit: Largest distance of a student's mean logit from the run's offset, at
            each step.
        logit: Largest logit of a student.
        moved: Largest change of a parameter over the whole training.
        students: Parameters after the last step, trained by distillation and by logits
            matching.
    """

    difference: np.ndarray
    mean_logit: np.ndarray
    logit: float
    moved: float
    students: tuple[PyTree, PyTree]


class _Task(NamedTuple):
    """Arguments of a step, as flat lists, because flattening a module's state is slow.

    Attributes:
        students: Both training states.
        teacher: The teacher's variables.
        images: All images.
        labels: All labels.
        rows: Rows of the step's batch.
    """

    students: list[Array]
    teacher: list[Array]
    images: Float[Array, "examples height width 1"]
    labels: Int[Array, " examples"]
    rows: Int[Array, " batch"]


class _Prepared(NamedTuple):
    """A run before its first step.

    Attributes:
        step: The step function, not compiled.
        task: Its arguments for the first step.
        tree: Tree structure of the students.
    """

    step: Step
    task: _Task
    tree: Any


def train(runs: Sequence[Run], settings: Settings, *, steps: int) -> list[Course]:
    """Train students from the same state by both losses.

    All runs of one architecture share a program, because it takes longer to compile
    than to run. The parameters and the choice of the optimizer are its arguments.

    Args:
        runs: The trainings.
        settings: Dtype and seed.
        steps: Number of steps.

    Returns:
        One course for each run.

    Raises:
        AssertionError: If the two students of a run do not start from the same state.
    """
    networks = tuple(dict.fromkeys(run.network for run in runs))
    pairs = dict(zip(networks, _build(networks, settings), strict=True))
    optimizers = list(dict.fromkeys(run.optimizer for run in runs))
    with numerics(settings):
        prepared = [
            _prepare(run, *pairs[run.network], optimizers, settings) for run in runs
        ]
    of_network = {run.network: p for run, p in zip(runs, prepared, strict=True)}
    programs = [(step, task) for step, task, _ in of_network.values()]
    compiled = compile_together(programs, settings)
    steppers = dict(zip(of_network, compiled, strict=True))
    order = _order(settings.seed, steps)

    def course(run: Run, prepared: _Prepared) -> Course:
        with numerics(settings):
            return _follow(steppers[run.network], prepared, order, run.offset)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(course, runs, prepared))


def _one_of(
    optimizers: Sequence[NamedOptimizer], chosen: NamedOptimizer
) -> optax.GradientTransformation:
    """Return an optimizer whose state selects one of several optimizers."""
    made = [make() for _, make in optimizers]

    def init(params):
        states = tuple(optimizer.init(params) for optimizer in made)
        return jnp.asarray(optimizers.index(chosen), jnp.int32), states

    def update(updates, state, params=None):
        number, states = state

        def branch(i):
            def update_one():
                changed, after = made[i].update(updates, states[i], params)
                return changed, (*states[:i], after, *states[i + 1 :])

            return update_one

        branches = [branch(i) for i in range(len(made))]
        updates, states = jax.lax.switch(number, branches)
        return updates, (number, states)

    return optax.GradientTransformation(init, update)


def _order(seed: int, steps: int) -> Int[np.ndarray, "steps batch"]:
    """Draw the rows of each batch, with every example once in an epoch."""
    rng = np.random.default_rng((seed, 1))
    epochs = -(-steps * BATCH // EXAMPLES)
    rows = np.concatenate([rng.permutation(EXAMPLES) for _ in range(epochs)])
    return rows[: steps * BATCH].reshape(steps, BATCH).astype(np.int32)


@functools.lru_cache(maxsize=8)
def _build(
    networks: tuple[Network, ...], settings: Settings
) -> list[tuple[PyTree, PyTree]]:
    """Build student and teacher of each architecture, split, with random parameters.

    The parameters are drawn in compiled programs. Drawing them one operation at a time
    takes longer than the training.
    """
    dtype = settings.array_dtype

    def build(network: Network, keys: Array) -> list[nnx.Module]:
        pairs = zip(network.widths, keys, strict=True)
        return [network.build(width, dtype, nnx.Rngs(key)) for width, key in pairs]

    def draw(network: Network, keys: Array) -> list[PyTree]:
        return [nnx.state(module) for module in build(network, keys)]

    with numerics(settings):
        keys = [
            jax.random.split(jax.random.key(settings.seed + network.size))
            for network in networks
        ]
    draws = [functools.partial(draw, network) for network in networks]
    programs = [(d, (k,)) for d, k in zip(draws, keys, strict=True)]
    compiled = compile_together(programs, settings)
    pairs = []
    for network, program, key in zip(networks, compiled, keys, strict=True):
        with numerics(settings):
            abstract = nnx.eval_shape(functools.partial(build, network), key)
        graphs = [nnx.graphdef(module) for module in abstract]
        student, teacher = zip(graphs, program(key), strict=True)
        pairs.append((student, teacher))
    return pairs


def _prepare(
    run: Run,
    student: PyTree,
    teacher: PyTree,
    optimizers: Sequence[NamedOptimizer],
    settings: Settings,
) -> _Prepared:
    rng = np.random.default_rng((settings.seed, run.network.size))
    shape = (EXAMPLES, run.network.size, run.network.size, 1)
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, EXAMPLES, np.int32))

    student = nnx.merge(*student, copy=True)  # several runs use the same networks
    teacher = nnx.merge(*teacher, copy=True)
    # The logits of an untrained network are smaller than one.
    teacher.classifier.kernel[...] *= 5.0
    student, teacher = run.means[1](student, teacher)
    frozen = training.freeze(teacher)

    abstract = jax.ShapeDtypeStruct((BATCH, *shape[1:]), jnp.float32)
    spec = distillers.Spec(
        student=nnx.eval_shape(lambda m, x: m(x), student, abstract),
        teacher=jax.eval_shape(frozen.apply, frozen.variables, abstract),
        num_classes=CLASSES,
        labels=np.asarray(labels),
    )
    optimizer = _one_of(optimizers, run.optimizer)
    objectives = [
        _watched(objective, settings.compute_dtype)
        for objective in (
            distillers.soft_targets(temperature=jnp.inf),
            distillers.logit_matching(),
        )
    ]
    kd, lm = (
        training.init_train_state(student, o, spec, optimizer, key=jax.random.key(0))
        for o in objectives
    )
    # If they started apart, every control would fail without any training.
    chex.assert_trees_all_equal(kd.student, lm.student, strict=True)
    graphdef = nnx.graphdef(student)
    kd_step, lm_step = (
        training.make_train_step(graphdef, o, optimizer, teacher=frozen)
        for o in objectives
    )

    students, tree = jax.tree.flatten((kd, lm))
    variables, variables_tree = jax.tree.flatten(frozen.variables)

    def step(students, variables, images, labels, rows):
        kd, lm = jax.tree.unflatten(tree, students)
        variables = jax.tree.unflatten(variables_tree, variables)
        examples = training.Examples(images[rows], labels[rows], rows)
        kd, kd_seen = kd_step(kd, variables, examples)
        lm, lm_seen = lm_step(lm, variables, examples)
        seen = [
            _distance(kd.student, lm.student),
            jnp.minimum(kd_seen["lowest"], lm_seen["lowest"]),
            jnp.maximum(kd_seen["highest"], lm_seen["highest"]),
            jnp.maximum(kd_seen["largest"], lm_seen["largest"]),
        ]
        return jax.tree.leaves((kd, lm)), jnp.stack(seen)

    rows = jnp.arange(BATCH, dtype=jnp.int32)
    task = _Task(students, variables, images, labels, rows)
    return _Prepared(step, task, tree)


def _watched(distiller: distillers.Distiller, dtype: np.dtype) -> distillers.Distiller:
    """Add metrics: the range of the student's mean logits and its largest logit."""

    def loss(params, extra, student, teacher, batch):
        per_example, extra, metrics = distiller.loss(
            params, extra, student, teacher, batch
        )
        logits = student.logits.astype(dtype)
        means = jnp.mean(logits, axis=-1)
        watched = {
            "lowest": jnp.min(means),
            "highest": jnp.max(means),
            "largest": jnp.max(jnp.abs(logits)),
        }
        return per_example, extra, metrics | watched

    return distiller._replace(loss=loss)


def _distance(tree: PyTree, other: PyTree) -> Float[Array, ""]:
    """Return the largest absolute difference between two trees of one structure."""
    gaps = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y)), tree, other)
    return jax.tree.reduce(jnp.maximum, gaps)


def _follow(
    step: Step, prepared: _Prepared, order: np.ndarray, offset: float
) -> Course:
    students, *rest, _ = prepared.task
    seen = []
    for rows in order:
        students, found = step(students, *rest, rows)
        seen.append(found)
    difference, lowest, highest, logit = np.stack(seen, axis=1, dtype=np.float64)
    start, _ = jax.tree.unflatten(prepared.tree, prepared.task.students)
    kd, lm = jax.tree.unflatten(prepared.tree, students)
    return Course(
        difference=difference,
        mean_logit=np.maximum(np.abs(lowest - offset), np.abs(highest - offset)),
        logit=float(logit.max()),
        moved=float(_distance(start.student, kd.student)),
        students=(kd.student, lm.student),
    )
