"""The explorer beside the documentation's pages: `explorer.html` in the folder of every HTML build.

`python docs/_ext/explorer_page.py` draws the screenshots of its guide again, in a browser.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "figures"
FILE = "explorer.html"
LAPTOP, PHONE = (1280, 900), (390, 844)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLOURS = 256  # of a screenshot

# By name: the address, the window, light or dark, and the view that is shown (None: the top).
SCREENSHOTS: dict[str, tuple[str, tuple[int, int], str, str | None]] = {
    "explorer_start": ("", LAPTOP, "light", None),
    "explorer_age": (
        "width=1024&vocab_size=32768&tokens=zipf:0.7&steps=3&optimizer=adam",
        LAPTOP,
        "light",
        "map",
    ),
    "explorer_tokens": ("width=4096&vocab_size=50257&tokens=zipf:1", LAPTOP, "light", "tokens"),
    "explorer_rules": (
        "width=8192&vocab_size=128000&tokens=zipf:0.8&optimizer=adam&base_width=256",
        LAPTOP,
        "dark",
        "rules",
    ),
    "explorer_phone": ("width=2048&vocab_size=65536&tokens=zipf:0.4", PHONE, "light", None),
}


def write(app: Any, error: Exception | None) -> None:
    """Writes the explorer into the folder of an HTML build that has not failed."""
    if error is None and app.builder.format == "html":
        from experiments.explorer.page import page
        from experiments.precision import enable_x64

        enable_x64()
        (Path(app.outdir) / FILE).write_text(page(), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def draw(folder: Path) -> None:
    """The screenshots of all states as PNG files of few colours."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    from experiments.explorer.page import page
    from experiments.precision import enable_x64

    enable_x64()
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit("no browser: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as running:
        file = Path(temporary) / FILE
        file.write_text(page(), encoding="utf-8")
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (state, (width, height), scheme, view) in SCREENSHOTS.items():
            window = {"width": width, "height": height}
            tab = browser.new_page(viewport=window, color_scheme=scheme, device_scale_factor=1.5)
            tab.goto(f"{file.as_uri()}#{state}")
            tab.evaluate("explorer.drawAll()")
            # what is in front of a view when the page is scrolled does not belong to its picture
            tab.evaluate("document.getElementById('headline').style.position = 'static'")
            target = tab if view is None else tab.locator(f"#view-{view}")
            shot = target.screenshot()
            picture = (
                Image.open(io.BytesIO(shot))
                .convert("RGB")
                .quantize(COLOURS, Image.Quantize.FASTOCTREE)
            )
            picture.save(folder / f"{name}.png", optimize=True)
            tab.close()
        browser.close()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    draw(FIGURES)
