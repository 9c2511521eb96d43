"""What derives from the metadata of losses and methods."""

from pathlib import Path

import pytest

from experiments import zoo_pages
from jaxkd import distillers, losses

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["methods.md", "invariances.md"])
def test_the_pages_are_what_the_code_says(name):
    page = (DOCS / name).read_text()
    assert page == zoo_pages.pages()[name], "run: python -m experiments.zoo_pages"


def test_every_loss_and_every_method_is_public():
    for declaration in losses.INVARIANCES:
        assert getattr(losses, declaration.loss.__name__) is declaration.loss
    for method in distillers.METHODS:
        assert getattr(distillers, method.build.__name__) is method.build


def test_every_method_but_training_without_a_teacher_cites_a_paper():
    cited = [m.part for m in distillers.METHODS if zoo_pages.reference(m)]
    assert {m.part for m in distillers.METHODS} - set(cited) == {"ce"}


def test_a_method_gives_its_own_part_a_weight():
    for method in distillers.METHODS:
        assert method.weights.keys() <= {"ce", "kd", method.part}
        assert method.weights[method.part] > 0


def test_families_have_the_same_names_on_both_sides():
    family = lambda function: function.__module__.rpartition(".")[2]
    homes = {family(declaration.loss) for declaration in losses.INVARIANCES}
    assert homes <= {family(method.build) for method in distillers.METHODS}
