"""The comparison of several runs: a table in the form of the published ones."""

from collections.abc import Sequence
from pathlib import Path

from jaxkd._errors import InvalidInputError
from jaxkd._messages import say
from jaxkd.reports import _figures
from jaxkd.reports._comparison_page import comparison_page
from jaxkd.reports._comparison_runs import Run, UnfinishedError, read_run
from jaxkd.reports._comparison_table import Table, collect
from jaxkd.reports._comparison_texts import Texts
from jaxkd.reports._escape import for_markdown
from jaxkd.reports._report_folder import COMPARISON_PAGE, check_folder, write_files


def write_comparison(
    runs: Sequence[Path], out: Path, *, baseline: str | None = None, page: bool = False
) -> str:
    """Compare finished runs in ``report.md``, ``.tex`` and ``.csv``, with curves.

    Runs that differ only in their seeds are trials of one experiment. Runs of different
    teachers, students or datasets are in different columns, by their fingerprints. Runs
    of different settings are in different rows, which name the settings. Runs without a
    teacher are the student alone of all pairs with the same network and dataset. Runs
    that cannot be compared are left out, with a line on stderr.

    Args:
        runs: Run folders.
        out: The folder to write to. An earlier comparison there is replaced.
        baseline: The method or row whose average relative improvement (ARI) over the
            others is shown; by default ``hkd+kd``, if it is among them.
        page: Whether to write ``report.html`` too, one file that needs no other.

    Returns:
        The table as Markdown.

    Raises:
        ValueError: If no run has finished or none has a teacher, if a run is damaged,
            if a seed occurs twice, if the baseline is not among the methods, or if
            ``out`` contains anything other than a comparison.
    """
    if not runs:
        raise InvalidInputError(
            "runs is empty. Give at least one run folder.", argument="runs"
        )
    check_folder(out)
    finished, left_out = _finished(runs)
    left_out += [run.remark for run in finished if run.remark]
    table = Table(collect(finished), baseline)
    left_out += [
        "left out: no run with a teacher has the network and dataset of "
        f"{group.folders[0]}"
        for group in table.unused
    ]
    for line in left_out:
        say(line)
    texts = Texts(table, left_out)
    markdown = texts.markdown()
    images, shown = _draw_curves(table)
    out_files = {
        "report.md": "\n\n".join([markdown, *shown]) + "\n",
        "report.tex": texts.latex(),
        "report.csv": texts.csv(),
    }
    if page:
        out_files[COMPARISON_PAGE] = comparison_page(table, texts)
    encoded = {name: text.encode() for name, text in out_files.items()}
    write_files(out, images | encoded)
    return markdown


def _finished(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read the runs that have finished; return them, and sentences on the others."""
    found, left_out = [], []
    for folder in folders:
        try:
            found.append(read_run(folder))
        except UnfinishedError as error:
            left_out.append(f"left out: {error}")
    if not found:
        for line in left_out:
            say(line)
        raise InvalidInputError(
            "none of the runs has finished. Continue one with --resume.",
            argument="runs",
        )
    return found, left_out


def _draw_curves(table: Table) -> tuple[dict[str, bytes], list[str]]:
    """Draw the curves of each pair; return PNG files, and Markdown that shows them."""
    labels, files, shown = table.labels(), {}, []
    for number, pair in enumerate(table.pairs, start=1):
        name = f"curves-{number}.png"
        files[name] = _figures.comparison_image(
            table.curves(pair),
            teacher_accuracy=pair.teacher_accuracy,
            title=labels[pair],
        )
        title = for_markdown(labels[pair])
        shown.append(f"![Test accuracy over the epochs, {title}]({name})")
    return files, shown
