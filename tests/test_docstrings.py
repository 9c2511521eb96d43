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
# Their examples build whole networks. tests/models checks the same shapes.
LONG = (
    "jaxkd.models._mobilenet_v2",
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
