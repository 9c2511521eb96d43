"""Run folders: write them, read them, resume them.

All knowledge of a run folder's files is in this package.
"""

from jaxkd.runs._classes import class_difference as class_difference
from jaxkd.runs._config import LOAD_OPTIONS as LOAD_OPTIONS
from jaxkd.runs._config import NetworkConfig as NetworkConfig
from jaxkd.runs._config import as_options as as_options
from jaxkd.runs._config import effective_options as effective_options
from jaxkd.runs._config import make_config as make_config
from jaxkd.runs._config import read_config as read_config
from jaxkd.runs._files import read_json as read_json
from jaxkd.runs._files import write_json as write_json
from jaxkd.runs._fingerprint import fingerprint_of as fingerprint_of
from jaxkd.runs._folder import RunFolder as RunFolder
from jaxkd.runs._load import LoadedNetwork as LoadedNetwork
from jaxkd.runs._load import describe_recorded_teacher as describe_recorded_teacher
from jaxkd.runs._load import describe_recording as describe_recording
from jaxkd.runs._load import describe_teacher as describe_teacher
from jaxkd.runs._load import load_network as load_network
from jaxkd.runs._load import load_run as load_run
from jaxkd.runs._load import save_network as save_network
from jaxkd.runs._load import source_of as source_of
from jaxkd.runs._lock import check_free as check_free
from jaxkd.runs._lock import check_out as check_out
from jaxkd.runs._lock import check_path as check_path
from jaxkd.runs._lock import hold as hold
from jaxkd.runs._metrics import MetricsWriter as MetricsWriter
from jaxkd.runs._predict import Choice as Choice
from jaxkd.runs._predict import Prediction as Prediction
from jaxkd.runs._predict import format_predictions as format_predictions
from jaxkd.runs._predict import predict as predict
from jaxkd.runs._results import read_history as read_history
from jaxkd.runs._results import read_metrics as read_metrics
from jaxkd.runs._results import read_summary as read_summary
from jaxkd.runs._resume import check_same_experiment as check_same_experiment
from jaxkd.runs._resume import discard_unsaved as discard_unsaved
from jaxkd.runs._resume import nothing_left_behind as nothing_left_behind
from jaxkd.runs._resume import restore as restore
from jaxkd.runs._summary import EMA_TEST_ACCURACY as EMA_TEST_ACCURACY
from jaxkd.runs._summary import TEST_ACCURACY as TEST_ACCURACY
from jaxkd.runs._summary import accuracies as accuracies
from jaxkd.runs._summary import accuracy_metric as accuracy_metric
from jaxkd.runs._summary import describe_accuracies as describe_accuracies
from jaxkd.runs._summary import format_accuracy as format_accuracy
from jaxkd.runs._summary import mean_and_deviation as mean_and_deviation
from jaxkd.runs._summary import select_trial as select_trial
from jaxkd.runs._summary import summarize as summarize
from jaxkd.runs._summary import top5_metric as top5_metric
from jaxkd.runs._summary import write_summary as write_summary
from jaxkd.runs._test_results import read_test_results as read_test_results
from jaxkd.runs._test_results import write_test_results as write_test_results
