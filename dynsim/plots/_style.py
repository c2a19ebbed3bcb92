"""The one style of all figures, and how a figure is written.

matplotlib is imported inside functions, so that `FORMATS` and `figure_format` cost nothing.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynsim._errors import InputError
from dynsim._files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import Locator

STYLE = Path(__file__).parent / "dynsim.mplstyle"
FORMATS = ("png", "pdf", "svg")
# Without dates and names of versions the same figure is the same file. A PNG would be a tenth
# smaller by more compression, which takes half as much time again.
OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 3}},
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""the cycle of the style (Okabe and Ito), which the colour-blind can tell apart"""
PANEL_SIZE = (3.4, 2.7)
"""width and height of a panel in inches; two stand side by side on a page"""
MARGIN = 0.1
"""white around a figure in inches"""
DECADES = 2
"""a logarithmic axis that spans more has no labels between the powers of ten"""
BETWEEN = 0.06
"""space between two panels, as a part of their width"""


@contextmanager
def style() -> Iterator[None]:
    """Within this context figures have the one style: draw figures `with style():`.

    A notebook's backend is loaded by the first figure, and switches interactive drawing on. That
    must outlast the context, or the notebook shows no later figure.

    **Example:**

    >>> import matplotlib.pyplot as plt
    >>> from dynsim.plots import style
    >>> with style():
    ...     figure, axes = plt.subplots()
    ...     lines = axes.loglog([1, 10], [1, 10])
    ...
    >>> plt.close(figure)
    """
    import matplotlib
    import matplotlib.pyplot as plt

    interactive = matplotlib.is_interactive()
    try:
        with plt.style.context(STYLE):
            try:
                yield
            finally:
                interactive = matplotlib.is_interactive()
    finally:
        matplotlib.interactive(interactive)


def panels(
    rows: int = 1,
    columns: int = 1,
    size: tuple[float, float] = PANEL_SIZE,
    **options: Any,
) -> tuple[Figure, Any]:
    """A new figure of rows x columns panels, each of `size`, and its axes in two dimensions.

    `options` are those of `matplotlib.pyplot.subplots`, such as `sharex=True`.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * size[0], rows * size[1]),
        squeeze=False,
        layout="constrained",
        **options,
    )
    if columns > 1:
        figure.get_layout_engine().set(wspace=BETWEEN)  # type: ignore[union-attr, call-arg]
    return figure, axes


def cycle_colour(number: int) -> str:
    """A colour of the cycle. matplotlib's own "C0" would be another one outside of the style."""
    return COLOURS[number % len(COLOURS)]


def figure_format(field: str, path: Path) -> str:
    """The format that a file's extension asks for.

    Raises `InputError` for an extension that names none of `FORMATS`.
    """
    extension = path.suffix.lower().removeprefix(".")
    if extension not in FORMATS:
        *others, last = (f".{one}" for one in FORMATS)
        raise InputError(field, str(path), f"must end in {', '.join(others)} or {last}")
    return extension


def write(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Writes a figure as `stem`.png, `stem`.pdf and `stem`.svg; returns the files.

    The files hold no date and no version, so that the same figure is written as the same bytes.
    The figure is closed.

    **Example:**

    >>> from pathlib import Path
    >>> import matplotlib.pyplot as plt
    >>> from dynsim.plots import style, write
    >>> with style():
    ...     figure, axes = plt.subplots()
    ...     lines = axes.loglog([1, 10], [1, 10])
    ...
    >>> [file.name for file in write(figure, Path("powers"), ["png", "svg"])]
    ['powers.png', 'powers.svg']
    """
    paths = [stem.with_name(f"{stem.name}.{one}") for one in formats]
    _save(figure, paths)
    _close(figure)
    return paths


def save(figure: Figure, path: Path) -> None:
    """Writes a figure in the format that the file's extension asks for."""
    _save(figure, [path])


def _save(figure: Figure, paths: Sequence[Path]) -> None:
    """Writes the figure to every path, laid out once.

    matplotlib's own `bbox_inches="tight"` draws the whole figure once more for every file, to see
    how far it reaches.
    """
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    formats = [figure_format("path", path) for path in paths]
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # it draws a box
        engine, dpi = figure.get_layout_engine(), figure.dpi
        figure.dpi = plt.rcParams["savefig.dpi"]  # letters have other widths at another resolution
        _label_powers_plainly(figure)
        with _without_marks(figure) as left_out:
            for text in figure.findobj(Text):
                if (drawable := _drawable(text.get_text())) != text.get_text():
                    text.set_text(drawable)
            if engine is not None:
                engine.execute(figure)
                figure.set_layout_engine(None)  # with an engine it would be drawn once more
            box = figure.get_tightbbox().padded(MARGIN)
            with _marks_as_lines(left_out):
                for path, one in zip(paths, formats, strict=True):
                    content = io.BytesIO()
                    figure.savefig(content, format=one, bbox_inches=box, **OPTIONS[one])
                    write_file(path, content.getvalue())  # on a full disk no half figure
        figure.set_layout_engine(engine)
        figure.dpi = dpi


def _drawable(text: str) -> str:
    """Without control characters, which no font has: names of a user's file may hold them."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) != "Cc" else repr(c)[1:-1] for c in text
    )


def _label_powers_plainly(figure: Figure) -> None:
    """Labels of logarithmic axes become text with raised digits, which `plain_power` writes.

    They look the same; matplotlib's parser of mathematics takes longer than the rest of a figure.
    """
    from matplotlib.ticker import Formatter, LogFormatter

    class Plain(Formatter):
        def __init__(self, formatter: Formatter):
            self.formatter = formatter

        def set_axis(self, axis: Any) -> None:
            self.formatter.set_axis(axis)

        def set_locs(self, locs: Any) -> None:
            self.formatter.set_locs(locs)

        def __call__(self, x: float, pos: int | None = None) -> str:
            return plain_power(self.formatter(x, pos))

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):
                axis.set_major_formatter(Plain(axis.get_major_formatter()))
            if isinstance(axis.get_minor_formatter(), LogFormatter):
                axis.set_minor_formatter(Plain(axis.get_minor_formatter()))


RAISED = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)
POWER = re.compile(r"\$\\mathdefault\{(?P<times>[^{}^]*)(?P<base>\d+)\^\{(?P<power>-?\d+)\}\}\$")


def plain_power(label: str) -> str:
    """A label of a logarithmic axis without mathematics; other labels stay as they are."""
    found = POWER.fullmatch(label)
    if found is None:
        return label
    times = found["times"].replace(r"\times", "\u00d7").replace(" ", "")
    return times + found["base"] + found["power"].translate(RAISED)


@contextmanager
def _without_marks(figure: Figure) -> Iterator[list[tuple[Axes, Axis, Locator]]]:
    """Within this context logarithmic axes have no minor ticks, where these have no labels; yields
    the axes with what places their ticks.

    They take no room, but half the time of a layout.
    """
    from matplotlib.ticker import NullLocator

    kept = []
    for axes in figure.axes:
        for axis, scale, limits in (
            (axes.xaxis, axes.get_xscale(), axes.get_xlim()),
            (axes.yaxis, axes.get_yscale(), axes.get_ylim()),
        ):
            if scale == "log" and abs(math.log10(limits[1] / limits[0])) > DECADES:
                kept.append((axes, axis, axis.get_minor_locator()))
                axis.set_minor_locator(NullLocator())
    try:
        yield kept
    finally:
        for _, axis, locator in kept:
            axis.set_minor_locator(locator)


@contextmanager
def _marks_as_lines(left_out: Sequence[tuple[Axes, Axis, Locator]]) -> Iterator[None]:
    """Within this context the minor ticks that were left out are drawn, those of an axis as one
    line of markers.

    They look the same. A tick of its own has five artists, and hundreds of ticks take longer than
    all the rest of a figure. An axis whose ticks are not as the style has them gets its own back.
    """
    from matplotlib.ticker import NullLocator

    lines = []
    for axes, axis, locator in left_out:
        axis.set_minor_locator(locator)
        kind = axis.get_tick_params(which="minor").items()
        if {name: one for name, one in kind if "label" not in name} != PLAIN_TICKS[axis.axis_name]:
            continue
        lines.append(axes.add_artist(_marks(axes, axis)))
        axis.set_minor_locator(NullLocator())
    try:
        yield
    finally:
        for line in lines:
            line.remove()


PLAIN_TICKS = {
    "x": {"bottom": True, "top": False, "gridOn": False},
    "y": {"left": True, "right": False, "gridOn": False},
}
"""what `get_tick_params` says, but for labels, of ticks that only the style has shaped"""


def _marks(axes: Axes, axis: Axis) -> Line2D:
    """The minor ticks of an axis at the left or below, as matplotlib draws each of them."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import TICKDOWN, TICKLEFT, Line2D

    places = axis.get_minorticklocs()
    low, high = sorted(axis.get_view_interval())
    places = places[(low <= places) & (places <= high)]
    ends = [0.0] * len(places)
    below = axis.axis_name == "x"
    style: Any = plt.rcParams
    name = f"{axis.axis_name}tick"
    return Line2D(
        places if below else ends,
        ends if below else places,
        linestyle="",
        marker=TICKDOWN if below else TICKLEFT,
        markersize=style[f"{name}.minor.size"],
        markeredgewidth=style[f"{name}.minor.width"],
        color=style[f"{name}.color"],
        transform=axes.get_xaxis_transform() if below else axes.get_yaxis_transform(),
        zorder=axis.get_zorder(),
        clip_on=False,
    )


def _close(figure: Figure) -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)
