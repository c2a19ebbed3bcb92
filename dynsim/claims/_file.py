"""Claim files: claims as TOML, one `[[claim]]` each (docs/guides/claims.md).

An error is one line that names the file, the line and the claim.
"""

from __future__ import annotations

import errno
import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynsim._errors import InputError
from dynsim._files import read_file
from dynsim.scaling._family import plural

from ._claim import Claim, claim, in_full
from ._keys import REQUIRED, check_keys

MOST_BYTES, DEEPEST = 2**20, 50
_QUOTED = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*''', re.DOTALL
)
TABLES = ("claim", "defaults")
_HEADER = re.compile(r"\s*\[\[?\s*([\w.\"' -]+?)\s*\]\]?\s*(#.*)?")
_KEY = re.compile(r"\s*([\w-]+|\"[^\"]*\"|'[^']*')\s*(\.[^=]*)?=")
_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)| \(at end of document\)")


class ClaimFileError(InputError):
    """What is wrong with a claim file: its name, the line, and the error itself."""

    def __init__(self, path: str, line: int | None, problem: str):
        self.path, self.line, self.problem = path, line, problem
        super().__init__("claims", path, problem)

    def written(self, name: Callable[[str], str]) -> str:
        """The message; keys of a file have one name everywhere."""
        where = f"{self.path}, line {self.line}" if self.line else self.path
        return f"{where}: {self.problem}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.line, self.problem)


@dataclass(frozen=True)
class ClaimFile:
    """The claims of a file.

    - `digest`: SHA-256 of the file's bytes, which stands in every result.
    - `places`: for each claim, the line of each of its keys (of what it takes from the defaults,
      the line there), and under "" that of its head.
    """

    path: Path
    digest: str
    claims: tuple[Claim, ...]
    places: tuple[Mapping[str, int], ...]

    def error(self, name: str, error: InputError) -> ClaimFileError:
        """An error of a claim, with the place of its key in the file.

        A key that the file leaves out is at its default, which does not go with the quantity.
        """
        places = next(
            lines for one, lines in zip(self.claims, self.places, strict=True) if one.name == name
        )
        line = _line_of(places, error.field, "quantity")
        return ClaimFileError(str(self.path), line, f"claim {name}: {error.written(str)}")


def _line_of(places: Mapping[str, int], *keys: str) -> int | None:
    """The line of the first of these keys that stands in the file, else of the claim's head."""
    for key in (*keys[:1], plural(keys[0]), *keys[1:], ""):
        if key in places:
            return places[key]
    return None


def claim_file(path: Path | str) -> ClaimFile:
    """Reads a claim file. Raises `InputError` for the first thing that is wrong in it.

    **Example:**

    >>> from pathlib import Path
    >>> from dynsim import claim
    >>> from dynsim.claims import claim_file, claim_text
    >>> small = claim(
    ...     "projection-mup-small",
    ...     "At 4 tokens the projection's update grows as the width.",
    ...     "projection_step_rms",
    ...     widths=[16, 32, 64],
    ...     vocab_size=4,
    ...     prediction=1,
    ...     tolerance=0.3,
    ...     rival=0.5,
    ...     optimizer="sign",
    ... )
    >>> _ = Path("claims.toml").write_text(claim_text(small), encoding="utf-8")
    >>> [one.name for one in claim_file("claims.toml").claims]
    ['projection-mup-small']
    """
    path = Path(path)
    try:
        content = read_file(path, MOST_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            allowed = f"must have at most {MOST_BYTES} bytes"
            raise ClaimFileError(str(path), None, allowed) from None
        reason = error.strerror or type(error).__name__
        raise ClaimFileError(str(path), None, f"cannot be read: {reason}") from None
    claims, places = _claims(content, str(path))
    return ClaimFile(path, hashlib.sha256(content).hexdigest(), claims, places)


def _depth(text: str) -> int:
    """How deeply brackets are nested outside of strings and comments: tomllib recurses as deep."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[{\]}]", _QUOTED.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _claims(content: bytes, path: str) -> tuple[tuple[Claim, ...], tuple[Mapping[str, int], ...]]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ClaimFileError(path, line, "is not UTF-8 text") from None
    if _depth(text) > DEEPEST:
        raise ClaimFileError(path, None, "is nested too deeply")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(error, path, text) from None
    index = _Lines(text)
    for name, table in document.items():
        if name not in TABLES:
            problem = f"{name} is no table of a claim file; tables are {' and '.join(TABLES)}"
            raise ClaimFileError(path, index.line(0, name), problem)
        if not isinstance(table, list if name == "claim" else dict):
            shape = "[[claim]], once for each claim" if name == "claim" else "[defaults]"
            line = index.line(int(name == "claim"), name) or index.line(0, "", name)
            raise ClaimFileError(path, line, f"{name} must be written {shape}")
    defaults = document.get("defaults", {})
    try:
        check_keys(defaults)
    except InputError as error:
        line = index.line(0, "defaults", error.field)
        raise ClaimFileError(path, line, f"defaults: {error.written(str)}") from None
    tables = document.get("claim", [])
    if not tables:
        raise ClaimFileError(path, None, "holds no [[claim]]")
    claims: list[Claim] = []
    for number, table in enumerate(tables, 1):
        try:
            claims.append(_one(table, defaults, claims))
        except InputError as error:
            line = _line_of(index.of_claim(number, table, defaults), error.field)
            name = table.get("name") if isinstance(table, dict) else None
            which = (
                f"claim {name}" if isinstance(name, str) and len(name) < 80 else f"claim {number}"
            )
            raise ClaimFileError(path, line, f"{which}: {error.written(str)}") from None
    places = [index.of_claim(number, table, defaults) for number, table in enumerate(tables, 1)]
    return tuple(claims), tuple(places)


def _one(table: Any, defaults: Mapping[str, Any], before: Sequence[Claim]) -> Claim:
    if not isinstance(table, dict):
        raise InputError("claim", table, "must be a table")
    check_keys(table)
    try:
        check_keys(table.get("full", {}))
    except InputError as error:
        raise in_full(error, table["full"]) from None
    merged = {**defaults, **table}
    for key in REQUIRED:
        if key not in merged:
            raise InputError(key, None, "every claim needs it")
    found = claim(**merged)
    if any(one.name == found.name for one in before):
        raise InputError("name", found.name, "must be given to one claim only")
    return found


_UNQUOTED = re.compile(r"\s*[A-Za-z_]+\s*=\s*[^\s\"'\[{][^\"']*$")


def _not_toml(error: tomllib.TOMLDecodeError, path: str, text: str) -> ClaimFileError:
    message = str(error)
    place = _PLACE.search(message)
    reason = _PLACE.sub("", message).splitlines()[0]
    if place is None or place[1] is None:
        return ClaimFileError(path, text.count("\n") + 1, f"is not TOML: {reason} at the end")
    problem = f"is not TOML: {reason} at column {place[2]}"
    line = text.splitlines()[int(place[1]) - 1]
    if _UNQUOTED.match(line):
        problem += '; a text or a path stands between quotes, as in vocab_size = "4*d"'
    return ClaimFileError(path, int(place[1]), problem)


class _Lines:
    """Where keys stand: tomllib gives values without their places."""

    def __init__(self, text: str):
        self.places: dict[tuple[int, str, str], int] = {}
        number, section = 0, ""
        for line, part in _outside_texts(text):
            header, key = _HEADER.fullmatch(part), _KEY.match(part)
            if header is not None:
                section = re.sub(r"[\"' ]", "", header[1])
                number += section == "claim"
                owner = number if section.split(".")[0] == "claim" else 0
                self.places.setdefault((owner, section, ""), line)
            elif key is not None:
                owner = number if section.split(".")[0] == "claim" else 0
                self.places.setdefault((owner, section, key[1].strip("\"'")), line)

    def line(self, number: int, section: str, key: str = "") -> int | None:
        """The line of a key in a section (number 0: outside claims), or of the section."""
        if number and not section:
            section = "claim"
        for place in ((number, section, key), (number, section, ""), (number, "", section)):
            if place in self.places:
                return self.places[place]
        return None

    def of_claim(self, number: int, table: Any, defaults: Mapping[str, Any]) -> Mapping[str, int]:
        """The lines of a claim's keys, and under "" that of its head: in the claim, its larger
        version or the defaults. A key of an inline table is on the line of that table."""
        found: dict[str, int] = {}
        inline = self.places.get((0, "", "defaults"))
        if inline is not None:
            found |= dict.fromkeys(defaults, inline)
        found |= self._of_section(0, "defaults")
        found.pop("", None)
        table = table if isinstance(table, Mapping) else {}
        head = self.places.get((number, "claim", ""), self.places.get((0, "", "claim")))
        if head is not None:
            found |= dict.fromkeys(table, head) | {"": head}
        larger, own = self._of_section(number, "claim.full"), self._of_section(number, "claim")
        if "" in larger:
            own["full"] = larger.pop("")
        elif "full" in own and isinstance(table.get("full"), Mapping):
            larger = dict.fromkeys(table["full"], own["full"])
        return found | {f"full.{key}": line for key, line in larger.items()} | own

    def _of_section(self, number: int, section: str) -> dict[str, int]:
        return {
            key: line
            for (owner, where, key), line in self.places.items()
            if (owner, where) == (number, section)
        }


def _outside_texts(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines that do not begin inside a text of several lines."""
    closing = ""
    for number, line in enumerate(text.splitlines(), 1):
        inside = bool(closing)
        rest = line
        while True:
            if closing:
                _, found, rest = rest.partition(closing)
                if not found:
                    break
                closing = ""
            else:
                opened = re.search(r'"""|\'\'\'', rest)
                if opened is None or "#" in rest[: opened.start()]:
                    break
                closing, rest = opened[0], rest[opened.end() :]
        if not inside:
            yield number, line
