"""The optimizers of optax, and what each does to the class sums of a classifier.

Left out are those that need more than parameters, gradient, value and objective
(``lookahead``, ``dpsgd``), and wrappers that do not change an update on their own
(``apply_if_finite``, ``inject_hyperparams``, ``reduce_on_plateau``).
"""

import enum
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import optax
from optax import contrib

DECAY = 0.05
"""Weight decay of the variants that have one; large, to be seen within 200 steps."""


class Law(enum.Enum):
    """What becomes of the sums over the classes, whose gradient is zero."""

    CONSERVED = "conserved"
    """They stay."""

    DECAYS = "decays"
    """They follow the optimizer's own recursion for a gradient of zero."""

    SCALED = "scaled"
    """They keep their direction; their factor depends on norms of gradients and
    parameters, so on the whole training. A single sum does that trivially."""

    BROKEN = "broken"
    """They move although their gradient is zero."""


class Optimizer(NamedTuple):
    """A row of the table.

    Attributes:
        name: As a reader would write it.
        make: Builds it.
        kernel: Law of the class sums of a kernel ``[in, classes]``.
        bias: Law of the class sum of a bias ``[classes]``.
        why: The reason, in a line.
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
    """Decay enters as a gradient."""
    return optax.chain(optax.add_decayed_weights(DECAY), optimizer)


def _before_sgd(
    transformation: optax.GradientTransformation, rate: float
) -> optax.GradientTransformation:
    return optax.chain(transformation, optax.sgd(rate, momentum=0.9))


def _decoupled_momentum() -> optax.GradientTransformation:
    """SGDW: decay passes by the momentum."""
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

    def update(updates, state, params=None):  # SAM takes no other arguments
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
    """One optimizer for the classifier, another for everything below it.

    Args:
        body: For what is not under a key ``head`` or ``classifier``.
        head: For what is.
    """

    def part(path: tuple[Any, ...], leaf: Any) -> str:
        del leaf
        names = {getattr(entry, "key", getattr(entry, "name", None)) for entry in path}
        return "head" if names & {"head", "classifier"} else "body"

    def parts(tree):
        return jax.tree_util.tree_map_with_path(part, tree)

    return optax.partition({"body": body, "head": head}, parts)


_C, _D, _S, _B = Law.CONSERVED, Law.DECAYS, Law.SCALED, Law.BROKEN

_EVERY_NUMBER = "scales every number by its own history"
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
            "one step size; its decay only enters that",
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
            "orthogonalising is a factor on the features",
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
        ("SGD + L2", lambda: _with_l2(optax.sgd(0.2)), "factor 1 - ηλ a step"),
        (
            "momentum + L2",
            lambda: _with_l2(optax.sgd(0.02, momentum=0.9)),
            "v = μv + λs, s = s - ηv",
        ),
        (
            "Nesterov + L2",
            lambda: _with_l2(optax.sgd(0.02, momentum=0.9, nesterov=True)),
            "as momentum + L2, looking ahead",
        ),
        ("momentum, decoupled decay", _decoupled_momentum, "factor 1 - ηλ a step"),
        (
            "clip_by_global_norm, then L2",
            lambda: optax.chain(
                optax.clip_by_global_norm(0.1), _with_l2(optax.sgd(0.1, momentum=0.9))
            ),
            "as momentum + L2: what is clipped has no sum",
        ),
        ("Fromage", lambda: optax.fromage(0.02), "factor 1/√(1 + η²) a step"),
        (
            "NovoGrad + decay",
            lambda: optax.novograd(0.005, weight_decay=DECAY),
            "as momentum + L2",
        ),
        (
            "MoMo + decay",
            lambda: contrib.momo(0.2, weight_decay=DECAY),
            "factor 1/(1 + ηλ) a step",
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
            "kernel: factor 1 - ηλ a step; the bias goes to Adam",
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
            "kernel: a factor on the features; the bias goes to Adam",
        ),
    ),
    *_rows(
        _B,
        _C,
        (
            "adaptive_grad_clip",
            lambda: _before_sgd(optax.adaptive_grad_clip(0.01), 0.1),
            "kernel: one factor per class; bias: one for the whole",
        ),
    ),
    *_rows(
        _B,
        _B,
        ("Adam", lambda: optax.adam(0.01), _EVERY_NUMBER),
        ("AdamW", lambda: optax.adamw(0.01, weight_decay=DECAY), _EVERY_NUMBER),
        ("NAdam", lambda: optax.nadam(0.01), _EVERY_NUMBER),
        ("NAdamW", lambda: optax.nadamw(0.01), _EVERY_NUMBER),
        ("RAdam", lambda: optax.radam(0.01), _EVERY_NUMBER),
        ("AMSGrad", lambda: optax.amsgrad(0.01), _EVERY_NUMBER),
        ("Adamax", lambda: optax.adamax(0.01), _EVERY_NUMBER),
        ("AdamaxW", lambda: optax.adamaxw(0.01), _EVERY_NUMBER),
        ("AdaBelief", lambda: optax.adabelief(0.01), _EVERY_NUMBER),
        ("Adan", lambda: optax.adan(0.01), _EVERY_NUMBER),
        ("Yogi", lambda: optax.yogi(0.01), _EVERY_NUMBER),
        ("optimistic Adam", lambda: optax.optimistic_adam_v2(0.01), _EVERY_NUMBER),
        ("RMSProp", lambda: optax.rmsprop(0.01), _EVERY_NUMBER),
        ("Adagrad", lambda: optax.adagrad(0.05), _EVERY_NUMBER),
        ("Adadelta", lambda: optax.adadelta(1.0), _EVERY_NUMBER),
        ("Adafactor", lambda: optax.adafactor(0.01), _EVERY_NUMBER),
        (
            "Adafactor, factored",
            lambda: optax.adafactor(0.01, min_dim_size_to_factor=2),
            "one factor per class and input",
        ),
        ("SM3", lambda: optax.sm3(0.05), "one accumulator per class and input"),
        ("LAMB", lambda: optax.lamb(0.01), "Adam's direction"),
        ("Lion", lambda: optax.lion(0.002, weight_decay=0.0), _SIGN),
        ("sign SGD", lambda: optax.sign_sgd(0.002), _SIGN),
        ("signum", lambda: optax.signum(0.002), _SIGN),
        ("Rprop", lambda: optax.rprop(0.001), _SIGN),
        ("clip", lambda: _before_sgd(optax.clip(0.002), 0.1), "cuts single numbers"),
        (
            "noisy SGD",
            lambda: optax.noisy_sgd(0.05, key=0),
            "noise does not sum to zero",
        ),
        ("ACProp", lambda: contrib.acprop(0.002, eps=1e-8), _EVERY_NUMBER),
        ("ADOPT", lambda: contrib.adopt(0.01), _EVERY_NUMBER),
        ("AdEMAMix", lambda: contrib.ademamix(0.005), _EVERY_NUMBER),
        (
            "simplified AdEMAMix",
            lambda: contrib.simplified_ademamix(1e-4),
            _EVERY_NUMBER,
        ),
        ("COCOB", lambda: contrib.cocob(), "one bet per number"),
        ("D-Adapt AdamW", lambda: contrib.dadapt_adamw(1.0), _EVERY_NUMBER),
        ("Prodigy", lambda: contrib.prodigy(0.1), _EVERY_NUMBER),
        ("MADGRAD", lambda: contrib.madgrad(0.01), _EVERY_NUMBER),
        ("MoMo-Adam", lambda: contrib.momo_adam(0.01), _EVERY_NUMBER),
        (
            "schedule-free AdamW",
            lambda: contrib.schedule_free_adamw(0.02),
            _EVERY_NUMBER,
        ),
        (
            "Sophia (squared gradients for curvature)",
            lambda: contrib.sophia(0.01, hessian_diagonal_fn=_squared_gradients()),
            "cuts single numbers",
        ),
        (
            "GaLore",
            lambda: contrib.galore(0.01, rank=4, update_proj_gap=50),
            "Adam in a subspace of the inputs",
        ),
    ),
)
