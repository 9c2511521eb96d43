"""The page of a comparison: one file, with what the pages of the runs measured."""

import json

import numpy as np
import pytest
from comparison_support import make_run
from page_support import Page

from jaxkd import cli, reports

NAMES = ("counts", "confidences", "correct")


def measure(run, *, student, teacher=None, agreement=None):
    """Write what the page of a run says, with lists over two bins."""
    networks = {"student": student, "teacher": teacher}
    results = {
        "step": 2,
        "trial": 0,
        "calibration": {
            name: dict(zip(NAMES, bins, strict=True))
            for name, bins in networks.items()
            if bins
        },
    }
    if agreement:
        results["agreement"] = agreement
    (run / "report.json").write_text(json.dumps(results))


@pytest.fixture
def page(tmp_path, four):
    """Return the page of the four runs, and its text."""

    def make(runs=four, **settings):
        out = tmp_path / "out"
        reports.write_comparison(runs, out, page=True, **settings)
        return Page((out / "report.html").read_text())

    return make


def table(page, title):
    """Return the cells of the table below a title, by the first of each line."""
    return {first: others for first, *others in page.tables[title]}


def test_the_page_has_the_table_and_needs_no_other_file(page):
    found = page()
    assert "script" not in found.tags
    assert "link" not in found.tags
    assert all(x.startswith(("data:", "#")) for x in found.addresses)
    assert found.unnamed == []
    assert len(set(found.ids)) == len(found.ids)
    cells = table(found, "Comparison of 2 methods")
    assert cells["teacher"] == ["90.00", ""]
    assert cells["student alone"] == ["70.00 ± 1.41", ""]
    assert cells["kd"] == ["74.00 ± 2.83", "100.00"]


def test_differences_are_those_of_equal_seeds(page, four):
    cells = table(page(), "Differences with equal seeds")
    # Seeds 0 and 1: 69 and 71 alone, 72 and 76 with kd, 77 and 79 with hkd+kd.
    plain = {
        k: [x.replace("\N{NO-BREAK SPACE}", " ") for x in v] for k, v in cells.items()
    }
    assert plain["kd"] == ["+4.00 ± 1.41 (2 of 2)", "+4.00 ± 1.41 (2 of 2)"]
    assert plain["hkd+kd"] == ["+8.00 ± 0.00 (2 of 2)", ""]
    assert "student alone" not in plain


def test_without_common_seeds_there_is_no_difference(page, four, tmp_path):
    other = make_run(tmp_path, "e", "kd", [[0.6], [0.7]], seed=7)
    found = page([four[0], other])
    assert "Differences with equal seeds" not in found.tables


def test_one_common_seed_has_a_difference_without_deviation(page, four):
    cells = table(page([four[0], four[1]]), "Differences with equal seeds")
    assert cells["kd"] == ["+3.00 (1\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}1)"]


def test_agreement_is_the_mean_share_over_the_runs(page, four):
    counts = ("equal", "both", "only_teacher", "only_student", "neither")
    for run, values in ((four[1], (5, 4, 3, 2, 1)), (four[2], (7, 8, 0, 2, 0))):
        bins = ([0, 10], [0, 8], [0, 6])
        agreement = dict(zip(counts, values, strict=True))
        measure(run, student=bins, teacher=bins, agreement=agreement)
    title = "Same prediction as the teacher, and who is right (%)"
    cells = table(page(), title)
    assert cells == {
        "method": ["same", "both", "teacher", "student", "none"],
        "kd": ["60.0", "60.0", "15.0", "20.0", "5.0"],
    }


def test_the_calibration_error_is_that_of_all_images_of_the_runs(page, four):
    measure(four[0], student=([0, 4], [0, 3], [0, 1]))
    measure(four[1], student=([5, 5], [2, 4], [1, 5]))
    measure(four[2], student=([5, 5], [2, 4], [4, 4]))
    found = page()
    # |3 - 1| / 4, and (|4 - 5| + |8 - 9|) / 20
    for line in (
        "student alone: calibration error 0.500",
        "kd: calibration error 0.100",
    ):
        assert line in found.text
    assert "left out for hkd+kd, because the runs have no page" in found.text


def test_numbers_of_an_earlier_training_are_left_out(page, four):
    measure(four[0], student=([0, 4], [0, 3], [0, 1]))
    results = json.loads((four[0] / "report.json").read_text())
    (four[0] / "report.json").write_text(json.dumps({**results, "step": 1}))
    found = page()
    assert "left out for student alone, kd, hkd+kd" in found.text
    assert "calibration error" not in found.text


def test_runs_with_other_bins_are_refused(page, four):
    measure(four[1], student=([5, 5], [2, 4], [1, 5]))
    measure(four[2], student=([5], [2], [4]))
    with pytest.raises(ValueError, match="other bins"):
        page()


def test_a_page_is_written_only_if_it_is_asked_for(tmp_path, four, capsys):
    out, runs = tmp_path / "out", [*map(str, four)]
    cli.main(["report", *runs, "--html", "--out", str(out)])
    assert f"page: {out}/report.html" in capsys.readouterr().out
    assert (out / "report.html").is_file()
    cli.main(["report", *runs, "--out", str(out)])  # the old page would be wrong
    assert not (out / "report.html").exists()


def test_names_are_text(page, tmp_path):
    name = "<script>x</script>\x1b[2J&amp;"
    runs = [
        make_run(
            tmp_path,
            f"h{i}",
            method,
            [[0.5], [0.6]],
            teacher={"network": {"model": name, "width": None}},
            dataset={"source": f"{name}.npz", "fingerprint": name},
        )
        for i, method in enumerate((name, "student"))
    ]
    for run in runs:
        measure(run, student=([0, 4], [0, 3], [0, 1]))
    found = page(runs)
    assert "script" not in found.tags
    assert "\x1b" not in found.text
    assert r"<script>x</script>\x1b[2J&amp;" in found.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(scheme, page, tmp_path):
    page()
    style = (tmp_path / "out" / "report.html").read_text().split("prefers-color-scheme")
    colors = dict(
        part.split(":", 1)
        for part in style[scheme == "dark"]
        .split("{--" if scheme == "dark" else ";--", 1)[1]
        .split("}")[0]
        .replace("\n", "")
        .replace("--", "")
        .split(";")
    )

    def luminance(color):
        digits = color.strip("#")
        digits = digits if len(digits) == 6 else "".join(2 * x for x in digits)
        srgb = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        linear = np.where(
            srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    def contrast(one, other):
        low, high = sorted(luminance(colors[x]) for x in (one, other))
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "card"):
        assert contrast("ink", ground) > 7
        assert contrast("soft", ground) > 4.5
        for kind in ("same", "other", "blue"):
            assert contrast(kind, ground) > 3
