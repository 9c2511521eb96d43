"""Groups of options that several commands share.

Imports no JAX, so that ``--help`` is fast. Each group is one box of the help text, and
the options most people need come first in it. ``data``, ``optimizer``, ``devices`` and
``hkd`` are stored in a run's ``config.json`` under these names; the other groups are
stored at its top level.
"""

from jaxkd.cli._option_groups._data import Background as Background
from jaxkd.cli._option_groups._data import DataOptions as DataOptions
from jaxkd.cli._option_groups._data import RowOptions as RowOptions
from jaxkd.cli._option_groups._data import TestResize as TestResize
from jaxkd.cli._option_groups._data import ValueRange as ValueRange
from jaxkd.cli._option_groups._method import HolisticOptions as HolisticOptions
from jaxkd.cli._option_groups._method import MethodOptions as MethodOptions
from jaxkd.cli._option_groups._networks import NetworkOptions as NetworkOptions
from jaxkd.cli._option_groups._networks import TeacherOptions as TeacherOptions
from jaxkd.cli._option_groups._optimizer import OptimizerOptions as OptimizerOptions
from jaxkd.cli._option_groups._option import option as option
from jaxkd.cli._option_groups._recording import RecordingOptions as RecordingOptions
from jaxkd.cli._option_groups._run import DeviceOptions as DeviceOptions
from jaxkd.cli._option_groups._run import OutputOptions as OutputOptions
from jaxkd.cli._option_groups._run import RunOptions as RunOptions
