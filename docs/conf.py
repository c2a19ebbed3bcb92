"""Sphinx configuration: sphinx-build -W docs OUTPUT."""

import sys
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "dynsim"
author = "The dynsim developers"
copyright = "The dynsim developers, Apache-2.0"
release = version = installed_version("dynsim")

extensions = [
    "myst_nb",  # myst_parser, and the tutorials as notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "api_names",
    "claims_table",
    "compiled_formulas",
    "derivation_examples",
    "derivations_directive",
    "explorer_page",
    "gallery",
    "plain_docstrings",
]
myst_enable_extensions = ["dollarmath", "amsmath"]

# The cells of docs/tutorials run whenever their page is read, in a folder of their own. A cell that
# fails, fails the build. Nothing is kept between builds: a change of dynsim must be seen.
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell; all cells of a page take less than 60 on idle cores
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_mock_imports = [] if find_spec("torch") else ["torch"]  # an optional extra
autodoc_typehints = "none"  # array types print as numpy internals; docstrings give shapes

# Formulas are readable without a network. This file of MathJax draws them and needs no fonts.
_mathjax = find_spec("sphinx-mathjax-offline")
assert _mathjax is not None
assert _mathjax.submodule_search_locations is not None
_file = Path(_mathjax.submodule_search_locations[0]) / "static" / "mathjax" / "tex-svg.js"
html_static_path = ["_static", str(_file)]
html_css_files = ["tables.css"]
mathjax_path = _file.name

html_theme = "furo"
html_title = f"dynsim {release}"
html_show_sphinx = False
exclude_patterns = ["_build"]
