import json
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from jaxkd import training
from jaxkd._errors import InvalidInputError

EPOCHS = [
    {
        "epoch": epoch,
        "train/loss": 4 / epoch,
        "train/accuracy": epoch / 20,
        "train/learning_rate": 0.1 / epoch,
        "test/loss": 5 / epoch,
        "test/accuracy": epoch / 25,
    }
    for epoch in range(1, 21)
]


def curves(axes):
    return {line.get_label(): line.get_ydata() for line in axes.lines}


def test_a_history_is_a_list_of_records():
    history = training.History(EPOCHS)
    assert history == EPOCHS
    assert history[-1]["test/accuracy"] == 0.8
    assert json.loads(json.dumps(history)) == EPOCHS


def test_a_slice_of_a_history_is_one():
    assert isinstance(training.History(EPOCHS)[3:], training.History)
    assert training.History(EPOCHS)[3:] == EPOCHS[3:]


def test_loss_accuracy_and_learning_rate_are_drawn():
    loss, accuracy, rate = training.History(EPOCHS).plot().axes
    np.testing.assert_allclose(curves(loss)["test"], [5 / e for e in range(1, 21)])
    np.testing.assert_allclose(
        curves(accuracy)["train"], [100 * e / 20 for e in range(1, 21)]
    )
    assert rate.get_ylabel() == "learning rate"


def test_what_is_not_recorded_is_not_drawn():
    (axes,) = training.History([{"epoch": 1, "train/loss": 1.0}]).plot().axes
    assert list(curves(axes)) == ["train"]


def test_epochs_without_an_evaluation_are_left_out_of_its_curve():
    records = [{"epoch": e, "train/loss": 1.0} for e in range(1, 5)]
    records[1]["test/loss"] = records[3]["test/loss"] = 2.0
    (axes,) = training.History(records).plot().axes
    test = next(line for line in axes.lines if line.get_label() == "test")
    np.testing.assert_array_equal(test.get_xdata(), [2, 4])


def test_a_band_shows_the_range_of_the_trials():
    records = [
        {"epoch": e, "train/loss": 2.0, "trials": {"train/loss": [1.0, 3.0]}}
        for e in (1, 2)
    ]
    (axes,) = training.History(records).plot().axes
    (band,) = axes.collections
    assert set(band.get_paths()[0].vertices[:, 1]) == {1.0, 3.0}


def test_nothing_cannot_be_drawn():
    with pytest.raises(InvalidInputError, match="no epochs"):
        training.History().plot()


def test_a_figure_is_a_picture_in_a_notebook():
    figure = training.History(EPOCHS).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_history_of_any_length_has_a_short_repr():
    assert repr(training.History(EPOCHS)) == (
        "History(epochs=20, last={'train/loss': 0.2, 'train/accuracy': 1.0, "
        "'test/loss': 0.25, 'test/accuracy': 0.8})"
    )
    assert repr(training.History()) == "History(epochs=0)"


def test_a_notebook_shows_the_first_and_last_epochs_in_a_table():
    page = training.History(EPOCHS)._repr_html_()
    assert page.count("<tr>") == 1 + 3 + 1 + 7
    assert "<td>20</td>" in page
    assert "<td>10</td>" not in page
    assert training.History(EPOCHS[:11])._repr_html_().count("<tr>") == 1 + 11


def test_training_does_not_load_matplotlib():
    code = "import sys\nfrom jaxkd import training\ntraining.fit\n"
    code += "sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


CELLS = (
    "import warnings\n"
    "warnings.simplefilter('error')\n"
    "warnings.simplefilter('ignore', PendingDeprecationWarning)\n"
    "import optax\n"
    "from jaxkd import data, distillers, models, training\n"
    "dataset = data.load('digits')\n"
    "def build(rngs):\n"
    "    return models.build('mlp', num_classes=10, image_shape=(8, 8, 1), rngs=rngs)\n"
    "program = training.compile_program(\n"
    "    build, dataset, distillers.cross_entropy(), optimizer=optax.adam(1e-3)\n"
    ")",
    "loop, history = training.fit(program, program.start(0), epochs=2)",
    "loop, history = training.fit(program, loop, epochs=3, progress=False)",
    "history.plot()",
    "history",
    "loop",
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The cells of a notebook that trained."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS]
    )
    place = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    NotebookClient(notebook, timeout=180, resources=place).execute()
    return notebook.cells


@pytest.mark.slow
def test_fit_shows_one_bar_in_a_notebook_that_ends_full(cells):
    (output,) = cells[1].outputs  # nothing on stderr: no warning
    page = output.data["text/html"]
    assert '<progress value="46" max="46">' in page
    assert "epoch 2/2 · test " in page
    assert " · in 0:" in page


@pytest.mark.slow
def test_a_notebook_shows_no_bar_if_told_so(cells):
    assert cells[2].outputs == []


@pytest.mark.slow
def test_a_notebook_shows_the_plot_and_the_table(cells):
    assert "image/png" in cells[3].outputs[0].data
    assert "<table>" in cells[4].outputs[0].data["text/html"]
    assert cells[5].outputs[0].data["text/plain"] == "LoopState(step=69)"
