"""The gallery: a section for every figure, and code that draws it."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from dynsim.plots._style import STYLE
from experiments.topics._figures import FIGURES

DOCS = Path(__file__).parents[2] / "docs"
TOPICS = Path(__file__).parents[2] / "experiments/topics"
PAGE = 736  # pixels of 1/96 inch: width of a page's text in a browser of 1,300 px
READABLE = 7  # points


def test_the_gallery_shows_every_figure_and_says_what_it_tells():
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    entries = dict(re.findall(r"```\{gallery\} (\w+)\n(.*?)```", text, flags=re.DOTALL))
    assert list(entries) == list(FIGURES)
    assert min(map(len, entries.values())) > 80
    for name in FIGURES:
        assert (DOCS / f"figures/{name}.png").exists()


def test_the_code_of_a_section_draws_its_figure(tmp_path, monkeypatch):
    spec = spec_from_file_location("gallery", DOCS / "_ext/gallery.py")
    assert spec is not None
    assert spec.loader is not None
    gallery = module_from_spec(spec)
    spec.loader.exec_module(gallery)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(gallery.snippet("race"), names)
    assert isinstance(names["figure"], Figure)
    assert (tmp_path / "race.pdf").stat().st_size > 5000
    assert "race" in gallery.entry("race", "It says.")


def shown_size(points: float, width: int) -> float:
    """Points at which text of a picture of so many pixels is seen on a page."""
    dots_per_inch = float(re.findall(r"^savefig.dpi: (.*)", STYLE.read_text(), re.M)[0])
    return points * (PAGE / 96) / (width / dots_per_inch)


@pytest.mark.parametrize("name", FIGURES)
def test_the_smallest_text_of_a_figure_is_read_at_the_width_of_a_page(name):
    function, _ = FIGURES[name]
    topic = function.__module__.split(".")[-2]
    written = re.findall(r"fontsize=([\d.]+)", (TOPICS / topic / "figures.py").read_text())
    style = re.findall(r"(?:font.size|labelsize|legend.fontsize): (.*)", STYLE.read_text())
    smallest = min(map(float, written + style))
    height, width, _ = imread(DOCS / f"figures/{name}.png").shape
    assert shown_size(smallest, width) >= READABLE
    assert height < 2 * width  # and it is seen as a whole, or nearly


def test_text_of_a_wide_figure_is_too_small():
    """The negative control: three panels of the old width, with the letters of a legend."""
    assert shown_size(7.5, round(10.6 * 200)) < 6
