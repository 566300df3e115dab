"""Drawing: from a specification to a picture in the page, and to one that stands alone.

vl-convert draws Vega-Lite here, when the report is made. So the page holds finished pictures and no program.
"""

from __future__ import annotations

import base64
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final
from xml.etree.ElementTree import fromstring

from quietcount_consumers.errors import ConsumersError
from quietcount_consumers.report.markup import Element, element, extend, xml_of
from quietcount_consumers.report.palette import LIGHT

__all__ = ["DrawingMissing", "draw", "grid", "prepare", "standalone"]

_SVG: Final = "{http://www.w3.org/2000/svg}"
_NAMESPACE: Final = "http://www.w3.org/2000/svg"
_NUMBER: Final = re.compile(r"-?\d+\.\d{3,}")
_NUMERIC: Final = ("transform", "d", "x", "y", "x2", "y2", "dx", "dy", "width", "height")

_MARGIN: Final = 16
_ROW: Final = 10
_LINE: Final = 18
_CHARACTERS: Final = 96
"""How many characters of a title stand on a line of a picture that is 720 pixels wide."""


class DrawingMissing(ConsumersError):
    """The library that draws is not installed."""


def prepare() -> Any:
    """Return the library that draws. Raises DrawingMissing: a server needs no charts, so it is an extra."""
    try:
        import vl_convert  # 84 MB
    except ImportError:
        raise DrawingMissing(
            "a report needs vl-convert-python, which draws its pictures and is not installed",
            "Install it with: pip install 'vl-convert-python>=1.9,<2'",
        ) from None
    return vl_convert


def draw(spec: dict[str, Any], locale: dict[str, Any]) -> Element:
    """Return the picture of a Vega-Lite specification as a tree, with titles on the marks that have words."""
    # It may load nothing, from anywhere: all that it shows is in the specification.
    text = prepare().vegalite_to_svg(spec, format_locale=locale, allowed_base_urls=[])
    picture = fromstring(text)  # noqa: S314 what our own library wrote
    _clean(picture)
    return picture


def grid(pictures: Sequence[Element], width: float) -> Element:
    """Return a picture of that width with pictures of one size side by side, in rows."""
    across, down = float(pictures[0].get("width", "1")), float(pictures[0].get("height", "1"))
    columns = int(width // across)
    step = width / columns
    height = -(-len(pictures) // columns) * (down + _ROW) - _ROW
    whole = element("svg", width=f"{width:g}", height=f"{height:g}")
    whole.set("viewBox", f"0 0 {width:g} {height:g}")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        part = element(
            "svg", x=f"{column * step:g}", y=f"{row * (down + _ROW):g}", width=f"{across:g}", height=f"{down:g}"
        )
        part.set("viewBox", picture.get("viewBox", f"0 0 {across:g} {down:g}"))
        part.set("overflow", "visible")  # a font that is wider than ours must not be cut off
        part.extend(list(picture))
        whole.append(part)
    return whole


def standalone(picture: Element, title: str, source: str) -> str:
    """Return the address (data:) of a picture that stands alone: with its title, where it is from, and on paper."""
    width, height = float(picture.get("width", "0")), float(picture.get("height", "0"))
    above, below = textwrap.wrap(title, _CHARACTERS), textwrap.wrap(source, _CHARACTERS + 20)
    top = _MARGIN + _LINE * len(above) + 8
    whole = top + height + _LINE * len(below) + _MARGIN
    inner = element("svg", x=f"{_MARGIN}", y=f"{top:g}", width=f"{width:g}", height=f"{height:g}")
    inner.set("viewBox", picture.get("viewBox", f"0 0 {width:g} {height:g}"))
    inner.extend(list(picture))
    size = {"width": f"{width + 2 * _MARGIN:g}", "height": f"{whole:g}"}
    root = element("svg", element("title", title), element("rect", fill=LIGHT["paper"], **size), **size)
    root.set("xmlns", _NAMESPACE)
    root.set("viewBox", f"0 0 {size['width']} {size['height']}")
    root.set("font-family", "Liberation Sans, Arial, Helvetica, sans-serif")
    extend(root, *_text(above, _MARGIN + 12, 15, "ink", weight="bold"), inner)
    extend(root, *_text(below, top + height + 14, 11, "muted"))
    content = base64.b64encode(xml_of(root).encode()).decode()
    return f"data:image/svg+xml;base64,{content}"


def _text(lines: list[str], top: float, size: int, role: str, weight: str = "normal") -> Iterator[Element]:
    for number, text in enumerate(lines):
        yield element(
            "text",
            text,
            x=f"{_MARGIN}",
            y=f"{top + number * _LINE:g}",
            fill=LIGHT[role],
            font_size=f"{size}",
            font_weight=weight,
        )


def _clean(node: Element, *, within: bool = False) -> None:
    """Take away what says nothing: names for programs, empty shapes, digits that no screen shows.

    `within` says that the marks here have words for people; those of all others are about the specification.
    """
    node.tag = node.tag.removeprefix(_SVG)
    words = node.get("aria-label", "")
    hovered = within and node.tag == "path" and words
    for name in [each for each in node.attrib if each.startswith("aria-") or each in ("role", "pointer-events")]:
        del node.attrib[name]
    kept = node.get("class", "")
    node.attrib.pop("class", None)
    if "hover_marks" in kept:
        node.set("class", "hover")
        within = True
    for name in _NUMERIC:
        if name in node.attrib:
            node.set(
                name, _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), node.attrib[name])
            )
    if node.get("opacity") == "1":
        del node.attrib["opacity"]
    for child in list(node):
        _clean(child, within=within)
        if _says_nothing(child):
            node.remove(child)
    if hovered:
        node.set("fill", "transparent")  # not "none", which a mouse goes through
        node.insert(0, element("title", words))


def _says_nothing(node: Element) -> bool:
    if node.tag == "path":
        return (
            node.get("display") == "none"
            or node.get("d") in (None, "", "M0,0h0v0h0Z")
            or ("fill" not in node.attrib and "stroke" not in node.attrib)
        )
    return node.tag == "g" and not len(node)
