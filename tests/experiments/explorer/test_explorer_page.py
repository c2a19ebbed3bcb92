"""The explorer in a real browser: what a person does with it, and what it must say."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import threading
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from printed import assert_example, example_line

from dynsim import InputError
from dynsim.tokens import read_counts
from experiments.cli import main
from experiments.explorer.fields import FIELDS, INTEGERS, LEAST_RATE, MOST_RATE, State
from experiments.explorer.page import fragment, library, page
from experiments.explorer.serving import loopback, serve
from experiments.output import flag

pytestmark = [
    pytest.mark.xdist_group("explorer"),  # derives the formulas once
    pytest.mark.usefixtures("quick_compilation"),
]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
NO_BROWSER = "no browser: apt-get install chromium"
LAPTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
VIEWS = ("map", "updates", "ratio", "tokens", "life", "rules")
# Views that a field changes at the first state, and what its slider is set to.
CHANGES = {
    "width": (700, VIEWS),
    "vocab_size": (400, VIEWS),
    "zipf": (0.7, ("map", "updates", "ratio", "tokens", "life", "rules")),
    "batch_size": (500, ("map", "updates", "ratio", "tokens", "life")),
    "outputs": (900, ("ratio", "life")),
    "embedding_lr": (300, ("map", "updates", "life")),
    "steps": (200, ("map", "updates", "life")),
    "base_width": (900, ("ratio", "rules")),
}


@pytest.fixture(scope="module")
def explorer_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("explorer") / "explorer.html"
    file.write_text(page(), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="no playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(NO_BROWSER)
    with api.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page of the browser with what it complained about and asked for."""

    def __init__(self, browser: Any, file: Path, hash_: str = "", **options: Any):
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(**{"viewport": LAPTOP, **options})
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{file.as_uri()}{hash_}")

    def set(self, **state: object) -> None:
        self.page.evaluate("state => { explorer.set(state); explorer.drawAll(); }", state)

    def numbers(self) -> dict[str, dict[str, float | None]]:
        return self.page.evaluate("explorer.numbers()")

    def figures(self) -> dict[str, str]:
        script = (
            "() => { explorer.drawAll(); return Object.fromEntries(views.all.map(({id}) => "
            "[id, document.querySelector(`#view-${id} .figure`).innerHTML])); }"
        )
        return self.page.evaluate(script)

    def commands(self, view: str) -> dict[str, Any]:
        script = "id => commands.of[id](explorer.model(), views.ranges(explorer.model()))"
        return self.page.evaluate(script, view)


@pytest.fixture(scope="module")
def opened(browser, explorer_file) -> Iterator[Opened]:
    one = Opened(browser, explorer_file)
    yield one
    assert one.complaints == []


@pytest.fixture
def start(opened) -> Opened:
    """The page as it is at first."""
    opened.set(**vars(State()))
    return opened


# The file


def test_the_file_is_small_and_asks_for_nothing(start, explorer_file):
    assert explorer_file.stat().st_size < 2e6
    elsewhere = [url for url in start.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert elsewhere == []
    about = start.page.inner_text("#about").lower()
    assert all(f"{one['name']} {one['version']}".lower() in about for one in library())


def test_the_command_writes_it_with_its_counts_and_its_state(tmp_path, browser, capsys):
    counts, out = tmp_path / "counts", tmp_path / "explorer.html"
    counts.write_text(COUNTED)
    assert main(["explore", "--out", str(out), "--tokens", f"counts:{counts}", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bytes"] == out.stat().st_size
    one = Opened(browser, out)
    model = one.page.evaluate("(({tokens, vocab_size}) => [tokens, vocab_size])(explorer.model())")
    assert (
        model
        == [f"counts:{counts}", 93]
        == [document["state"][k] for k in ("tokens", "vocab_size")]
    )
    square = one.page.evaluate("explorer.model().at(64, 93).P_2")
    assert np.isclose(
        square, np.sum((read_counts(counts) / read_counts(counts).sum()) ** 2), rtol=1e-12
    )
    assert one.complaints == []
    one.page.close()


def test_the_command_prints_the_example_of_its_help(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(example_line("explore")) == 0
    assert_example("explore", capsys.readouterr().out)


def test_another_library_file_is_refused(monkeypatch, tmp_path):
    from experiments.explorer import page as module

    shutil.copytree(module.LIBRARY, tmp_path / "library")
    (tmp_path / "library/d3.min.js").write_text("// not D3")
    monkeypatch.setattr(module, "LIBRARY", tmp_path / "library")
    with pytest.raises(ValueError, match="is not that of d3"):
        library()


def test_it_is_served_on_this_machine_alone():
    with loopback("127.0.0.1", 0) as server:
        thread = threading.Thread(target=serve, args=(server, b"the page"), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(f"{address}/") as answer:
            assert answer.read() == b"the page"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/etc/passwd")
        server.shutdown()
        thread.join()


# Sliders and views


@pytest.mark.parametrize("field", CHANGES)
def test_a_slider_changes_the_views_that_depend_on_it(start, field):
    position, changed = CHANGES[field]
    if field in ("zipf", "batch_size"):
        start.set(tokens="zipf:1.2")
    if field == "embedding_lr":
        start.set(steps=3)
    before = start.figures()
    slider = "#zipf-slider" if field == "zipf" else f".field:has(#{field}) input[type=range]"
    move = "(node, to) => { node.value = to; node.dispatchEvent(new Event('input')); }"
    start.page.eval_on_selector(slider, move, position)
    start.page.wait_for_function("explorer.model() && !document.body.dataset.wrong")
    start.page.evaluate("() => new Promise(requestAnimationFrame)")
    after = start.figures()
    assert {view for view in VIEWS if before[view] != after[view]} >= set(changed)


def test_views_in_sight_are_drawn_at_once(start):
    """The least of several moves, since the machine may have other things to do."""
    times = start.page.evaluate(
        "Array.from({length: 12}, (_, k) => { explorer.set({tokens: `zipf:${0.5 + k / 50}`});"
        " return explorer.timing.last; })"
    )
    assert min(times) < 100  # 50 ms on an idle machine, which the tests do not have


def test_the_keyboard_moves_a_slider(start):
    slider = start.page.locator(".field:has(#width) input[type=range]")
    slider.focus()
    start.page.keyboard.press("ArrowRight")
    start.page.wait_for_function("explorer.model().width !== 1024")


def test_what_is_not_covered_is_hatched_and_says_why(start):
    start.set(optimizer="muon")
    assert "url(#hatch)" in start.figures()["map"]
    reasons = start.page.inner_text("#view-map .reasons")
    assert reasons.endswith("no first step is derived for --optimizer muon")
    start.set(**{**vars(State()), "batch_size": 64})
    told = start.page.inner_text("#view-ratio .reasons")
    assert "optimal rates are derived for the full batch (--batch-size 0)" in told


@pytest.mark.parametrize(
    ("vocab_size", "name"), [(200, "muP"), (651, "muP"), (652, "LV"), (3000, "LV")]
)
def test_the_headline_names_the_regime_as_the_commands_do(start, vocab_size, name):
    """The regimes meet at rho = 1, which 1023 (2/pi) = 651.3 tokens have at width 1024."""
    start.set(**vars(State(vocab_size=vocab_size)))
    told = start.page.inner_text("#headline")
    assert f"the first update is in the {name.replace('mu', 'μ')} regime" in told
    sizes = f"--width 1024 --vocab-size {vocab_size} --tokens uniform"
    assert of_command(f"dynsim derive --layer projection {sizes}")["regime"] == name
    assert of_command(f"dynsim lifetime {sizes}")["initial_regime"] == name
    advice = of_command(f"dynsim recommend --base-width 256 {sizes}")
    assert advice["regime"]["name"] == name.lower()
    share = of_command(f"dynsim tokens uniform --width 1024 --vocab-size {vocab_size}")
    assert round(share["mup_share_of_tokens"]) == (name == "muP")


def test_an_update_later_in_training_has_a_regime_of_its_own(start):
    """Learned embeddings align what was not: the third update is muP where the first was LV."""
    start.set(**vars(State(steps=30)))
    told = start.page.inner_text("#headline")
    assert "the first update is in the LV regime" in told
    assert "Update 30 is in the μP regime" in told
    start.set(**vars(State(steps=100, batch_size=4096)))
    told = start.page.inner_text("#headline")
    assert "the first update the μP regime ends at a vocabulary of 651" in told
    ends = re.search(r"there the μP regime ends at a vocabulary of ([\d,]+)", told)
    assert ends, told
    power = "m => theory.agedCoherence(theory.model({...explorer.model(), vocab_size: m})).value"
    edge = int(ends[1].replace(",", ""))
    assert start.page.evaluate(power, edge) >= 1 > start.page.evaluate(power, edge + 1)


def test_an_update_without_a_theory_says_why_in_the_headline(start):
    start.set(**vars(State(tokens="zipf:1", batch_size=4096, steps=100)))
    told = start.page.inner_text("#headline")
    assert "Update 100 has no value: what later updates do in a mini-batch is derived for" in told


def test_updates_that_leave_the_mup_regime_for_a_while_are_said_to(start):
    """Few steps take the alignment of Zipf tokens away before learning brings it back."""
    start.set(**vars(State(tokens="zipf:0.6", steps=3)))
    told = start.page.inner_text("#view-life .answer")
    assert "no LV regime to end" in told
    assert "Later updates leave it for a while" in told
    assert "Update 3 is in the LV regime" in start.page.inner_text("#headline")
    aged = of_command("dynsim map --tokens zipf:0.6 --steps 3 --embedding-lr 0.01 --outputs 1 "
                      "--x width=1024:2048:2 --y vocab_size=32768:65536:2")  # fmt: skip
    assert aged["values"][0][0] < 0.75  # where coherent and incoherent power are equal


def test_where_there_is_no_value_there_is_no_command_for_it(start):
    start.set(**vars(State(batch_size=4096, outputs=4, init="sp", steps=300)))
    for view in ("map", "ratio"):
        box = start.page.locator(f"#view-{view} details >> nth=1")
        box.evaluate("one => { one.open = true; }")
        start.page.wait_for_function(f"document.querySelector('#view-{view} pre')")
        told = box.inner_text()
        assert "The page has no value at this point" in told
        assert "in Python" not in told
        box.evaluate("one => { one.open = false; }")
    assert np.isnan(start.numbers()["updates"]["later_rms"])  # as on the map


def test_the_link_to_the_views_keeps_the_state(start):
    start.set(width=2048)
    start.page.focus(".skip")
    start.page.keyboard.press("Enter")
    start.page.wait_for_function("document.activeElement.id === 'views'")
    assert start.page.evaluate("explorer.model().width") == 2048


def test_the_legend_of_a_hatching_says_of_what_it_is_a_share(start):
    start.set(**vars(State(tokens="zipf:0.45", init="sp", vocab_size=4096)))
    assert re.search(r"no value for (\d+|less than 1) % of the map: ", reasons_of(start, "map"))
    start.set(**vars(State(width=64, vocab_size=300, steps=40, embedding_lr=0.02)))
    assert re.search(r"no value for \d+ % of the displacements: ", reasons_of(start, "life"))


def reasons_of(opened: Opened, view: str) -> str:
    opened.page.evaluate("explorer.drawAll()")
    return opened.page.inner_text(f"#view-{view} .reasons")


def test_a_map_is_drawn_coarsely_at_once_and_finely_soon(start):
    start.set(**vars(State(tokens="zipf:0.73")))
    count = "explorer.panels.get('map').drawn.rows.length"
    fine = start.page.evaluate(count)
    start.page.evaluate("explorer.set({tokens: 'zipf:0.74'})")
    assert start.page.evaluate(count) < fine / 3
    start.page.wait_for_function(f"{count} === {fine}")


def test_without_an_end_of_the_mup_regime_the_headline_says_how_far_was_looked(start):
    start.set(**vars(State(width=2048, tokens="zipf:1")))
    assert (
        "the μP regime holds at every vocabulary tried, up to 134,217,728."
        in start.page.inner_text("body")
    )


def test_nothing_jumps_while_a_slider_moves(start):
    start.page.evaluate(
        "window.jumped = 0; new PerformanceObserver(list => { for (const one of list.getEntries())"
        " window.jumped += one.value; }).observe({type: 'layout-shift', buffered: false})"
    )
    for width in (1100, 1300, 1700, 2300):
        start.set(width=width)
        start.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert start.page.evaluate("window.jumped") < 0.02


def test_a_phone_needs_no_sideways_scrolling(browser, explorer_file):
    phone = Opened(browser, explorer_file, viewport=PHONE, has_touch=True, color_scheme="dark")
    phone.page.evaluate("explorer.drawAll()")
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    dark = phone.page.evaluate("getComputedStyle(document.body.parentNode).backgroundColor")
    assert dark == "rgb(20, 23, 27)"
    assert phone.complaints == []
    phone.page.close()


def test_every_field_has_a_label(start):
    unnamed = start.page.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter(one => !(one.labels?.length"
        " || one.getAttribute('aria-label') || one.textContent)).map(one => one.outerHTML)"
    )
    assert unnamed == []


# Numbers

COUNTED = "900\n400\n250\n" + "".join(f"{100 - k}\n" for k in range(90))
STATES = {
    "uniform": State(width=512, vocab_size=4096),
    "zipf batch": State(width=300, vocab_size=900, tokens="zipf:0.6", batch_size=128, init="sp"),
    "aged": State(width=256, vocab_size=3000, steps=3, embedding_lr=0.02, outputs=20),
    "outputs": State(width=1024, vocab_size=32768, outputs=16),
    "sp, κ = 4": State(width=128, vocab_size=4096, init="sp"),
    "sgd": State(width=100, vocab_size=50, tokens="zipf:1", optimizer="sgd", base_width=200),
}


def of_command(line: str) -> dict[str, Any]:
    """The JSON document of a command that the page shows."""
    words = shlex.split(line)
    assert words[0] == "dynsim"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*words[1:], *(() if "--json" in words else ("--json",))])
    assert code == 0, line
    return json.loads(out.getvalue())


def close(found: float | None, expected: float | None, tolerance: float = 1e-9) -> bool:
    if found is None or expected is None:
        return found is expected
    return bool(np.isclose(found, expected, rtol=tolerance, atol=0))


@pytest.mark.parametrize("name", STATES)
def test_numbers_are_those_of_the_commands_that_are_shown(start, name):
    state = STATES[name]
    start.set(**vars(state))
    found = start.numbers()

    def shown(view: str, number: int = 0) -> dict[str, Any]:
        return of_command(start.commands(view)["shell"][number][1])

    derived = shown("map")
    assert found["map"]["crossover_vocab_size"] == derived["crossover_vocab_size"]
    if state.steps == 1:
        led = derived["local_exponent"]  # with the self term, by central differences
        assert close(found["map"]["local_exponent"], led, 1e-7) or (
            not np.isfinite(found["map"]["local_exponent"] or np.nan) and not derived["self_term"]
        )
    else:
        assert close(found["map"]["local_exponent"], shown("map", 1)["values"][0][0])
    for number, layer in enumerate(("embedding", "projection", "readout")):
        document = shown("updates", number)
        for what in ("rms", "local_exponent"):
            number_of_page = found["updates"][f"{layer}_{what}"]
            assert close(number_of_page, document[what], 1e-7), (layer, what)
    rules = shown("rules")
    for rule, key in (("muP", "mup"), ("LV", "lv"), ("interpolated", "interpolated")):
        assert close(found["rules"][f"{rule}_ratio_growth"], rules[key]["ratio_growth"])
        for layer in ("embedding", "hidden", "readout"):
            assert close(found["rules"][f"{rule}_{layer}"], rules[key]["factors"][layer])
    if name in ("uniform", "aged"):
        life = shown("life")
        for what in ("displacement", "steps", "visits"):
            assert close(found["life"][f"lifetime_{what}"], life[f"lifetime_{what}"])
        regimes = shown("tokens")
        assert close(found["tokens"]["mup_share_of_tokens"], regimes["mup_share_of_tokens"])
    if name == "uniform":
        ratio = shown("ratio")["values"][0][0]
        assert close(found["ratio"]["optimal_rate_ratio"], ratio)


def test_python_gives_the_same_numbers(start):
    start.set(width=512, vocab_size=700, tokens="zipf:0.4")
    found = start.numbers()
    expected = {
        "map": found["map"]["local_exponent"],
        "ratio": found["ratio"]["optimal_rate_ratio"],
        "tokens": found["tokens"]["mup_share_of_tokens"],
        "life": found["life"]["lifetime_displacement"],
    }
    for view, number in expected.items():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(start.commands(view)["python"], {})
        assert close(number, float(out.getvalue())), view


def test_hatching_is_that_of_the_map(start):
    """Cells of `dynsim map` and points of the page have the same values and the same gaps."""
    state = State(tokens="zipf:0.45", init="sp", vocab_size=4096)
    start.set(**vars(state))
    axes = ("--x", "width=16:4096:6", "--y", "vocab_size=16:65536:6")
    line = shlex.join(["dynsim", "map", *axes, "--tokens", state.tokens, "--init", state.init,
                       "--optimizer", state.optimizer])  # fmt: skip
    document = of_command(line)
    widths, sizes = (document["axes"][place]["values"] for place in "xy")
    found = start.page.evaluate(
        "([widths, sizes]) => sizes.map(m => widths.map(d => { const {value, reason} = "
        "theory.localExponent(explorer.model(), d, m); return reason ? null : value; }))",
        [widths, sizes],
    )
    flat = [(a, b) for one, two in zip(found, document["values"], strict=True)
            for a, b in zip(one, two, strict=True)]  # fmt: skip
    assert any(a is None for a, _ in flat)
    assert any(a is not None for a, _ in flat)
    assert all(close(a, b) for a, b in flat)


# State


def random_state(random: np.random.Generator) -> dict[str, object]:
    """Any state, at the ends of its ranges as often as between them."""
    state: dict[str, object] = {}
    for field in FIELDS:
        if field.choices:
            state[field.name] = random.choice([name for name, _ in field.choices])
        elif field.slider:
            low, high = field.slider
            value = float(np.exp(random.uniform(np.log(low), np.log(high))))
            value = random.choice([low, value, value, high])
            state[field.name] = value if field.kind == "number" else round(value)
    if random.random() < 0.1:  # the ends of what the command takes
        field, (_, high) = list(INTEGERS.items())[random.integers(len(INTEGERS))]
        state[field] = high
        state["embedding_lr"] = random.choice([LEAST_RATE, MOST_RATE])
    alpha = random.choice([0, 0.3, 1, 1.7, 20])
    state["tokens"] = random.choice(["uniform", f"zipf:{alpha}"])
    state["batch_size"] = random.choice([0, 1, 2, 1000, 2**53])
    state["outputs"] = min(int(random.choice([1, 1, 2, 40])), int(str(state["vocab_size"])))
    return {name: one.item() if hasattr(one, "item") else one for name, one in state.items()}


@pytest.mark.slow
def test_two_hundred_random_states_raise_no_error(browser, explorer_file):
    random = np.random.default_rng(3)
    one = Opened(browser, explorer_file, viewport=PHONE)
    for _ in range(200):
        state = random_state(random)
        one.set(**state)
        assert one.page.evaluate("document.body.dataset.wrong") is None, state
        assert one.complaints == [], state
    one.page.close()


def test_the_address_restores_the_state(browser, explorer_file, start):
    state = {**random_state(np.random.default_rng(5)), "tokens": "zipf:0.75"}
    start.set(**state)
    address = start.page.evaluate("explorer.address()")
    again = Opened(browser, explorer_file, "#" + address.partition("#")[2])
    assert again.page.evaluate("explorer.texts()") == start.page.evaluate("explorer.texts()")
    assert again.numbers() == start.numbers()
    assert again.complaints == []
    again.page.close()
    given, written = (dict(parse_qsl(text.partition("#")[2])) for text in (
        f"#{fragment(State(**state))}", address))  # fmt: skip
    assert list(given) == list(written)
    assert float(given.pop("embedding_lr")) == float(written.pop("embedding_lr"))
    assert given == written


def test_an_address_with_wrong_fields_keeps_the_right_ones(browser, explorer_file):
    one = Opened(browser, explorer_file, "#width=-3&vocab_size=77&tokens=nonsense&x=y")
    model = one.page.evaluate(
        "(({width, vocab_size, tokens}) => ({width, vocab_size, tokens}))(explorer.model())"
    )
    assert model == {"width": State().width, "vocab_size": 77, "tokens": State().tokens}
    told = one.page.inner_text("#notice")
    assert "--width -3: must be an integer" in told
    assert "--tokens 'nonsense': must be uniform, zipf:ALPHA" in told
    assert one.complaints == []
    one.page.close()


# Bad input

WRONG = {
    "width": (0, 1, 2**31),
    "vocab_size": (0, 2**40),
    "batch_size": (-1, 2**60),
    "outputs": (0, 40000),
    "steps": (0, 10**12),
    "base_width": (0,),
    "embedding_lr": (0.0, -1.0, 1e31),
    "tokens": ("zipf:-1", "zipf:21", "zipf:x", "nonsense", "uniform:3", "zipf:"),
}


def test_wrong_values_are_refused_in_the_words_of_the_command(start):
    assert set(WRONG) == {field.name for field in fields(State)} - {"init", "optimizer"}
    for field, values in WRONG.items():
        for value in values:
            with pytest.raises(InputError) as refused:
                State(**{field: value})
            expected = refused.value.written(flag)
            start.set(**{**vars(State()), field: value})
            told = start.page.evaluate("document.body.dataset.wrong")
            # Numbers are said as they were typed.
            assert told.split(": ", 1)[1] == expected.split(": ", 1)[1], (field, value)
            assert told.split()[0] == expected.split()[0]
            assert start.page.locator(f"#{field}-meaning.wrong").is_visible()
            assert told in start.page.inner_text("#notice")
    assert start.page.locator("#tokens-meaning.wrong").count() == 1


NO_NUMBERS = {"width": ("", "abc", "1.5", "nan"), "embedding_lr": ("", "abc", "0x10", "nan")}


def test_what_is_no_number_is_refused_in_the_words_of_the_command(start, capsys):
    for field, texts in NO_NUMBERS.items():
        for text in texts:
            start.set(**{**vars(State()), field: text})
            told = start.page.evaluate("document.body.dataset.wrong")
            assert main(["explore", flag(field), text]) == 2
            assert capsys.readouterr().err.strip() == f"dynsim: error: {told}"


@pytest.mark.parametrize("text", ["", "1.5", "1e400", "nan", "\u0661", "9" * 400, "<b>", "' or 1"])
def test_no_text_in_a_field_makes_it_hang(start, text):
    start.page.fill("#width", text)
    start.page.wait_for_function("document.body.dataset.wrong")
    assert start.page.input_value("#width") == text
    assert start.numbers()["map"]["local_exponent"] is not None  # the views stay


def test_files_of_counts_are_read_or_refused_as_by_the_command(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {
        "lines.txt": COUNTED,
        "words.txt": "the 30\nof 20\na b 10\n",
        "table.csv": "rank,frequency\n1,0.5\n2,0.3\n3,0.2\n",
        "object.json": '{"a": 5, "b": 7, "c": 1}',
        "prose.txt": "these are words\nand no counts\n",
        "later.txt": "5\n4\nfive\n",
        "negative.txt": "5\n-4\n",
        "zeros.txt": "0\n0\n",
        "empty.txt": "",
        "columns.csv": "count,n\n1,2\n3,4\n",
        "words.json": '{"a": "b"}',
    }
    for name, content in contents.items():
        file = Path(name)
        file.write_text(content)
        start.page.evaluate("document.getElementById('notice').textContent = ''")
        start.page.set_input_files("#counts-file", file)
        refused, counts = None, np.empty(0)
        try:
            counts = read_counts(file)
        except InputError as error:
            refused = error.written(flag)
        if refused is not None:
            start.page.wait_for_function("document.getElementById('notice').textContent")
            assert start.page.inner_text("#tokens-meaning") == refused
            continue
        start.page.wait_for_function(
            "name => explorer.model().tokens === name", arg=f"counts:{name}"
        )
        assert start.page.evaluate("explorer.model().vocab_size") == len(counts)
        shares = counts / counts.sum()
        square = start.page.evaluate("explorer.model().at(64, explorer.model().vocab_size).P_2")
        assert np.isclose(square, np.sum(shares**2), rtol=1e-12)


# Files of a view


def test_views_are_written_as_svg_png_and_csv(start, tmp_path):
    for view in VIEWS:
        for kind in ("SVG", "PNG", "CSV"):
            with start.page.expect_download() as waiting:
                start.page.click(f"#view-{view} .tools button:text-is('{kind}')")
            name = waiting.value.suggested_filename
            waiting.value.save_as(tmp_path / name)
        svg = (tmp_path / f"dynsim-{view}.svg").read_text()
        assert "var(--" not in svg
        assert ET.fromstring(svg).tag.endswith("svg")
        assert (tmp_path / f"dynsim-{view}.png").read_bytes().startswith(b"\x89PNG")
        about, head, *rows = (tmp_path / f"dynsim-{view}.csv").read_text().splitlines()
        assert "width=1024" in about
        assert len(rows) > 30
        assert all(len(row.split(",")) >= len(head.split(",")) for row in rows)


def test_formula_and_command_are_shown_on_demand(start):
    for view in VIEWS:
        for summary in start.page.locator(f"#view-{view} summary").all():
            summary.click()
        assert start.page.locator(f"#view-{view} math[display=block]").count() >= 1
        assert start.page.locator(f"#view-{view} li").count() >= 1
        assert "docs/theory/" in start.page.inner_text(f"#view-{view} .source >> nth=0")
        assert start.page.inner_text(f"#view-{view} pre >> nth=0").startswith("dynsim ")
