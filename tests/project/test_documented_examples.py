"""The examples of README.md and the documentation run as they stand, at smaller sizes where noted.

The cells of docs/tutorials run when the documentation is built.
"""

from __future__ import annotations

import asyncio
import email
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, documentation, indented_commands, python_blocks
from printed import next_words
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from experiments.cli import main

RUN_ELSEWHERE = {
    "docs/guides/claims.md": "experiments/test_claim_files.py",
    "docs/guides/linearized.md": "dynsim/theory/test_linearized.py",
    "docs/guides/own_model.md": "dynsim/coordinates/test_own_model_guide.py",
}
ONE_SCRIPT = {"docs/guides/parametrizations.md"}  # later blocks use names of earlier ones

# What is made smaller, so that an example takes a second: (as it stands, as it runs).
SMALLER = {
    "README.md": [
        ('"corpus", 8192', '"zipf:1", 512'),
        ("width=256, vocab_size=1024,", "width=16, vocab_size=32,"),
        ("steps=50)\nsweep", "steps=3)\nsweep"),
        ("width=128, vocab_size=512,", "width=16, base_width=16, vocab_size=32,"),
        ("steps=50)\nruns", "steps=3)\nruns"),
        ("horizons=[10, 50]", "horizons=[1, 3]"),
    ],
    "docs/guides/from_python.md": [("outputs=2, steps=10", "outputs=1, steps=2")],
    "docs/guides/laboratory.md": [
        ("width=64, base_width=32, vocab_size=128", "width=16, base_width=8, vocab_size=32"),
        ("batch_size=64, steps=50", "batch_size=8, steps=3"),
        ("horizons=[10, 50]", "horizons=[1, 3]"),
    ],
    "docs/guides/transfer.md": [("range(4)", "range(2)")],
    "docs/topics/lv_lifetime.md": [("np.arange(20)", "np.arange(3)")],
    "docs/topics/optimal_rates.md": [
        ("width=4096, vocab_size=16384", "width=16, vocab_size=32"),
        ("horizons=(1, 4)", "horizons=(1,)"),
        ('source="theory"', 'source="networks"'),
    ],
}


PAGES = documentation()
EXAMPLES = [
    pytest.param(name, number, id=f"{name}-{number}")
    for name, text in PAGES.items()
    for number, block in enumerate(python_blocks(text))
    if name not in RUN_ELSEWHERE and not block.not_run
]


def smaller(name: str, code: str) -> str:
    for as_it_stands, as_it_runs in SMALLER.get(name, ()):
        code = code.replace(as_it_stands, as_it_runs)
    return code


def names_for(name: str) -> dict[str, Any]:
    """What an example presumes: the reader's own model."""
    if name != "docs/guides/parametrizations.md":
        return {}
    pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")
    from torch_models import Config, Gpt

    return {"model": Gpt(Config(32))}


def execute(code: str, names: dict[str, Any]) -> None:
    if re.search(r"^import torch|torch_parameter_groups\(", code, re.MULTILINE):
        pytest.importorskip("torch", reason="needs torch: pip install 'dynsim[torch]'")
    exec(compile(code, "example", "exec"), names)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_python_examples_run(name, number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = [smaller(name, block.code) for block in python_blocks(PAGES[name])]
    names = {}
    if name in ONE_SCRIPT:
        names = names_for(name) if "model" in blocks[number] else {}
        for earlier in blocks[:number]:
            exec(compile(earlier, "example", "exec"), names)
    execute(blocks[number], names)


def test_a_wrong_example_is_noticed():
    (block,) = python_blocks("```python\nassert 1 + 1 == 3\n```\n")
    with pytest.raises(AssertionError):
        execute(block.code, {})


def test_a_reason_stands_right_before_the_block_it_is_for():
    text = "<!-- not run: a cluster -->\n\n```python\none\n```\n\n```python\ntwo\n```\n"
    assert [block.not_run for block in python_blocks(text)] == ["a cluster", ""]


@pytest.mark.parametrize("name", RUN_ELSEWHERE)
def test_what_runs_elsewhere_is_read_there(name):
    file = ROOT / "tests" / RUN_ELSEWHERE[name]
    assert Path(name).name in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SMALLER)
def test_what_is_made_smaller_stands_on_the_page(name):
    code = "".join(block.code for block in python_blocks(PAGES[name]))
    for as_it_stands, _ in SMALLER[name]:
        assert as_it_stands in code


# Commands: all of them parse (test_markdown.py, test_readme.py). Those that train nothing run too.

QUICK = {"derive", "lifetime", "map", "parametrization", "recommend", "tokens"}
SLOW = re.compile(r"--networks|mean_field|--colour loss|tokens corpus( |$)|measured:")


def shown_commands() -> list[str]:
    """Every command line of a page that is quick, once, with maps of 5 x 5 cells."""
    found: dict[str, None] = {}
    for text in PAGES.values():
        fenced = re.sub(r"^dynsim ", "    dynsim ", text, flags=re.MULTILINE)
        for line in indented_commands(fenced):
            words = shlex.split(line, comments=True)
            if words[1] in QUICK and "..." not in words and not SLOW.search(line):
                found[shlex.join(re.sub(r":(200|20)$", ":5", word) for word in words)] = None
    return list(found)


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """A folder with the reader's files that commands name."""
    folder = tmp_path_factory.mktemp("reader")
    for texts in ("my_texts", "PATH"):
        (folder / texts).mkdir()
        for package in (asyncio, email):
            for file in Path(package.__path__[0]).glob("*.py"):
                shutil.copy(file, folder / texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train([str(folder / "PATH/tasks.py")], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.dumps({"hidden_size": 1024, "vocab_size": 512, "num_hidden_layers": 2})
    (folder / "path/to").mkdir(parents=True)
    for file in ("config.json", "path/to/config.json"):
        (folder / file).write_text(config)
    return folder


@pytest.fixture(scope="module")
def followed() -> set[str]:
    """What was proposed next by a command and has run."""
    return set()


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("line", shown_commands())
def test_commands_that_train_nothing_run(line, reader, followed, monkeypatch, capsys):
    """And so does what they propose next, if it trains nothing either."""
    monkeypatch.chdir(reader)
    assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert printed
    if "\nNext, " not in printed:
        return
    words = next_words(printed)
    following = shlex.join(words)
    if words[0] in QUICK and not SLOW.search(f"dynsim {following} ") and following not in followed:
        followed.add(following)
        assert main(words) == 0, (following, capsys.readouterr().err)
