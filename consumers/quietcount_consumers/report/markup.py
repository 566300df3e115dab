"""Markup: elements of the page, as a tree. Text that comes from people is text in it, whatever characters it holds.

The tree is the one of the standard library, so that drawings, which are trees too, become parts of it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from html import escape
from importlib import resources
from typing import Final
from xml.etree.ElementTree import Element, tostring

from quietcount_consumers.report.palette import style

__all__ = ["Content", "Element", "clean", "element", "extend", "html_of", "page_head", "xml_of"]

Content = Element | str | None

_CONTROLS: Final = ("Cc", "Cs", "Cn")
_TURNS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates (Unicode, bidirectional algorithm)."""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Even if something slipped in, no browser would run it or fetch anything for it."""

_VOID: Final = ("meta",)
"""The elements of the page that hold nothing, and have no end."""


def element(tag: str, *contents: Content, **attributes: str) -> Element:
    """Return an element. In the names of attributes `_` stands for `-`, and is left out at the end (`class_`)."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    return extend(made, *contents)


def extend(parent: Element, *contents: Content) -> Element:
    """Append text and elements to `parent`, and return it. None is nothing."""
    for each in contents:
        if each is None:
            continue
        if isinstance(each, Element):
            parent.append(each)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(each)
        else:
            parent.text = (parent.text or "") + clean(each)
    return parent


def page_head(title: str) -> Element:
    """Return the head of a page that asks nobody for anything, with the house's style."""
    css = resources.files("quietcount_consumers.report").joinpath("page.css").read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", f"{style()}\n{css}"),
    )


def html_of(page: Element) -> str:
    """Return a page as HTML. Only `style` is written as it is; nothing that people wrote comes into one."""
    return "".join(["<!DOCTYPE html>\n", *_html(page), "\n"])


def xml_of(drawing: Element) -> str:
    """Return a drawing as XML."""
    return tostring(drawing, encoding="unicode")


def clean(text: str) -> str:
    """Return the text without control characters.

    XML has no way to write most of them, so that no picture could be opened. Those that turn the direction of writing
    would turn what stands behind them, too.
    """
    return "".join(" " if each in _TURNS or unicodedata.category(each) in _CONTROLS else each for each in text)


def _html(node: Element) -> Iterator[str]:
    # Not the library's own way, which leaves "<" in attributes: right, and yet nothing to explain to a mail filter.
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in node.items())
    yield f"<{node.tag}{attributes}>"
    if node.tag in _VOID:
        return
    text = node.text or ""
    yield text if node.tag == "style" else escape(text)
    for child in node:
        yield from _html(child)
        yield escape(child.tail or "")
    yield f"</{node.tag}>"
