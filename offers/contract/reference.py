"""The reference of a file's keys: a JSON Schema with which editors check the file, and tables for its docs page."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from offers.yaml_file import Section

Words = Mapping[str, Mapping[str, str]]
"""What each key of each section means, by the section's class."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TABLE = re.compile(r"(<!-- keys of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def json_schema(model: type[Section], title: str, words: Words) -> str:
    """Write the JSON Schema of a file."""
    schema = model.model_json_schema(mode="validation")
    for name, section in {model.__name__: schema, **schema.get("$defs", {})}.items():
        section.pop("title", None)
        section.pop("description", None)
        for key, field in section.get("properties", {}).items():
            field.pop("title", None)
            if meaning := words.get(name, {}).get(key):
                field["description"] = meaning.replace("`", "")
    return json.dumps({"$schema": _DIALECT, "title": title, **schema}, indent=1, ensure_ascii=False) + "\n"


def with_tables(page: str, sections: Mapping[str, type[Section]], words: Words) -> str:
    """Replace the tables between a page's marks by tables of the sections' keys and defaults."""

    def table(match: re.Match[str]) -> str:
        lines = "\n".join(_lines(sections[match[2]], words[match[2]]))
        return f"{match[1]}{lines}\n{match[3]}"

    return _TABLE.sub(table, page)


def sections_of(model: type[Section]) -> dict[str, type[Section]]:
    """Collect a file's section and the sections inside it, by the names of their classes."""
    models = {model.__name__: model}
    for field in model.model_fields.values():
        for kind in _sections_in(field.annotation):
            if kind.__name__ not in models:
                models |= sections_of(kind)
    return models


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _sections_in(argument)


def _lines(section: type[Section], words: Mapping[str, str]) -> Iterator[str]:
    yield "| key | default | what it says |"
    yield "|---|---|---|"
    for key, field in section.model_fields.items():
        yield f"| `{field.alias or key}` | {_default(field)} | {words[key]} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Section):
        return "see below"
    if isinstance(default, bool):
        return str(default).lower()
    if default is None or default in ("", (), {}):
        return "none"
    return (
        f"{default:g}" if isinstance(default, float) else f"`{default}`" if isinstance(default, str) else str(default)
    )


def main() -> None:
    """Rewrite the tables of docs/contract.md and docs/market.md."""
    from offers.contract.contract import Contract
    from offers.contract.market import Market
    from offers.contract.market_words import MARKET
    from offers.contract.words import CONTRACT

    pages: list[tuple[str, type[Section], Words]] = [("contract", Contract, CONTRACT), ("market", Market, MARKET)]
    for name, model, words in pages:
        page = Path("docs") / f"{name}.md"
        page.write_text(with_tables(page.read_text("utf-8"), sections_of(model), words), "utf-8")


if __name__ == "__main__":
    main()
