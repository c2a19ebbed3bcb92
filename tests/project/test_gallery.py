"""The gallery: a section for every figure, and code that draws it."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from matplotlib.figure import Figure

from experiments.topics._figures import FIGURES

DOCS = Path(__file__).parents[2] / "docs"


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
