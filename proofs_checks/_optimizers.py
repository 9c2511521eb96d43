"""The optimizers of optax, and the effect of each on a classifier's class sums.

The table leaves out optimizers that need more than parameters, gradient, value and
objective (``lookahead``, ``dpsgd``), and wrappers that do not change an update on their
own (``apply_if_finite``, ``inject_hyperparams``, ``reduce_on_plateau``).
"""

import enum
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import optax
from optax import contrib

DECAY = 0.05
"""Weight decay of the variants with decay. It is large, to show within 200 steps."""


class Law(enum.Enum):
    """Behavior of the sums over the classes, whose gradient is zero."""

    CONSERVED = "conserved"
    """The sums do not change."""

    DECAYS = "decays"
    """The sums follow the optimizer's own recursion for gradient zero."""

    SCALED = "scaled"
    """The sums keep their direction. Their factor depends on norms of gradients and
    parameters, and so on the whole training. For a single sum this is trivial."""

    BROKEN = "broken"
    """The sums move although their gradient is zero."""


class Optimizer(NamedTuple):
    """Row of the table.

    Attributes:
        name: Name of the optimizer.
        make: Function that builds it.
        kernel: Law of the class sums of a kernel ``[in, classes]``.
        bias: Law of the class sum of a bias ``[classes]``.
        why: The reason, in one line.
    """

    name: str
    make: Callable[[], optax.GradientTransformation]
    kernel: Law
    bias: Law
    why: str


Row = tuple[str, Callable[[], optax.GradientTransformation], str]


def _rows(kernel: Law, bias: Law, *rows: Row) -> tuple[Optimizer, ...]:
    return tuple(Optimizer(name, make, kernel, bias, why) for name, make, why in rows)


def _with_l2(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Add the decay to the gradient."""
    return optax.chain(optax.add_decayed_weights(DECAY), optimizer)


def _before_sgd(
    transformation: optax.GradientTransformation, rate: float
) -> optax.GradientTransformation:
    return optax.chain(transformation, optax.sgd(rate, momentum=0.9))


def _decoupled_momentum() -> optax.GradientTransformation:
    """Return SGDW, whose decay does not enter the momentum."""
    return optax.chain(
        optax.trace(0.9),
        optax.add_decayed_weights(DECAY),
        optax.scale_by_learning_rate(0.02),
    )


def _backtracking() -> optax.GradientTransformationExtraArgs:
    return optax.scale_by_backtracking_linesearch(max_backtracking_steps=8)


def _sharpness_aware() -> optax.GradientTransformation:
    adversary = optax.chain(contrib.normalize(), optax.sgd(0.05))
    sam = contrib.sam(optax.sgd(0.1, momentum=0.9), adversary)

    def update(updates, state, params=None):  # SAM accepts no other arguments
        return sam.update(updates, state, params)

    return optax.GradientTransformation(sam.init, update)


def _squared_gradients() -> optax.GradientTransformation:
    def square(grads, params):
        del params
        return jax.tree.map(lambda g: g * g, grads)

    return optax.stateless(square)


def _only_matrices_by_muon() -> optax.GradientTransformation:
    def kind(tree):
        return jax.tree.map(lambda x: "matrix" if x.ndim == 2 else "vector", tree)

    parts: dict[Hashable, Any] = {
        "matrix": contrib.muon(0.02),
        "vector": optax.sgd(0.05, momentum=0.9),
    }
    return optax.partition(parts, kind)


def body_and_head(
    body: optax.GradientTransformation, head: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Return one optimizer for the classifier and another for the other layers.

    Args:
        body: Optimizer of the parameters not under a key ``head`` or ``classifier``.
        head: Optimizer of the parameters under such a key.
    """

    def part(path: tuple[Any, ...], leaf: Any) -> str:
        del leaf
        names = {getattr(entry, "key", getattr(entry, "name", None)) for entry in path}
        return "head" if names & {"head", "classifier"} else "body"

    def parts(tree):
        return jax.tree_util.tree_map_with_path(part, tree)

    return optax.partition({"body": body, "head": head}, parts)


_C, _D, _S, _B = Law.CONSERVED, Law.DECAYS, Law.SCALED, Law.BROKEN

_ELEMENTWISE = "scales each entry by its own history"
_SIGN = "signs do not sum to zero"
_ONE_FACTOR = "one factor for the whole array"

OPTIMIZERS: tuple[Optimizer, ...] = (
    *_rows(
        _C,
        _C,
        ("SGD", lambda: optax.sgd(0.2), "linear in the gradient"),
        (
            "momentum",
            lambda: optax.sgd(0.05, momentum=0.9),
            "linear in past gradients",
        ),
        (
            "Nesterov",
            lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
            "linear in past gradients",
        ),
        (
            "optimistic gradient descent",
            lambda: optax.optimistic_gradient_descent(0.1),
            "linear in past gradients",
        ),
        (
            "accumulated SGD (apply_every)",
            lambda: optax.chain(optax.apply_every(4), optax.sgd(0.1)),
            "linear in past gradients",
        ),
        (
            "schedule-free SGD",
            lambda: contrib.schedule_free_sgd(0.5),
            "averages of linear steps",
        ),
        (
            "clip_by_global_norm",
            lambda: _before_sgd(optax.clip_by_global_norm(0.1), 0.1),
            "one factor for the whole gradient",
        ),
        (
            "clip_by_block_rms",
            lambda: _before_sgd(optax.clip_by_block_rms(0.01), 0.1),
            _ONE_FACTOR,
        ),
        (
            "normalize_by_update_norm",
            lambda: optax.chain(
                optax.normalize_by_update_norm(), optax.scale_by_learning_rate(0.02)
            ),
            "one factor for the whole gradient",
        ),
        (
            "normalize (contrib)",
            lambda: optax.chain(contrib.normalize(), optax.sgd(0.02)),
            "one factor for the whole gradient",
        ),
        (
            "centralize",
            lambda: _before_sgd(optax.centralize(), 0.05),
            "subtracts a mean over inputs, not over classes",
        ),
        (
            "scale_by_param_block_norm",
            lambda: optax.chain(optax.scale_by_param_block_norm(), optax.sgd(0.05)),
            _ONE_FACTOR,
        ),
        ("LARS", lambda: optax.lars(20.0), _ONE_FACTOR),
        ("NovoGrad", lambda: optax.novograd(0.005), "one second moment per array"),
        (
            "Polyak SGD",
            lambda: optax.polyak_sgd(max_learning_rate=0.5, f_min=0.5),
            "one step size",
        ),
        ("MoMo", lambda: contrib.momo(0.2), "one step size"),
        (
            "DoG",
            lambda: contrib.dog(init_step=("learning_rate", 0.01)),
            "one step size",
        ),
        ("DoWG", lambda: contrib.dowg(), "one step size"),
        (
            "Mechanic(SGD)",
            lambda: contrib.mechanize(optax.sgd(1.0), s_init=1e-3),
            "one step size; the decay enters only the step size",
        ),
        (
            "line search (backtracking)",
            lambda: optax.chain(optax.sgd(1.0), _backtracking()),
            "one step size",
        ),
        (
            "L-BFGS",
            lambda: optax.lbfgs(linesearch=_backtracking()),
            "in the span of gradients and their differences",
        ),
        ("SAM(momentum)", _sharpness_aware, "linear steps with one factor"),
        (
            "Muon on matrices, momentum on biases",
            _only_matrices_by_muon,
            "orthogonalization acts on the features alone",
        ),
        (
            "Adam on the body, momentum on the head",
            lambda: body_and_head(optax.adam(0.01), optax.sgd(0.05, momentum=0.9)),
            "only the head's optimizer matters",
        ),
    ),
    *_rows(
        _D,
        _D,
        ("SGD + L2", lambda: _with_l2(optax.sgd(0.2)), "factor 1 - ηλ per step"),
        (
            "momentum + L2",
            lambda: _with_l2(optax.sgd(0.02, momentum=0.9)),
            "v = μv + λs, s = s - ηv",
        ),
        (
            "Nesterov + L2",
            lambda: _with_l2(optax.sgd(0.02, momentum=0.9, nesterov=True)),
            "as momentum + L2, one step ahead",
        ),
        ("momentum, decoupled decay", _decoupled_momentum, "factor 1 - ηλ per step"),
        (
            "clip_by_global_norm, then L2",
            lambda: optax.chain(
                optax.clip_by_global_norm(0.1), _with_l2(optax.sgd(0.1, momentum=0.9))
            ),
            "as momentum + L2: the clipped gradient sums to zero",
        ),
        ("Fromage", lambda: optax.fromage(0.02), "factor 1/√(1 + η²) per step"),
        (
            "NovoGrad + decay",
            lambda: optax.novograd(0.005, weight_decay=DECAY),
            "as momentum + L2",
        ),
        (
            "MoMo + decay",
            lambda: contrib.momo(0.2, weight_decay=DECAY),
            "factor 1/(1 + ηλ) per step",
        ),
        (
            "schedule-free SGD + L2",
            lambda: contrib.schedule_free_sgd(0.2, weight_decay=DECAY),
            "averages of decaying steps",
        ),
    ),
    *_rows(
        _D,
        _B,
        (
            "Muon + decay",
            lambda: contrib.muon(0.02, weight_decay=DECAY),
            "kernel: factor 1 - ηλ per step; bias: updated by Adam",
        ),
    ),
    *_rows(
        _S,
        _S,
        (
            "LARS + L2",
            lambda: optax.lars(20.0, weight_decay=DECAY),
            "the trust ratio scales the decay too",
        ),
        (
            "L2, then clip_by_global_norm",
            lambda: _with_l2(_before_sgd(optax.clip_by_global_norm(0.1), 0.05)),
            "the clipping scales the decay too",
        ),
        (
            "DoG + L2",
            lambda: contrib.dog(init_step=("learning_rate", 0.01), weight_decay=DECAY),
            "the step size scales the decay too",
        ),
    ),
    *_rows(
        _C,
        _B,
        (
            "Muon",
            lambda: contrib.muon(0.02),
            "kernel: acts on the features alone; bias: updated by Adam",
        ),
    ),
    *_rows(
        _B,
        _C,
        (
            "adaptive_grad_clip",
            lambda: _before_sgd(optax.adaptive_grad_clip(0.01), 0.1),
            "kernel: one factor per class; bias: one for the array",
        ),
    ),
    *_rows(
        _B,
        _B,
        ("Adam", lambda: optax.adam(0.01), _ELEMENTWISE),
        ("AdamW", lambda: optax.adamw(0.01, weight_decay=DECAY), _ELEMENTWISE),
        ("NAdam", lambda: optax.nadam(0.01), _ELEMENTWISE),
        ("NAdamW", lambda: optax.nadamw(0.01), _ELEMENTWISE),
        ("RAdam", lambda: optax.radam(0.01), _ELEMENTWISE),
        ("AMSGrad", lambda: optax.amsgrad(0.01), _ELEMENTWISE),
        ("Adamax", lambda: optax.adamax(0.01), _ELEMENTWISE),
        ("AdamaxW", lambda: optax.adamaxw(0.01), _ELEMENTWISE),
        ("AdaBelief", lambda: optax.adabelief(0.01), _ELEMENTWISE),
        ("Adan", lambda: optax.adan(0.01), _ELEMENTWISE),
        ("Yogi", lambda: optax.yogi(0.01), _ELEMENTWISE),
        ("optimistic Adam", lambda: optax.optimistic_adam_v2(0.01), _ELEMENTWISE),
        ("RMSProp", lambda: optax.rmsprop(0.01), _ELEMENTWISE),
        ("Adagrad", lambda: optax.adagrad(0.05), _ELEMENTWISE),
        ("Adadelta", lambda: optax.adadelta(1.0), _ELEMENTWISE),
        ("Adafactor", lambda: optax.adafactor(0.01), _ELEMENTWISE),
        (
            "Adafactor, factored",
            lambda: optax.adafactor(0.01, min_dim_size_to_factor=2),
            "one factor per class and input",
        ),
        ("SM3", lambda: optax.sm3(0.05), "one accumulator per class and input"),
        ("LAMB", lambda: optax.lamb(0.01), "follows Adam's direction"),
        ("Lion", lambda: optax.lion(0.002, weight_decay=0.0), _SIGN),
        ("sign SGD", lambda: optax.sign_sgd(0.002), _SIGN),
        ("signum", lambda: optax.signum(0.002), _SIGN),
        ("Rprop", lambda: optax.rprop(0.001), _SIGN),
        ("clip", lambda: _before_sgd(optax.clip(0.002), 0.1), "clips single entries"),
        (
            "noisy SGD",
            lambda: optax.noisy_sgd(0.05, key=0),
            "noise does not sum to zero",
        ),
        ("ACProp", lambda: contrib.acprop(0.002, eps=1e-8), _ELEMENTWISE),
        ("ADOPT", lambda: contrib.adopt(0.01), _ELEMENTWISE),
        ("AdEMAMix", lambda: contrib.ademamix(0.005), _ELEMENTWISE),
        (
            "simplified AdEMAMix",
            lambda: contrib.simplified_ademamix(1e-4),
            _ELEMENTWISE,
        ),
        ("COCOB", lambda: contrib.cocob(), "one bet per entry"),
        ("D-Adapt AdamW", lambda: contrib.dadapt_adamw(1.0), _ELEMENTWISE),
        ("Prodigy", lambda: contrib.prodigy(0.1), _ELEMENTWISE),
        ("MADGRAD", lambda: contrib.madgrad(0.01), _ELEMENTWISE),
        ("MoMo-Adam", lambda: contrib.momo_adam(0.01), _ELEMENTWISE),
        (
            "schedule-free AdamW",
            lambda: contrib.schedule_free_adamw(0.02),
            _ELEMENTWISE,
        ),
        (
            "Sophia (squared gradients for curvature)",
            lambda: contrib.sophia(0.01, hessian_diagonal_fn=_squared_gradients()),
            "clips single entries",
        ),
        (
            "GaLore",
            lambda: contrib.galore(0.01, rank=4, update_proj_gap=50),
            "Adam in a subspace of the inputs",
        ),
    ),
)
