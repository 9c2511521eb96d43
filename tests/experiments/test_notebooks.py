import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "experiments" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 400_000  # bytes; code hosts refuse to render large ones
SECONDS_A_CELL = 180  # hangs are stopped; what is slow is seen in --durations
# A path from the root: not one that starts with .. or a host's name, nor a fraction.
ABSOLUTE = re.compile(r"""(?<![\w.\-)\]}:/\\$])(?:/[\w.\-]+){2,}|\b[A-Za-z]:\\+\w""")
# A cell before the first. Not in the kernel's environment, where some versions would
# not start; and ipykernel warns of itself on its way out, and would then not go.
WARNINGS_ARE_ERRORS = """\
import warnings
warnings.simplefilter("error")
warnings.simplefilter("ignore", PendingDeprecationWarning)
"""

every_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: path.stem.partition("_")[2]
)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def faults(notebook):
    """Errors, and what was written to stderr."""
    found = []
    for output in outputs(notebook):
        if output.output_type == "error":
            found.append(f"{output.ename}: {output.evalue}")
        elif output.get("name") == "stderr":
            found.append(output.text)
    return found


def texts(notebook):
    """All that a reader can read, pictures left out."""
    for cell in notebook.cells:
        yield cell.source
    for output in outputs(notebook):
        yield output.get("text", "")
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield str(content)


@pytest.fixture
def no_settings_of_the_user(monkeypatch, tmp_path):
    """The kernel is that of this interpreter, and starts with its defaults."""
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.usefixtures("no_settings_of_the_user")
@every_notebook
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path):
    notebook = read(path)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(WARNINGS_ARE_ERRORS))
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=SECONDS_A_CELL, resources=place).execute()
    assert faults(notebook) == []


@every_notebook
def test_a_stored_notebook_ran_once_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in code_cells(read(path))]
    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_a_stored_notebook_shows_pictures_and_no_faults(path):
    notebook = read(path)
    assert faults(notebook) == []
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


@every_notebook
def test_a_stored_notebook_is_valid_and_light(path):
    nbformat.validate(read(path))
    assert path.stat().st_size < LARGEST


@every_notebook
def test_a_stored_notebook_tells_nothing_of_the_machine(path):
    notebook = read(path)
    assert [match for text in texts(notebook) for match in ABSOLUTE.findall(text)] == []
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert [dict(cell.metadata) for cell in notebook.cells if cell.metadata] == []


@every_notebook
def test_links_of_a_notebook_lead_somewhere(path):
    prose = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    targets = re.findall(r"\]\(([^)#]+)", "\n".join(prose))
    missing = [
        target
        for target in targets
        if not target.startswith("http") and not (path.parent / target).exists()
    ]
    assert targets
    assert missing == []
