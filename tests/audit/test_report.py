"""The report of an audit, the arguments of ``jaxkd.audit``, and the fixture."""

import json
import subprocess
import sys

import audited_losses
import jax.numpy as jnp
import pytest

import jaxkd
from experiments.audits.mistakes import batch_sum
from jaxkd import losses

pytestmark = pytest.mark.usefixtures("quickly_compiled")

pytest_plugins = ["pytester"]


@pytest.fixture(scope="module")
def faulty():
    return jaxkd.audit(batch_sum)


@pytest.fixture(scope="module")
def clean():
    return jaxkd.audit(audited_losses.matching, except_="zero-sum")


def test_the_json_has_every_check_and_finding(faulty):
    content = json.loads(faulty.to_json())
    assert content["loss"] == "batch_sum"
    assert content["clean"] is False
    assert content["kind"] == "logits"
    assert content["temperature"] == "temperature"
    assert [x["check"] for x in content["checks"]] == list(jaxkd._audit.CHECKS)
    assert {x["verdict"] for x in content["checks"]} <= {
        *("clean", "fault", "note", "skipped")
    }
    keys = {"check", "mistake", "text", "measured", "expected", "where", "remedy"}
    assert all({*x} == keys | {"fault"} for x in content["findings"])
    assert {*content["series"]} == {"temperature", "value", "gradient"}
    assert content["environment"]["jax"]
    assert content["seconds"] > 0.0


def test_the_markdown_names_each_fault_and_its_fix(faulty):
    text = faulty.to_markdown()
    assert "## batch-sum (fault)" in text
    assert "Fix: return one value per example" in text


def test_a_report_is_short_in_a_notebook(faulty, clean):
    assert repr(clean) == "AuditReport(matching: clean)"
    assert repr(faulty).startswith("AuditReport(batch_sum: ")
    assert "batch-sum" in repr(faulty)


def test_a_faulty_report_raises(faulty, clean):
    clean.raise_if_unclean()
    with pytest.raises(AssertionError, match="batch-sum: the loss is summed"):
        faulty.raise_if_unclean()


def test_the_plot_shows_errors_over_the_temperature(faulty):
    (axes,) = faulty.plot().axes
    assert axes.get_xlabel() == "temperature"
    assert len(axes.get_lines()) == 3  # value, gradient, and the line of 1%


def test_the_plot_of_a_loss_without_temperature_is_over_the_size(clean):
    (axes,) = clean.plot().axes
    assert axes.get_xlabel() == "size of the inputs"


def test_an_exception_implies_others(clean):
    assert clean.excepted == ("zero-sum", "masks")


@pytest.mark.parametrize(
    "options, says",
    [
        ({"except_": "zero-sums"}, "unknown check 'zero-sums'; did you mean"),
        ({"kind": "logit"}, "unknown kind 'logit'; did you mean 'logits'"),
        ({"temperature": "tau"}, "has no parameter of this name"),
        ({"settings": {"weight": 1.0}}, "cannot be called as f(student_logits"),
        ({"classes": 0}, "classes must be at least 1, got 0"),
    ],
)
def test_a_wrong_option_is_refused(options, says):
    with pytest.raises(jaxkd.InvalidInputError) as caught:
        jaxkd.audit(audited_losses.matching, **options)
    assert says in str(caught.value)


def no_array(student, teacher):
    return "a loss"


@pytest.mark.parametrize(
    "loss, says",
    [
        (audited_losses.of_numpy, "JAX cannot differentiate of_numpy"),
        (audited_losses.with_labels, "missing 1 required positional argument"),
        (no_array, "must return an array of floating-point numbers, got 'a loss'"),
        (losses.info_nce, "takes scores of a positive and of negatives"),
    ],
)
def test_a_loss_that_cannot_be_audited_is_refused(loss, says):
    with pytest.raises(jaxkd.InvalidInputError) as caught:
        jaxkd.audit(loss)
    assert says in str(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_something_else_than_a_function_is_refused():
    with pytest.raises(jaxkd.InvalidTypeError, match="must be a function, got 3"):
        jaxkd.audit(3)


def test_a_declared_loss_takes_no_other_kind():
    with pytest.raises(jaxkd.InvalidInputError, match="Leave the kind out"):
        jaxkd.audit(losses.logit_matching, kind="labeled")


def test_settings_are_given_to_the_loss():
    def scaled(student, teacher, *, weight):
        d = (student - teacher).astype(jnp.float32)
        return weight * jnp.square(d).mean(-1)

    report = jaxkd.audit(scaled, settings={"weight": 0.25})
    assert "0.5 times mean (z - v)²" in report.outcomes[0].summary


def test_importing_jaxkd_imports_no_jax():
    code = "import sys, jaxkd, jaxkd._pytest_plugin; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_fixture_passes_and_fails_with_the_table(pytester):
    pytester.makepyfile(
        """
        import jax.numpy as jnp
        import jax

        def matching(student, teacher):
            d = student - jax.lax.stop_gradient(teacher)
            return 0.5 * jnp.square(d.astype(jnp.float32)).mean(-1)

        def test_clean(audit_loss):
            assert audit_loss(matching, except_="zero-sum").clean

        def test_faulty(audit_loss):
            audit_loss(matching)
        """
    )
    # As if it were not installed, and then by its module.
    plugins = ("no:jaxkd", "jaxkd._pytest_plugin", "no:xdist", "no:cacheprovider")
    result = pytester.runpytest_inprocess(*(x for p in plugins for x in ("-p", p)))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "jaxkd audit of matching (logits; one value per example)",
            "*zero-sum*FAULT*",
            "FAULT gradient-moves-the-mean: *",
            "  fix: subtract each row's mean*",
        ]
    )
