"""The pages in a browser: on a phone, in both color schemes, without a network."""

import copy
import dataclasses
import html
import json
import shutil
import subprocess

import pytest
from comparison_support import make_run as make_finished_run
from run_support import CONFIG, make_run

from jaxkd import data, reports

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"),
    pytest.mark.usefixtures("quickly_compiled"),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--no-first-run", "--enable-logging=stderr", "--dump-dom"),
)
DARK = "--blink-settings=preferredColorScheme=0"
# A headless window is at least 500 pixels wide; a frame in it has any width.
FRAME = """<!doctype html><title>none</title>
<iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}"></iframe>
<script>addEventListener("load", () => {{
const view = frames[0], root = view.document.documentElement;
const pictures = [...view.document.images];
document.title = JSON.stringify({{
  width: view.innerWidth,
  needed: root.scrollWidth,
  requests: view.performance.getEntriesByType("resource").map(x => x.name),
  broken: pictures.filter(x => !x.complete || !x.naturalWidth).length,
  ground: view.getComputedStyle(view.document.body).backgroundColor,
}});
}});</script>"""


@pytest.fixture
def show(tmp_path):
    """Opens a page in a browser; returns what it looks like, and the browser's log."""

    def opened(page, *, width=360, flags=()):
        wrapper = tmp_path / "wrapper.html"
        wrapper.write_text(FRAME.format(width=width, page=html.escape(page)))
        command = [BROWSER, *FLAGS, *flags, f"--user-data-dir={tmp_path / 'browser'}"]
        result = subprocess.run(
            [*command, wrapper.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        title = result.stdout.split("<title>")[1].split("</title>")[0]
        return json.loads(html.unescape(title)), result.stderr

    return opened


@pytest.fixture(scope="module")
def run_page(tmp_path_factory, quadrants):
    """The page of a run of HKD, with long and hostile names of classes."""
    folder = tmp_path_factory.mktemp("runs")
    teacher = make_run(folder / "teacher")
    config = copy.deepcopy(CONFIG)
    config["dataset"]["source"] = str(quadrants)
    config["options"] |= {"method": "hkd+kd", "teacher": str(teacher)}
    config["command"] = "jaxkd distill " + "x" * 500
    run = make_run(folder / "student", seeds=(1,), config=config)
    names = ("x" * 300, "<script>console.error(1)</script>", "many words " * 20, "d")
    dataset = dataclasses.replace(data.load(str(quadrants)), class_names=names)
    reports.rewrite_run_page(run, dataset)
    return (run / "report.html").read_text()


@pytest.fixture(scope="module")
def comparison_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    methods = ("student", "kd", "hkd+kd", "x" * 200, "<img src=http://127.0.0.1/>")
    runs = [
        make_finished_run(folder, f"{i}", method, [[0.5, 0.6], [0.6 + i / 50, 0.7]])
        for i, method in enumerate(methods)
    ]
    reports.write_comparison(runs, folder / "out", page=True)
    return (folder / "out" / "report.html").read_text()


@pytest.fixture(params=["run_page", "comparison_page"])
def page(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_page_fits_the_width_of_the_screen(width, page, show):
    found, _ = show(page, width=width)
    assert found["width"] == width
    assert found["needed"] <= width


def test_a_page_asks_for_nothing_and_complains_about_nothing(page, show):
    found, log = show(page)
    assert [x for x in found["requests"] if not x.startswith("data:")] == []
    assert found["broken"] == 0
    assert "CONSOLE" not in log


def test_a_page_is_dark_for_those_who_prefer_it(page, show):
    grounds = []
    for flags in ((), (DARK,)):
        found, _ = show(page, flags=flags)
        grounds.append(sum(map(int, found["ground"][4:-1].split(","))) / (3 * 255))
    assert grounds[0] > 0.9
    assert grounds[1] < 0.1


def test_a_page_that_is_too_wide_or_asks_for_more_would_be_found(show):
    """The checks above are able to fail."""
    found, log = show(
        '<div style="width:2000px">x</div><img src="http://127.0.0.1:9/x.png">'
        "<script>console.error(1)</script>"
    )
    assert found["needed"] > 2000
    assert "http://127.0.0.1:9/x.png" in found["requests"]
    assert found["broken"] == 1
    assert "CONSOLE" in log
