"""Forms: a receipt as YAML for the registry, and as a page for people that stands alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from quietcount_consumers.receipts.receipt import Receipt, open_questions
from quietcount_consumers.report.markup import Content, Element, element, extend, html_of, page_head

__all__ = ["page_of", "yaml_of"]

_HEADINGS: Final = {
    "basic": "The data product",
    "dp_variant": "Variant of differential privacy",
    "privacy_loss": "Privacy loss",
    "deployment_model": "Deployment model",
    "accounting": "Privacy-loss accounting",
    "implementation": "Implementation",
    "administrative": "About this record",
}


def yaml_of(receipt: Receipt) -> str:
    """Return the receipt as YAML. Text of several lines keeps its lines, as the registry's checks ask."""
    import yaml  # only here: nothing else of the service needs it

    class Lines(yaml.SafeDumper):
        """Writes text of several lines as a block."""

    def written(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    Lines.add_representer(str, written)
    text: Any = yaml.dump(receipt, Dumper=Lines, sort_keys=False, allow_unicode=True, width=float("inf"))
    return str(text)


def page_of(receipt: Receipt) -> str:
    """Return the receipt as HTML that asks nobody for anything, with what is still open marked at its top."""
    deployment = receipt["deployment"]
    title = f"Receipt: {deployment['basic']['name']}"
    body = element("body", element("header", element("h1", title), *_state(receipt)))
    main = element("main")
    for key, heading in _HEADINGS.items():
        facts = element("dl")
        for name, value in deployment[key].items():
            extend(facts, element("dt", name.replace("_", " ")), element("dd", *_shown(value)))
        extend(main, element("section", element("h2", heading), facts))
    return html_of(element("html", page_head(title), extend(body, main), lang="en"))


def _state(receipt: Receipt) -> Iterator[Element]:
    yield element(
        "p",
        "What the public ledger says of the guarantee, in the fields of the OpenDP deployments registry "
        f"(tier {receipt['tier']}, status {receipt['status']}).",
    )
    if missing := open_questions(receipt):
        items = (element("li", each) for each in missing)
        told = element("p", "A person still has to state:")
        yield element("div", told, element("ul", *items), class_="bound")


def _shown(value: object) -> Iterator[Element]:
    if isinstance(value, list):
        yield element("ul", *(element("li", str(each)) for each in value))
        return
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} = {each:g}" for name, each in value.items())
    items: list[Element] = []
    for line in str(value).splitlines():
        if line.startswith("- "):
            items.append(element("li", *_inline(line.removeprefix("- "))))
        elif line:
            yield element("p", *_inline(line))
    if items:
        yield element("ul", *items)


def _inline(text: str) -> Iterator[Content]:
    """Yield the text, and as code what stands between backticks."""
    for place, part in enumerate(text.split("`")):
        yield element("code", part) if place % 2 else part
