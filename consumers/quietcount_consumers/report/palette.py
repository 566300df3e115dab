"""Palette: the colours of the page and its pictures, light and dark.

A picture is drawn in the light colours, each of which has one role. So a picture is right by itself, also where style
is stripped, and the page's style exchanges colour for colour where it is dark. One hue carries all figures, and shape
says the rest (dashes, hollow points): nobody has to tell two colours apart.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DARK", "LIGHT", "contrast", "style"]

LIGHT: Final = {
    "paper": "#ffffff",
    "surface": "#f4f6f9",
    "ink": "#17202b",
    "muted": "#566273",
    "grid": "#e1e6ec",
    "edge": "#788596",
    "figure": "#1f5fa8",
    "pale": "#a9c6e8",
    "withheld": "#f3e3b3",
    "warning": "#6a4d00",
}

DARK: Final = {
    "paper": "#12171e",
    "surface": "#1b222c",
    "ink": "#e8edf3",
    "muted": "#aab6c5",
    "grid": "#2c3643",
    "edge": "#7f8da0",
    "figure": "#74b6f7",
    "pale": "#2f5a86",
    "withheld": "#4d3f14",
    "warning": "#f0d68a",
}


def style() -> str:
    """Return the style that gives each colour of the page and of its pictures a light and a dark value."""
    return "\n".join(
        [
            f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}",
            f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}",
            "@media print { :root { color-scheme: light; } }",
            *(
                f'svg [{part}="{colour}"] {{ {part}: var(--{role}); }}'
                for role, colour in LIGHT.items()
                for part in ("fill", "stroke")
            ),
        ]
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2, contrast ratio)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    red, green, blue = (_linear(int(colour[place : place + 2], 16) / 255) for place in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{role}: {colour};" for role, colour in colours.items())
