"""Every citation leads somewhere: to a section of `docs/theory` or to a paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from citations import CITED, DOCS, LABEL, ROOT, THEORY, labels, names_a_source, texts, unresolved

import derivations

HEADING = re.compile(r"^(?P<marks>#+) (?:(?P<number>\d+(?:\.\d+)*) )?(?P<title>.+)$")


# Pages and labels


def test_every_citation_of_a_page_resolves():
    missing = {path: found for path, text in texts().items() if (found := unresolved(text))}
    missing.pop("tests/project/test_citations.py", None)  # the negative controls below
    assert not missing
    cited = [path for path, text in texts().items() if CITED.search(text)]
    assert len(cited) > 10


def test_every_label_is_unique():
    found = [
        name for page in sorted(DOCS.rglob("*.md")) for name in labels(page.read_text("utf-8"))
    ]
    assert len(found) == len(set(found)), sorted({name for name in found if found.count(name) > 1})


def test_nothing_cites_a_text_that_does_not_ship():
    gone = ("theory" + " notes", "notes" + ", section")
    found = {
        path: phrase
        for path, text in texts().items()
        for phrase in gone
        if phrase in re.sub(r"[\s#]+", " ", text.replace("\n#", "\n")).lower()
    }
    assert not found


NUMBERED = re.compile(r"(?:\bsections?|§) ?\d", re.IGNORECASE)


def cites_by_number(text: str) -> list[str]:
    """Sections cited by a number, which changes when sections are added, and not by an anchor."""
    return NUMBERED.findall(re.sub(r"[\s#]+", " ", text))


def test_sections_are_cited_by_anchors():
    found = {path: cited for path, text in texts().items() if (cited := cites_by_number(text))}
    found.pop("tests/project/test_citations.py", None)  # the negative controls below
    assert not found


def chapters() -> list[Path]:
    """The pages of the theory in the order of its table of contents."""
    contents = re.search(r"```\{toctree\}\n(.*?)```", (THEORY / "index.md").read_text(), re.DOTALL)
    assert contents
    names = [line for line in contents[1].split("\n") if line and not line.startswith(":")]
    return [THEORY / f"{name}.md" for name in names]


def test_every_page_is_in_the_table_of_contents():
    assert {*chapters(), THEORY / "index.md"} == set(THEORY.glob("*.md"))


def headings(page: Path) -> list[tuple[int, str | None]]:
    """Level and number of each heading outside of code and equations."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    matches = (HEADING.match(line) for line in text.split("\n"))
    return [(len(match["marks"]), match["number"]) for match in matches if match]


def expected_numbers(levels: list[int], chapter: int) -> list[str]:
    """Consecutive numbers of headings of these levels; the first is the chapter's title."""
    counters = [chapter]
    numbers = []
    for level in levels:
        if len(counters) < level:
            counters.append(0)
        del counters[level:]
        if level > 1:
            counters[level - 1] += 1
        numbers.append(".".join(map(str, counters)))
    return numbers


@pytest.mark.parametrize("chapter", range(1, len(chapters()) + 1))
def test_headings_are_numbered_consecutively(chapter):
    found = headings(chapters()[chapter - 1])
    assert [number for _, number in found] == expected_numbers([lev for lev, _ in found], chapter)


@pytest.mark.parametrize("page", chapters(), ids=lambda page: page.stem)
def test_every_section_has_a_label(page):
    text = page.read_text("utf-8")
    sections = re.findall(r"^(.*)\n(#{2,} .*)$", text, re.MULTILINE)
    assert sections
    assert [title for above, title in sections if not LABEL.match(above)] == []


@pytest.mark.parametrize("page", chapters(), ids=lambda page: page.stem)
def test_what_a_page_names_exists(page):
    """Functions of `derivations`, files of tests and claims, as they stand between backticks."""
    from experiments.topics._registry import CLAIMS

    text = page.read_text("utf-8")
    names = set(re.findall(r"`([^`\n]+)`", re.sub(r"\{\w+\}`[^`]*`", "", text)))
    functions = {name for name in names if re.fullmatch(r"derivations\.\w+", name)}
    files = {name for name in names if re.fullmatch(r"(tests|docs|experiments)/[\w/]+\.\w+", name)}
    claims = {name for name in names if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name)}
    assert {name for name in functions if not hasattr(derivations, name.split(".")[1])} == set()
    assert {name for name in files if not (ROOT / name).is_file()} == set()
    assert {name for name in claims if name not in CLAIMS} == set()


# Sources of derivations, rules and claims; what derivations return is asked in
# `tests/derivations/test_derivation_text.py`, which derives them all.


def test_every_source_that_is_typed_in_derivations_resolves():
    """The derivations that need arguments, by their text: `source="..."`, or a constant."""
    for path, text in texts().items():
        if path.startswith("derivations/"):
            for typed in re.findall(r'\bsource=f?"([^"]*)"', text):
                if "{" not in typed and typed != "given by the user":
                    assert not typed.startswith("; ") or "_SOURCE" in text, path
                    assert typed == "; " or names_a_source(typed), f"{path}: {typed}"


def test_every_layer_and_optimizer_names_its_section():
    for layer in derivations.LAYERS:
        for optimizer in derivations.OPTIMIZERS:
            assert names_a_source(derivations.update_mean(layer, optimizer).source)


def test_every_parametrization_and_rule_names_a_paper():
    for given in derivations.PARAMETRIZATIONS.values():
        assert names_a_source(given.source), given.name
    for rule in (*derivations.published_rules("adam"), *derivations.published_rules("muon")):
        assert names_a_source(rule.source), rule.name


def test_every_claim_names_its_source():
    from experiments.topics._registry import CLAIMS

    without = {c.name: c.citation for c in CLAIMS.values() if not names_a_source(c.citation)}
    assert not without


# Negative controls


@pytest.mark.parametrize(
    "citation",
    [
        "control",
        "least squares",
        "section 3",
        "docs/theory/first_step.md",
        "docs/theory/first_step.md#no-such-section",
        "docs/theory/no_such_page.md#self-term",
        "docs/theory/regimes.md#self-term",
        "ours",
    ],
)
def test_a_citation_that_leads_nowhere_is_found(citation):
    assert not names_a_source(citation)


@pytest.mark.parametrize(
    "citation",
    [
        "docs/theory/first_step.md#self-term",
        "Sheppard 1899",
        "Marchenko & Pastur 1967",
        "Saxe, McClelland & Ganguli 2014 (balanced layers)",
        "Everett et al. 2024",
        "Kalra and Barkeshli, arXiv:2605.21486",
        "Hayou and Liu (2025)",
    ],
)
def test_a_source_is_recognised(citation):
    assert names_a_source(citation)


@pytest.mark.parametrize("text", ["as section 3 says", "Section\n    7: under", "(§ 4.2)", "§10"])
def test_a_citation_by_number_is_found(text):
    assert cites_by_number(text)


@pytest.mark.parametrize(
    "text", ["docs/theory/regimes.md#zipf-tokens", "in three sections", "Table 3"]
)
def test_other_numbers_are_no_citations(text):
    assert not cites_by_number(text)


def test_a_gap_in_the_numbers_is_found():
    assert expected_numbers([1, 2, 2, 3, 3, 2], 4) == ["4", "4.1", "4.2", "4.2.1", "4.2.2", "4.3"]
