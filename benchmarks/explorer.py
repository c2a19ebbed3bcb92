"""The explorer's redraw: the milliseconds from a move of a slider to new views in sight.

python -m benchmarks.explorer [--json]

Headless Chromium, driven by Playwright, opens a page that `dynsim explore` wrote. Each slider is
moved to 24 places in an order that jumps about, after six that let the browser compile. The time
starts with the frame that follows the move and ends when the views in sight are computed, laid out
and painted: the wait for a screen's next frame is not in it. Exit code 1 if the median of a slider
is more than 50 ms. It takes some four minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LIMIT = 50.0  # milliseconds
WARM, MOVES = 6, 24
REST = 400  # milliseconds between two moves, in which the page draws the fine map and other views
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WINDOWS = {"laptop": (1400, 900), "phone": (390, 844)}
FIELDS = [
    "width",
    "vocab_size",
    "zipf",
    "batch_size",
    "outputs",
    "embedding_lr",
    "steps",
    "base_width",
]
STATE = "#width=1024&vocab_size=32768&tokens=zipf:0.7&steps=2"
MOVE = """([selector, share]) => new Promise((done) => {
  const slider = document.querySelector(selector);
  slider.value = Number(slider.min) + (slider.max - slider.min) * share;
  requestAnimationFrame(() => {  // asked for before the page's own: it runs first in their frame
    const began = performance.now();
    const channel = new MessageChannel();  // heard once the frame is laid out and painted
    channel.port1.onmessage = () => done(performance.now() - began);
    channel.port2.postMessage(null);
  });
  slider.dispatchEvent(new Event("input"));
})"""


def moved(browser: Browser, page_file: Path, window: tuple[int, int], field: str) -> list[float]:
    """Milliseconds of each move of one slider; the first ones, which compile, are not kept."""
    width, height = window
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(page_file.as_uri() + STATE)
    page.wait_for_timeout(1000)
    slider = "#zipf-slider" if field == "zipf" else f".field:has(#{field}) input[type=range]"
    drawn = []
    for k in range(-WARM, MOVES):
        drawn.append(page.evaluate(MOVE, [slider, ((7 * k) % MOVES + 0.5) / MOVES]))
        page.wait_for_timeout(REST)
    page.close()
    return drawn[WARM:]


def measured(chromium: str) -> dict[str, dict[str, list[float]]]:
    from playwright.sync_api import sync_playwright  # needed by no other benchmark

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        page_file = Path(folder, "explorer.html")
        subprocess.run([sys.executable, "-m", "dynsim", "explore", "--out", str(page_file)],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        return {
            name: {field: moved(browser, page_file, window, field) for field in FIELDS}
            for name, window in WINDOWS.items()
        }


def main() -> int:
    parser = argparse.ArgumentParser(description="Milliseconds of the explorer's redraw.")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        sys.exit("no browser: apt-get install chromium")
    found = measured(chromium)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{'ms from a move to its picture':<30}{'median':>8}{'worst':>8}{'above 50':>10}")
        for window, sliders in found.items():
            for field, drawn in sliders.items():
                late = sum(one > LIMIT for one in drawn)
                print(f"{window + ', ' + field:<30}{statistics.median(drawn):8.0f}{max(drawn):8.0f}"
                      f"{late:6d}/{len(drawn)}")  # fmt: skip
    medians = [statistics.median(drawn) for one in found.values() for drawn in one.values()]
    return 0 if max(medians) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
