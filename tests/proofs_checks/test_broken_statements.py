"""A loss that is broken in one place fails the certificate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import proofs_checks
from jaxkd import losses
from proofs_checks import Settings

pytestmark = pytest.mark.slow


def plain(student, teacher, temperature):
    log_p = jax.nn.log_softmax(teacher / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    return jnp.exp(log_p), log_p, log_q


def no_factor(student, teacher, *, temperature, stop_teacher_gradient=True):
    p, log_p, log_q = plain(student, teacher, temperature)
    return jnp.sum(p * (log_p - log_q), axis=-1)


def canceling(student, teacher, *, temperature, stop_teacher_gradient=True):
    return temperature**2 * no_factor(student, teacher, temperature=temperature)


def reversed_roles(student, teacher, *, temperature, stop_teacher_gradient=True):
    return exact(teacher, student, temperature=temperature, stop_teacher_gradient=False)


def sees_the_mean(student, teacher, *, temperature, stop_teacher_gradient=True):
    gap = jnp.mean(student - teacher, axis=-1)
    loss = exact(student, teacher, temperature=temperature, stop_teacher_gradient=False)
    return loss + 1e-6 * gap


def a_thousandth_more(student, teacher, *, temperature, stop_teacher_gradient=True):
    loss = exact(student, teacher, temperature=temperature, stop_teacher_gradient=False)
    return 1.001 * loss


exact = losses.soft_target_kl


@pytest.mark.parametrize(
    "broken, name",
    [
        (no_factor, "T3"),
        (canceling, "T3"),
        (a_thousandth_more, "T5"),
        (reversed_roles, "T6"),
        (sees_the_mean, "T1"),
        (a_thousandth_more, "T2"),
        (a_thousandth_more, "T8"),
    ],
)
def test_a_broken_loss_fails_the_certificate(broken, name, monkeypatch):
    monkeypatch.setattr(losses, "soft_target_kl", broken)
    certificate = proofs_checks.verify(Settings(cases=2500), [name])
    assert not certificate.holds
    assert any(line.startswith(name) for line in certificate.failures())


def renormalized(student, values, indices, *, remainder, temperature):
    del remainder
    return exact(student[indices], values, temperature=temperature)


def without_remainder(student, values, indices, *, remainder, temperature):
    nothing = jnp.full_like(remainder, -jnp.inf)
    return sparse(student, values, indices, remainder=nothing, temperature=temperature)


sparse = losses.sparse_soft_target_kl


@pytest.mark.parametrize("broken", [renormalized, without_remainder])
def test_a_broken_loss_of_the_largest_logits_fails_the_certificate(broken, monkeypatch):
    jax.clear_caches()  # the check compiles its losses once
    monkeypatch.setattr(losses, "sparse_soft_target_kl", broken)
    certificate = proofs_checks.verify(Settings(), ["T15"])
    jax.clear_caches()
    assert any("L_T = L_K" in line for line in certificate.failures())


def test_a_failure_names_a_case_that_shows_it(monkeypatch):
    monkeypatch.setattr(losses, "soft_target_kl", a_thousandth_more)
    certificate = proofs_checks.verify(Settings(cases=2500, seed=2), ["T3"])
    (result,) = certificate.results
    worst = result.claims[0].worst
    assert f"logit_case({worst['case']}, seed=2" in certificate.failures()[0]
    student, teacher, temperature = proofs_checks.logit_case(worst["case"], seed=2)
    reach = max(np.ptp(student), np.ptp(teacher)) / temperature
    half = 0.5 * (student - teacher).var()
    with jax.enable_x64(True):
        loss = a_thousandth_more(student, teacher, temperature=temperature)
    assert np.log(float(loss) / half) > reach
