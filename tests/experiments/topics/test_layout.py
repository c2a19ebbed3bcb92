"""A topic is one folder: its study, estimators, claims, figures and page are found in one guess."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from experiments.results import STORED
from experiments.topics._figures import FIGURES
from experiments.topics._names import NAMES, found_names, known_figures, known_names
from experiments.topics._parts import TOPICS, claim_files, part
from experiments.topics._registry import CLAIMS, STUDIES

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "experiments/topics"
CLAIM_FILES = {"claims.toml", "claims_full.toml"}
FILES = {
    "__init__.py",
    "networks.py",
    "cases.py",
    "study.py",
    "estimators.py",
    "claims.py",
    "figures.py",
    *CLAIM_FILES,
}
# Studies that `study.py` lists and that stand in a module of their own.
FURTHER = {
    "first_step": {"head_rules.py"},
    "head": {"large.py", "vocabulary.py", "joint.py"},
    "muon_rows": {"sharing.py", "scales.py"},
}
# Topics that build on another: the race's tasks and weights are those of `optimal_ratio`, and the
# distance of networks from a prediction is read as for the linear model.
IMPORTED = {
    ("race", "optimal_ratio"),
    ("hidden_layers", "mean_field"),
    ("nonlinear_layers", "mean_field"),
}


def imported(file: Path) -> set[str]:
    """Absolute names of the modules that a file of a topic imports names from."""
    package = file.parent.relative_to(ROOT).parts
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_every_folder_is_a_topic_of_the_registry():
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(TOPICS)


def test_the_file_of_names_is_current():
    """If not: python -m experiments.topics._names"""
    assert json.loads(NAMES.read_text(encoding="utf-8")) == found_names()
    for kind, names in found_names().items():
        assert list(known_names(kind)) == list(names)
    assert list(known_figures()) == list(FIGURES)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_holds_the_files_that_a_topic_may_hold(topic):
    files = {path.name for path in (FOLDER / topic).iterdir()} - {"__pycache__"}
    assert files <= FILES | FURTHER.get(topic, set())
    assert {"__init__.py", "study.py"} <= files
    assert ("claims.py" in files) <= ("estimators.py" in files)  # claims rest on estimators


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_defines_what_the_registry_collects(topic):
    for name, collected in (("study", "STUDIES"), ("claims", "CLAIMS"), ("figures", "FIGURES")):
        module = part(topic, name)
        assert module is None or len(getattr(module, collected)) > 0


def test_the_registry_collects_everything_once():
    """No name of a study, claim or figure stands for two of them."""
    files = [file for topic in TOPICS for file in claim_files(topic).values()]
    for name, collected, registry, written in (
        ("study", "STUDIES", STUDIES, len(files)),
        ("claims", "CLAIMS", CLAIMS, sum(len(file.claims) for file in files)),
        ("figures", "FIGURES", FIGURES, 0),
    ):
        modules = [module for topic in TOPICS if (module := part(topic, name)) is not None]
        coded = sum(len(getattr(module, collected)) for module in modules)
        assert coded + written == len(registry)


def test_stored_data_are_those_of_the_studies():
    assert {file.stem for file in STORED.glob("*.nc")} == {*STUDIES, "replication"}


@pytest.mark.parametrize("topic", TOPICS)
def test_claims_and_figures_read_studies_of_their_topic(topic):
    study, claims, figures = (part(topic, name) for name in ("study", "claims", "figures"))
    assert study is not None
    own = {one.name for one in study.STUDIES}
    if claims is not None:
        assert {claim.study for claim in claims.CLAIMS} <= own
    own |= set(claim_files(topic))
    if figures is not None:
        assert {need for _, needs in figures.FIGURES.values() for need in needs} <= own


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_a_page(topic):
    assert (ROOT / f"docs/topics/{topic}.md").is_file()


def test_topics_do_not_import_each_other():
    found = {
        (topic, name.split(".")[2])
        for topic in TOPICS
        for file in (FOLDER / topic).glob("*.py")
        for name in imported(file)
        if name.startswith("experiments.topics.")
    }
    assert {(a, b) for a, b in found if b in TOPICS and a != b} == IMPORTED


@pytest.mark.parametrize("topic", TOPICS)
def test_inside_a_topic_imports_go_one_way(topic):
    """study <- estimators <- claims, figures."""
    order = {"study": 0, "estimators": 1, "claims": 2, "figures": 2}
    for name, place in order.items():
        file = FOLDER / topic / f"{name}.py"
        if file.is_file():
            used = {
                one.rpartition(".")[2]
                for one in imported(file)
                if one.startswith(f"experiments.topics.{topic}.")
            }
            assert all(order[one] < place for one in used & set(order)), used


def test_a_measurement_uses_no_evidence():
    """A study measures: it imports neither estimators nor the frame of claims."""
    studies = [(topic, name) for topic in TOPICS for name in ("study.py", *FURTHER.get(topic, ()))]
    for topic, file in studies:
        names = imported(FOLDER / topic / file)
        assert not [name for name in names if name.endswith(("_claim", ".estimators", ".claims"))]
