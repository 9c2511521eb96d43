import doctest
import importlib
import inspect
import pkgutil

import pytest

import jaxkd

pytestmark = pytest.mark.usefixtures("quickly_compiled")
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(jaxkd.__path__, "jaxkd.")
)
PUBLIC = [name for name in MODULES if "._" not in name and "cli" not in name]
# Their examples compile more than the others. What they print is checked with the same
# functions in the tests of their folders.
LONG = (
    "jaxkd.heads._factor",
    "jaxkd.interchange._recognize",
    "jaxkd.interchange._state_dict",
    "jaxkd.losses._channel_relations",
    "jaxkd.losses._chunks",
    "jaxkd.losses._class_relations",
    "jaxkd.losses._divergences",
    "jaxkd.losses._labeled",
    "jaxkd.losses._relational",
    "jaxkd.memory._negatives",
    "jaxkd.models._efficientnet_lite",
    "jaxkd.models._fold",
    "jaxkd.models._mobilenet_v2",
    "jaxkd.models._resnet",
    "jaxkd.models._shufflenet_v1",
    "jaxkd.models._shufflenet_v2",
    "jaxkd.models._vit",
)


def test_every_long_example_is_one_of_a_module():
    assert set(LONG) <= set(MODULES)


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.slow if x in LONG else ()) for x in MODULES],
)
def test_every_example_prints_what_it_says(name):
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_has_a_docstring(name):
    module = importlib.import_module(name)
    missing = [
        public
        for public, value in vars(module).items()
        if not public.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and not inspect.getdoc(value)
    ]
    assert missing == []
