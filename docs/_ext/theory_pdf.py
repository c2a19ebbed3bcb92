"""The theory pages as one PDF: `python tasks.py pdf`, after `python tasks.py docs`.

A browser opens the built pages in the order of their table of contents, so that formulas are those
of the pages, puts the chapters together and prints them. LaTeX is not needed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from explorer_page import BROWSERS

BUILT = Path(__file__).parents[1] / "_build"
FORMULAS_WAIT = 60_000  # milliseconds
STYLE = """
@page { margin: 18mm 16mm; }
body { font: 10pt/1.45 Georgia, 'DejaVu Serif', serif; margin: 0; }
article { break-before: page; }
article:first-of-type { break-before: auto; }
h1, h2, h3, .rubric { font-family: Helvetica, 'DejaVu Sans', sans-serif; break-after: avoid; }
img, svg { max-width: 100%; } img { height: auto; display: block; margin: auto; }
table { border-collapse: collapse; font-size: 8pt; } td, th { padding: 2pt 5pt; }
tr { border-bottom: 0.4pt solid #999; break-inside: avoid; vertical-align: top; }
pre, code { font-size: 8.5pt; white-space: pre-wrap; overflow-wrap: anywhere; }
a { color: inherit; text-decoration: none; } .headerlink { display: none; }
mjx-container[display="true"] { display: block; text-align: center; margin: 6pt 0; }
mjx-assistive-mml { display: none; }
"""
# An article whose links point into the same document, or nowhere, and whose images are absolute.
ARTICLE = """() => {
  const article = document.querySelector('article');
  article.querySelectorAll('img').forEach((one) => { one.src = one.src; });
  article.querySelectorAll('a[href]').forEach((one) => {
    const inside = one.href.includes('/theory/') && one.hash;
    if (inside) one.setAttribute('href', one.hash);
    else if (one.protocol === 'file:') one.removeAttribute('href');
  });
  return article.outerHTML;
}"""
READY = "() => !document.querySelector('.math') || document.querySelector('mjx-container svg')"


def write(pages: Path, file: Path) -> None:
    """Prints the theory pages in the folder of a built HTML documentation to a PDF file."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    index = pages / "theory/index.html"
    if path is None:
        raise SystemExit("no browser: apt-get install chromium")
    if not index.exists():
        raise SystemExit(f"{index} does not exist: run python tasks.py docs first")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(index.as_uri())
        links = "all => all.map(one => one.href)"
        chapters = tab.eval_on_selector_all("article .toctree-l1 > a", links)
        articles = []
        for address in (index.as_uri(), *chapters):
            tab.goto(address)
            tab.wait_for_function(READY, timeout=FORMULAS_WAIT)
            tab.evaluate("window.MathJax?.startup?.promise")
            articles.append(tab.evaluate(ARTICLE))
        whole = file.with_suffix(".html")
        head = f"<meta charset='utf-8'><title>dynsim: theory</title><style>{STYLE}</style>"
        whole.write_text(f"<!doctype html>{head}{''.join(articles)}", encoding="utf-8")
        tab.goto(whole.as_uri())
        tab.pdf(path=file, format="A4", display_header_footer=True, outline=True, tagged=True,
                header_template="<span></span>", footer_template=FOOTER)  # fmt: skip
        browser.close()
    whole.unlink()


FOOTER = (
    "<div style='font-size: 7pt; width: 100%; text-align: center'>dynsim: theory, page "
    "<span class='pageNumber'></span> of <span class='totalPages'></span></div>"
)

if __name__ == "__main__":
    write(BUILT / "html", BUILT / "dynsim-theory.pdf")
    print(BUILT / "dynsim-theory.pdf", file=sys.stderr)
