"""The model zoo. Every model returns a :class:`ModelOutput`."""

from jaxkd.models._output import ModelOutput as ModelOutput
