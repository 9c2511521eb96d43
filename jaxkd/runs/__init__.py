"""Run folders: write them, read them, resume them."""

from jaxkd.runs._load import LoadedNetwork as LoadedNetwork
from jaxkd.runs._load import NetworkConfig as NetworkConfig
from jaxkd.runs._load import load_run as load_run
from jaxkd.runs._load import read_config as read_config
from jaxkd.runs._metrics import MetricsWriter as MetricsWriter
from jaxkd.runs._metrics import read_metrics as read_metrics
