import pytest


@pytest.fixture(scope="module", autouse=True)
def _quickly(quickly_compiled):
    """Nearly all the time of these tests is XLA's."""
