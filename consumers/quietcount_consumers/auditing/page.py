"""The page of an audit: one HTML file that stands alone, for people who were not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quietcount_consumers.auditing.audit import Audit
from quietcount_consumers.auditing.measurement import CHECKS, Measurement
from quietcount_consumers.report.markup import Element, element, extend, html_of, page_head

__all__ = ["COLUMNS", "certainty", "figure", "page_of", "verdict"]

COLUMNS: Final = ("check", "subject", "declared", "measured", "confidence", "verdict")

_TITLES: Final = {
    "stories": "Stories: what one case can change",
    "epsilon": "Epsilon: what an attacker can learn at least",
    "noise": "Noise: what is installed",
    "intervals": "Intervals: how often they miss",
}
_MEANINGS: Final = {
    "stories": "Synthetic events went from emitted bytes to the published file by the code of the service: the log, "
    "the same log without one case, and two halves of its cases. Chance has no part: each distance is exact.",
    "epsilon": "Pairs of logs differ in one case. The installed mechanism drew for both as a release does, and the "
    "best test we know tells them apart. What it learns is a lower bound on epsilon, and must not exceed what is "
    "declared. A bound far below that proves little. One near it shows that the test sees what there is.",
    "noise": "The installed mechanism drew as a release does, and its draws were compared with the distribution that "
    "is published beside each figure.",
    "intervals": "Made-up counts were drawn, published and asked for by the code of the service, and the true values "
    "compared with the intervals.",
}


def figure(value: float) -> str:
    """Return a number as people read it."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def certainty(measurement: Measurement) -> str:
    """Return the confidence of a measurement as people read it."""
    return "certain" if measurement.confidence >= 1 else f"{100 * measurement.confidence:.6g} %"


def verdict(measurement: Measurement) -> str:
    """Return what came out, in a few words."""
    if not measurement.shown:
        return "not shown" if measurement.holds else "NOT SHOWN"
    return "holds" if measurement.holds else "DOES NOT HOLD"


def page_of(audit: Audit) -> str:
    """Return the page as HTML. It holds no program, and asks nobody for anything."""
    title = f"Audit of {audit.catalogue}"
    body = element("body", _header(audit, title), element("main", *_main(audit)))
    return html_of(element("html", page_head(title), body, lang="en"))


def _header(audit: Audit, title: str) -> Element:
    facts = {
        "Date": audit.day.isoformat(),
        "Seed": str(audit.seed),
        "Stories": f"{audit.stories:,}",
        "Draws for each log": f"{audit.draws:,}",
        **audit.versions,
    }
    told = (element("div", element("dt", name), element("dd", value)) for name, value in facts.items())
    failed = [each for each in audit.measurements if not each.holds]
    said = (
        f"All {len(audit.measurements)} measurements are as declared"
        if audit.holds
        else f"{len(failed)} of {len(audit.measurements)} measurements do not hold: publish nothing"
    )
    if unseen := sum(not each.shown for each in audit.measurements):
        said += f". {unseen} of them {'shows' if unseen == 1 else 'show'} nothing"
    return element(
        "header",
        element("h1", title),
        element("dl", *told, class_="facts"),
        element("div", element("p", said), class_="bound"),
    )


def _main(audit: Audit) -> Iterator[Element]:
    for check in CHECKS:
        rows = [each for each in audit.measurements if each.check == check]
        if not rows:
            continue
        section = element("section", element("h2", _TITLES[check]), element("p", _MEANINGS[check]))
        titles = (element("th", each, scope="col", class_="words") for each in (*COLUMNS[1:], "in words"))
        body = element("tbody")
        for each in rows:
            cells = [figure(each.declared), figure(each.measured), certainty(each), verdict(each)]
            extend(
                body,
                element(
                    "tr",
                    element("th", each.subject, scope="row"),
                    *(element("td", cell, **({} if each.holds else {"class_": "withheld"})) for cell in cells),
                    element("td", each.detail, class_="words"),
                ),
            )
        table = element("table", element("thead", element("tr", *titles)), body)
        yield extend(section, element("div", table, class_="scroll", tabindex="0"))
    yield element(
        "section",
        element("h2", "What this does not show"),
        element(
            "p",
            "An audit tries what its authors thought of. It shows faults, and their absence only where it looked. It "
            "takes the secrets for secret, the machine for the operator's own, and each case for one person.",
        ),
    )
