"""The tasks have one home: `.ci/run`, README.md and CONTRIBUTING.md say what `tasks.py` does."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path

import environments
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
import tasks  # noqa: E402

sys.path.remove(str(ROOT))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_tests_as_the_task_does():
    marked = text("README.md").partition("<!-- test-command -->")[2]
    command = marked.partition("```sh\n")[2].partition("\n```")[0]
    assert command.endswith("python " + shlex.join(tasks.TEST_ARGUMENTS).replace("'", '"'))


def test_ci_runs_every_check():
    run = " ".join(re.findall(r"tasks\.py ([a-z ]+)\n", text(".ci/run"))).split()
    assert run == ["lint", "type", "slow", "docs"]  # and the other tests by the README's command
    assert 'bash -euo pipefail -c "$readme_command"' in text(".ci/run")


def test_ci_runs_a_few_tests_at_both_ends_of_the_versions():
    assert "tests/environments.py oldest newest --smoke" in text(".ci/run")
    assert all((ROOT / name).exists() for name in environments.SMOKE)


def pinned(name: str) -> dict[str, str]:
    lines = (line.split("==") for line in text(name).splitlines() if "==" in line)
    return {normal(name): version for name, version in lines}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_oldest_versions_are_the_lower_bounds():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    bounds = [*project["dependencies"], *project["optional-dependencies"]["suite"]]
    oldest, newest = pinned("constraints-oldest.txt"), pinned("constraints-newest.txt")
    for bound in bounds:
        ((name, least, below),) = re.findall(r"^([\w-]+)>=([\d.]+)(?:,<([\d.]+))?$", bound)
        own = oldest[normal(name)]
        assert own.removesuffix(".0").removesuffix(".0") == least.removesuffix(".0"), bound
        if below:
            assert numbers(newest[normal(name)]) < numbers(below), bound
        assert numbers(newest[normal(name)]) >= numbers(own)
    assert project["requires-python"] == f">={environments.OLDEST[0]}"
    named = [one.rpartition(" ")[2] for one in project["classifiers"] if "Python :: 3" in one]
    assert {*environments.OLDEST, *environments.NEWER} == set(named)


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_contributing_names_every_task_and_no_other():
    named = set(re.findall(r"python tasks\.py ([a-z]+)", text("CONTRIBUTING.md")))
    assert named <= set(tasks.TASKS)
    assert set(re.findall(r"^\| `([a-z]+)` \|", text("CONTRIBUTING.md"), re.M)) == set(tasks.TASKS)


def test_an_unknown_task_lists_the_known(capsys):
    assert tasks.main(["sleep"]) == 2
    assert "figures" in capsys.readouterr().out
    assert tasks.main([]) == 0


def test_a_failing_tool_ends_the_task(capsys):
    with pytest.raises(SystemExit) as stopped:
        tasks.run(sys.executable, "-c", "raise SystemExit(3)")
    assert stopped.value.code == 3
    assert "exit code 3" in capsys.readouterr().err


def test_one_version():
    version = re.search(r'^version = "(.+)"$', text("pyproject.toml"), re.M)
    assert version is not None
    assert f"version: {version[1]}\n" in text("CITATION.cff")
    assert f'__version__ = "{version[1]}"' in text("dynsim/__init__.py")
    assert f"## [{version[1]}]" in text("CHANGELOG.md")


def test_the_list_of_solved_systems_names_files_that_exist():
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)`", text("tests/README.md"))
    assert len(named) > 30
    for name in named:
        assert (ROOT / "tests" / name).exists() or (ROOT / name).exists(), name
