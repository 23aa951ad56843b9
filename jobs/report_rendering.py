"""Renders a report's document to PDF with typst.

The PDF is PDF/A-2b, which suits an archive and has one more use here: that standard forbids the box that stands for a
missing glyph, so typst refuses to write a report with one. Before that, every character of the document is tried
against the fonts of this machine; what none of them has is replaced and listed in the report and in the job's result.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import typst

from .errors import ReportFailed

REPLACEMENT = "?"
_TEMPLATE = Path(__file__).with_name("report_template.typ")
_STANDARD: Final = "a-2b"
_MAX_TRIES = 64
_UNDISPLAYED = re.compile(r"the text `(\".*\")` could not be displayed", re.DOTALL)
_PROBE = b"""
#set text(font: json(bytes(sys.inputs.fonts)))
#set page(width: 20cm, height: auto)
#for character in json(bytes(sys.inputs.characters)) [#character ]
"""


@dataclass(frozen=True)
class FontChoice:
    """Which fonts a report may use.

    Attributes:
        families: in order of preference; those that the machine lacks are passed over.
        paths: folders with further fonts.
        system: whether the machine's own fonts count.
    """

    families: tuple[str, ...]
    paths: tuple[str, ...] = ()
    system: bool = True


@dataclass(frozen=True)
class RenderedReport:
    """A finished PDF.

    Attributes:
        pdf: its bytes.
        pages: how many.
        missing_glyphs: the characters that no font has, such as `U+D55C HANGUL SYLLABLE HAN`.
    """

    pdf: bytes
    pages: int
    missing_glyphs: tuple[str, ...]


def render_report(document: dict[str, Any], choice: FontChoice, at: datetime) -> RenderedReport:
    """Render a document; call it in a thread, for it takes a second or two.

    Parameters:
        document: as `report_data.document_of` makes it.
        choice: the fonts.
        at: the PDF's creation time; the same document and time give the same bytes.

    Raises:
        ReportFailed: typst refuses the document.
    """
    fonts = _load_fonts(choice.paths, choice.system)
    known = {family.lower() for family in fonts.families()}
    families = json.dumps([family for family in choice.families if family.lower() in known] or ["Libertinus Serif"])
    missing = find_missing(_characters_of(document), fonts, families)
    printable = _replaced(document, missing) | {"missing": [name_of(character) for character in missing]}
    if not printable["subtitle"].replace(REPLACEMENT, "").strip():
        # A line of nothing but replacements tells the reader less than none; the note below names what was meant.
        printable["subtitle"] = ""
    inputs = {"document": json.dumps(printable), "fonts": families}
    try:
        compiler = typst.Compiler(str(_TEMPLATE), root=_TEMPLATE.parent, font_paths=fonts, sys_inputs=inputs)
        pdf = compiler.compile(format="pdf", pdf_standards=_STANDARD, timestamp=int(at.timestamp()))
        pages = json.loads(compiler.query("<page-count>", field="value", one=True))
    except typst.TypstError as error:
        raise ReportFailed(f"typst could not render the report: {error.message}") from error
    if not isinstance(pdf, bytes):
        raise ReportFailed("typst returned no document")
    return RenderedReport(pdf, pages, tuple(printable["missing"]))


def find_missing(characters: Sequence[str], fonts: typst.Fonts, families: str) -> list[str]:
    """Return those characters that no font can show.

    typst names one of them each time it refuses the rest, so this takes one short run for each. After 64, which is
    text in a script without any font, the other characters of these scripts are taken for missing too.

    Parameters:
        characters: what to try.
        fonts: the loaded fonts.
        families: a JSON list of families, the preferred first.
    """
    left = list(characters)
    missing: list[str] = []
    compiler = typst.Compiler(font_paths=fonts)
    while left and len(missing) < _MAX_TRIES:
        inputs = {"characters": json.dumps(left), "fonts": families}
        try:
            compiler.compile(_PROBE, format="pdf", pdf_standards=_STANDARD, sys_inputs=inputs)
            return missing
        except typst.TypstError as error:
            refused = _refused_character(error)
            if refused not in left:
                raise ReportFailed(f"typst could not try the fonts: {error.message}") from error
            left.remove(refused)
            missing.append(refused)
    scripts = {_script_of(character) for character in missing}
    return missing + [character for character in left if _script_of(character) in scripts]


def name_of(character: str) -> str:
    """Return `U+D55C HANGUL SYLLABLE HAN` for a character."""
    return f"U+{ord(character):04X} {unicodedata.name(character, 'unnamed')}"


@lru_cache(maxsize=4)
def _load_fonts(paths: tuple[str, ...], system: bool) -> typst.Fonts:
    """Look through the font folders once a process: with many fonts that takes longer than a report."""
    return typst.Fonts(include_system_fonts=system, include_embedded_fonts=True, font_paths=list(paths))


def _refused_character(error: typst.TypstError) -> str:
    found = _UNDISPLAYED.search(error.message)
    return json.loads(found.group(1)) if found else ""


def _characters_of(value: Any) -> list[str]:
    """Return the distinct characters beyond ASCII in all strings of a document."""
    texts = json.dumps(value, ensure_ascii=False)
    return sorted({character for character in texts if ord(character) > 126 and not character.isspace()})


def _replaced(value: Any, missing: Sequence[str]) -> Any:
    """Return the document with every missing character replaced."""
    table = str.maketrans(dict.fromkeys(missing, REPLACEMENT))
    return json.loads(json.dumps(value, ensure_ascii=False).translate(table))


def _script_of(character: str) -> str:
    return unicodedata.name(character, "unnamed").split()[0]
