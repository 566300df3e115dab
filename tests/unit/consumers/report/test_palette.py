"""The colours of the report can be told apart by everybody, by day and by night."""

from __future__ import annotations

import pytest

from quietcount_consumers.report.palette import DARK, LIGHT, contrast, style

pytestmark = pytest.mark.quick

TEXT = 4.5  # WCAG 2.2, 1.4.3 (AA)
SHAPE = 3.0  # WCAG 2.2, 1.4.11 (AA): lines, points and bars

# What is read or seen, and on what.
PAIRS = [
    ("ink", "paper", TEXT),
    ("ink", "surface", TEXT),
    ("muted", "paper", TEXT),
    ("muted", "surface", TEXT),
    ("figure", "paper", TEXT),  # it is the colour of links, too
    ("figure", "surface", TEXT),
    ("warning", "withheld", TEXT),
    ("edge", "paper", SHAPE),
    ("figure", "pale", SHAPE),
    ("ink", "figure", 0),
]


def faint(colours: dict[str, str]) -> list[tuple[str, str]]:
    return [(one, other) for one, other, least in PAIRS if contrast(colours[one], colours[other]) < least]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_shapes_stand_out_from_what_is_behind_them(colours: dict[str, str]) -> None:
    assert faint(colours) == []


def test_a_faint_colour_is_found() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#777777") == pytest.approx(1)
    assert ("muted", "paper") in faint({**LIGHT, "muted": "#999999"})


def test_each_colour_has_one_role_that_the_style_exchanges() -> None:
    """Two roles of one colour would be exchanged for one another in the dark."""
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)
    for role, colour in LIGHT.items():
        assert f'svg [fill="{colour}"] {{ fill: var(--{role}); }}' in style()
