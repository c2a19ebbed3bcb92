"""Shared by all tests: 64-bit types, shapes checked, a token cache of the session, the studies
measured once."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from checker import CHECKED
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# It acts on modules that are imported after this line, so none of dynsim may stand above it.
install_import_hook(CHECKED, "checker.checked")

os.environ["DYNSIM_COMPILATION_CACHE"] = "off"  # of commands in processes of their own
os.environ["DYNSIM_DERIVATION_CACHE"] = "off"
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")  # (m, n) + (n,) is as often a mistake

# The same as `quick_compilation`, for processes that tests start.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

# XLA's older code generator, and a program in one piece: a third of the time to compile. JAX 0.11
# has no other any more. Read at the first compilation; processes that tests start inherit it.
QUICK_COMPILER = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 11) and QUICK_COMPILER not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{QUICK_COMPILER} {os.environ.get('XLA_FLAGS', '')}".strip()

settings.register_profile(
    "dynsim", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dynsim")
MOST_RESIDENT = 3 * 2**29  # bytes


@pytest.hookimpl(tryfirst=True)  # before the scheduler reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, a file's tests share one (and its compiled programs), and so do all
    tests that need the measured studies, which are slow.

    The file's name is enough: pytest refuses two test files of one name.
    """
    for item in items:
        shares = {"studies", "stored_studies"} & set(getattr(item, "fixturenames", ()))
        if shares:
            item.add_marker(pytest.mark.slow)  # they measure the quick version of every study
        if item.get_closest_marker("xdist_group"):
            continue  # the file says with which others it shares
        item.add_marker(pytest.mark.xdist_group("studies" if shares else item.path.stem))


def pytest_collection_finish() -> None:
    """What is imported stays, so that the search for garbage need not visit it; and it is rarer:
    traced programs are many small objects, of which a tenth of the time would go into it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 5)


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Counts XLA compilations while it lives."""
    events: list[str] = []

    def listen(event: str, _duration: float, **_: object) -> None:
        if listening and "backend_compile" in event:
            events.append(event)

    listening = True  # before JAX 0.7 nobody can be taken off its list
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    listening = False


@pytest.fixture(scope="session", autouse=True)
def cache_folder() -> Iterator[Path]:
    """Tokenised texts of this session; the user's own cache is neither read nor written."""
    before = os.environ.get("DYNSIM_CACHE")
    with tempfile.TemporaryDirectory(prefix="dynsim-cache-") as folder:
        os.environ["DYNSIM_CACHE"] = folder
        yield Path(folder)
    if before is None:
        del os.environ["DYNSIM_CACHE"]
    else:
        os.environ["DYNSIM_CACHE"] = before


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Compiled programs are let go when the process has many of them, or much memory.

    The memory of those that are let go stays with the allocator, a gigabyte in minutes, until it is
    told to give it back.
    """
    yield
    from dynsim._programs import many_mappings, release_programs

    resident = Path("/proc/self/statm")
    if not resident.exists():
        return
    pages = int(resident.read_text(encoding="ascii").split()[1])
    if many_mappings() or pages * os.sysconf("SC_PAGE_SIZE") > MOST_RESIDENT:
        release_programs()
        with contextlib.suppress(AttributeError):  # another C library than glibc has it not
            ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def quick_compilation() -> Iterator[None]:
    """Programs compiled without most optimisations: several times sooner, for tiny networks."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20250615)


@pytest.fixture(scope="session")
def studies() -> Mapping[str, xr.Dataset]:
    """Every study that a claim needs: measured once in the quick version, where there is one, else
    as stored."""
    from experiments.topics._registry import CLAIMS, STUDIES
    from experiments.topics._stored import stored_study

    needed = dict.fromkeys(claim.study for claim in CLAIMS.values())
    return {
        name: STUDIES[name].run(False)
        if STUDIES[name].cells(False) and not STUDIES[name].laboratory
        else stored_study(name)
        for name in needed
    }


@pytest.fixture(scope="session")
def stored_studies(
    studies: Mapping[str, xr.Dataset], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder that holds these studies as `dynsim verify` stores it. Read only."""
    from experiments.results import save

    folder = tmp_path_factory.mktemp("stored-studies")
    for name, dataset in studies.items():
        save(dataset, folder / f"{name}.nc")
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three texts, 300 kB together, of words with Zipf frequencies."""
    random = np.random.default_rng(7)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(random.choice(letters, random.integers(2, 9))) for _ in range(3000)])
    chance = 1 / np.arange(1, len(words) + 1)
    folder = tmp_path_factory.mktemp("text")
    for name in ("first.txt", "second.txt", "deeper/third.txt"):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        drawn = random.choice(words, 16_000, p=chance / chance.sum())
        file.write_text(" ".join(drawn), encoding="utf-8")
    return folder
