import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxkd import losses
from proofs_checks import Settings, t09_conservation
from proofs_checks._class_sums import (
    CENTERED,
    UNCENTERED,
    History,
    Sums,
    own_recursions,
)
from proofs_checks._evidence import Verdict
from proofs_checks._optimizers import DECAY, OPTIMIZERS, Law, Optimizer, body_and_head

SETTINGS = Settings()
STEPS = 20
BY_NAME = {optimizer.name: optimizer for optimizer in OPTIMIZERS}


def declared(name, law):
    """A row of the table with another law."""
    return BY_NAME[name]._replace(kernel=law, bias=law)


def decay_by_feature():
    """Each feature's weights decay at a rate of their own: the sums turn."""

    def decay(grads, params):
        rates = jnp.linspace(0.0, 1.0, 8)[:, None]
        head = params["head"]["kernel"]
        grads["head"]["kernel"] += rates * head
        return grads

    return optax.chain(optax.stateless(decay), optax.sgd(0.1))


WRONG = (
    declared("Adam", Law.CONSERVED),
    declared("SGD + L2", Law.CONSERVED)._replace(name="SGD + L2, to stay"),
    declared("LARS + L2", Law.DECAYS),
    Optimizer("turning", decay_by_feature, Law.SCALED, Law.CONSERVED, ""),
    declared("SGD", Law.BROKEN),
)
RIGHT = tuple(BY_NAME[name] for name in ("momentum", "SGD + L2", "Muon"))


@pytest.fixture(scope="module")
def table():
    """Outcomes of a short training, by name; some declared wrongly."""
    found = t09_conservation.outcomes(SETTINGS, (*WRONG, *RIGHT), STEPS)
    return {outcome.optimizer.name: outcome for outcome in found}


@pytest.mark.slow
def test_every_optimizer_keeps_to_its_law():
    claims = list(t09_conservation.claims(SETTINGS))
    controls = list(t09_conservation.controls(SETTINGS))
    assert {item.verdict for item in claims} == {Verdict.HOLDS}
    assert {item.verdict for item in controls} == {Verdict.REFUTED}
    assert [row["optimizer"] for row in claims[0].table] == [o.name for o in OPTIMIZERS]
    assert set(claims[0].series) == set(t09_conservation.PLOTTED)


@pytest.mark.parametrize("name", ["Adam", "SGD + L2, to stay", "LARS + L2", "turning"])
def test_a_wrong_law_is_seen(name, table):
    assert table[name].drift[0, UNCENTERED] > t09_conservation.MOVES


@pytest.mark.parametrize("name", ["momentum", "SGD + L2"])
def test_a_right_law_is_kept_from_both_starts(name, table):
    assert table[name].drift.max() < 1e-14


@pytest.mark.slow
def test_float32_keeps_the_laws_to_its_rounding():
    settings = Settings(dtype="float32")
    for outcome in t09_conservation.outcomes(settings, RIGHT[:2], STEPS):
        assert 0 < outcome.drift.max() < 1e-6


def test_muon_conserves_the_sums_of_the_kernel_alone(table):
    kernel, bias = table["Muon"].drift
    assert kernel.max() < 1e-13
    assert bias.min() > t09_conservation.MOVES


def test_weight_decay_leaves_sums_of_zero_alone(table):
    change = table["SGD + L2"].change
    assert change[:, CENTERED].max() < 1e-15
    assert change[:, UNCENTERED].min() > t09_conservation.MOVES


def test_one_row_that_breaks_its_law_fails_the_claim_and_is_named():
    rows = (*WRONG, *RIGHT)
    first = next(t09_conservation.claims(SETTINGS, rows, STEPS))
    assert first.verdict is Verdict.FAILS
    assert first.worst["optimizer"] == "Adam"
    # The report names the sums that break the law, and the first step that does.
    assert "'Adam/bias'" in first.detail
    assert "indices:; [1, 0, 0]: " in first.detail


def test_one_row_that_conserves_against_its_law_fails_the_control():
    rows = (*WRONG, *RIGHT)
    first = next(t09_conservation.controls(SETTINGS, rows, STEPS))
    assert first.verdict is Verdict.NOT_REFUTED
    assert first.worst["optimizer"] == "SGD"


def test_a_training_that_diverges_is_no_evidence():
    samples = [t09_conservation.Sample(x, {"value": x}) for x in (np.nan, 1.0)]
    assert t09_conservation._smallest(samples).measured == 0.0
    assert t09_conservation._largest(samples).measured == np.inf


# `test_a_wrong_law_is_seen[Adam]` shows with five classes what three show here.
@pytest.mark.parametrize(
    "classes, moves", [(2, False), pytest.param(3, True, marks=pytest.mark.slow)]
)
def test_two_classes_are_conserved_by_adam_and_three_are_not(classes, moves):
    rows = (declared("Adam", Law.CONSERVED),)
    (outcome,) = t09_conservation.outcomes(SETTINGS, rows, STEPS, classes)
    assert (outcome.drift.max() > t09_conservation.MOVES) == moves
    assert (outcome.drift.max() < 1e-14) != moves


def test_a_loss_that_sees_the_mean_moves_the_sums(monkeypatch):
    def matching(student, teacher, *, temperature):
        return losses.logit_matching(student, teacher)

    monkeypatch.setattr(losses, "soft_target_kl", matching)
    t09_conservation.outcomes.cache_clear()
    (outcome,) = t09_conservation.outcomes(SETTINGS, (BY_NAME["SGD"],), STEPS)
    t09_conservation.outcomes.cache_clear()
    assert outcome.drift.min() > t09_conservation.MOVES


def sums_from(start, steps):
    """A history of which only the start and the length matter."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(steps + 1, 2, 8, 5))
    bias = rng.normal(size=(steps + 1, 2, 5))
    kernel[0] += (start - kernel[0].sum(-1, keepdims=True)) / 5
    bias[0] += (start - bias[0].sum(-1, keepdims=True)) / 5
    return History(kernel, bias, *np.zeros((3, steps + 1, 2)))


def two_term(rate, momentum):
    """Momentum with L2 on one number: v = momentum v + decay s, s = s - rate v."""
    value, velocity, found = 1.5, 0.0, []
    for _ in range(STEPS + 1):
        found.append(value)
        velocity = momentum * velocity + DECAY * value
        value -= rate * velocity
    return found


EXPECTED = {
    "SGD + L2": 1.5 * (1 - 0.2 * DECAY) ** np.arange(STEPS + 1),
    "momentum + L2": two_term(0.02, 0.9),
    "clip_by_global_norm, then L2": two_term(0.1, 0.9),
    "NovoGrad + decay": two_term(0.005, 0.9),
    "momentum, decoupled decay": 1.5 * (1 - 0.02 * DECAY) ** np.arange(STEPS + 1),
    "Fromage": 1.5 * (1 + 0.02**2) ** (-np.arange(STEPS + 1) / 2),
    "MoMo + decay": 1.5 * (1 + 0.2 * DECAY) ** -np.arange(STEPS + 1.0),
}


@pytest.fixture(scope="module")
def recursions():
    histories = {name: sums_from(1.5, STEPS) for name in EXPECTED}
    rows = [BY_NAME[name] for name in EXPECTED]
    return own_recursions(rows, histories, SETTINGS)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_recursion_of_the_sums_is_the_known_one(name, recursions):
    expected = np.asarray(EXPECTED[name])
    sums = Sums(
        kernel=np.broadcast_to(expected[:, None, None], (STEPS + 1, 2, 8)),
        bias=np.broadcast_to(expected[:, None], (STEPS + 1, 2)),
    )
    chex.assert_trees_all_close(recursions[name], sums, rtol=1e-13)


def test_names_are_unique_and_every_plotted_one_is_in_the_table():
    assert len(BY_NAME) == len(OPTIMIZERS)
    chosen = {*t09_conservation.PLOTTED, *t09_conservation.ODD_ELEMENTWISE}
    assert chosen <= set(BY_NAME)


@pytest.mark.parametrize("head", ["head", "classifier"])
def test_body_and_head_get_an_optimizer_each(head):
    params = {"student": {head: {"kernel": jnp.ones(3)}, "layer": jnp.ones(3)}}
    optimizer = body_and_head(optax.sgd(1.0), optax.sgd(2.0))
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    expected = {"student": {head: {"kernel": -2 * jnp.ones(3)}, "layer": -jnp.ones(3)}}
    chex.assert_trees_all_equal(updates, expected, strict=True)
