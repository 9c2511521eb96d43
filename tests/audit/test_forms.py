"""The known forms agree with the library's losses, which share no code with them."""

import jax
import numpy as np
import pytest

from jaxkd import losses
from jaxkd._audit import _forms

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SAME = {
    _forms.RIGHT[0]: lambda z, v, t: losses.soft_target_kl(z, v, temperature=t),
    _forms.RIGHT[1]: lambda z, v, t: losses.jensen_shannon(z, v, temperature=t),
    _forms.RIGHT[2]: lambda z, v, t: losses.skewed_kl(z, v, temperature=t),
    _forms.WRONG[0]: lambda z, v, t: losses.reverse_kl(z, v, temperature=t),
    _forms.RIGHT[7]: lambda z, v, t: losses.logit_matching(z, v),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "form, masked",
    [(form, masked) for form in SAME for masked in (False, form.scale != 0)],
)
def test_values_and_gradients_agree(form, masked):
    z, v = np.random.default_rng(1).normal(0, 3, (2, 5, 7))
    if masked:
        z[:, 2] = v[:, 2] = -np.inf
    t = 3.0
    factor = t**form.scale
    total = lambda z: SAME[form](z, v, t).sum()
    value, pull_back = jax.vjp(jax.jit(total), z)
    (gradient,) = pull_back(np.float64(1.0))
    column = np.full((5, 1), t)
    with np.errstate(invalid="ignore"):  # -inf - -inf in masked classes
        got = form.value(z, v, column).sum(), form.gradient(z, v, column)
    np.testing.assert_allclose(factor * got[0], value, rtol=1e-10)
    np.testing.assert_allclose(factor * got[1], gradient, atol=1e-10)


@pytest.mark.parametrize("kept", [2, 5])
def test_the_top_classes_are_those_of_the_teacher(kept):
    z, v = np.random.default_rng(2).normal(0, 2, (2, 4, 8))
    got = _forms.top_classes(kept).value(z, v, np.ones((4, 1)))
    for row in range(4):
        top = np.argsort(v[row])[-kept:]
        rows = z[None, row, top], v[None, row, top], np.ones((1, 1))
        wanted = _forms.RIGHT[0].value(*rows)
        np.testing.assert_allclose(got[row], wanted[0], rtol=1e-12)


@pytest.mark.parametrize("name", _forms.GUARDS)
def test_a_guard_limits_the_loss(name):
    z, v = np.array([[0.0, 1e3]]), np.array([[1e3, 0.0]])
    value = _forms.guarded(name, 1e-6)(z, v, np.ones((1, 1)))
    np.testing.assert_allclose(value, -np.log(1e-6), rtol=1e-5)
