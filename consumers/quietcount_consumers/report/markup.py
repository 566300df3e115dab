"""Markup: elements of the page, as a tree. Text that comes from people is text in it, whatever characters it holds.

The tree is the one of the standard library, so that drawings, which are trees too, become parts of it.
"""

from __future__ import annotations

import unicodedata
from xml.etree.ElementTree import Element, tostring

__all__ = ["Content", "Element", "clean", "element", "extend", "html_of", "xml_of"]

Content = Element | str | None


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


def html_of(page: Element) -> str:
    """Return a page as HTML. Only `style` is written as it is; nothing that people wrote comes into one."""
    return "<!DOCTYPE html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def xml_of(drawing: Element) -> str:
    """Return a drawing as XML."""
    return tostring(drawing, encoding="unicode")


def clean(text: str) -> str:
    """Return the text without control characters: XML has no way to write them, so that no picture could be opened."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Cs", "Cn") else each for each in text)
