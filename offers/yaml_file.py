"""Strict YAML: reads the project's files into pydantic models, and explains every mistake by line and key."""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from yaml.constructor import ConstructorError

from offers.errors import OffersError
from offers.record import Record

Problem = tuple[tuple[str | int, ...], str]
"""Where a mistake stands, as a path of keys below the one that is checked, and what is wrong there."""

Text = Annotated[
    str,
    BeforeValidator(lambda v: str(v) if type(v) in (int, float) else v),
    WithJsonSchema({"type": ["string", "number"]}),
]

Content = TypeVar("Content", bound="Section")

_SHOWN = 5
_MOST_ALIASED = 10_000
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*( [A-Za-z0-9_.-]+)*")
_NO_TEXT = ("true", "false", "null")
_LABELS = ("name", "id", "reason")


# What was expected, by pydantic's type of error or its beginning.
_EXPECTED = {
    "int": "a whole number",
    "int_from": "a whole number",
    "date_from_datetime": "a day such as 2026-12-31",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "tuple": "a list",
    "list": "a list",
    "dict": "keys with values",
    "mapping": "keys with values",
    "model": "keys with values",
    "model_attributes": "keys with values",
}
_SINGULAR = {"at least 1 entries": "at least 1 entry", "at most 1 characters": "at most 1 character"}
_FORMS: dict[str, str] = {}


def form(pattern: str, words: str) -> Any:
    """Define a text field with a pattern, which messages describe by `words`."""
    _FORMS[pattern] = words
    return Field(pattern=pattern)


class Section(Record):
    """A part of a file."""


def refuse(problems: Iterable[Problem]) -> None:
    """Refuse a section for the first of its problems; to be called in the section's validators."""
    for key, problem in problems:
        raise PydanticCustomError("inconsistent", "{problem}", {"key": key, "problem": problem})


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans (no, yes and on are words) and each key occurs once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in keys:
                raise ConstructorError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp", ":int"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))


@dataclass(frozen=True)
class Document:
    """A YAML text that was read; `origin` names it in messages."""

    origin: str
    noun: str
    error: type[OffersError]
    root: yaml.Node | None
    content: dict[str, Any]

    def into(self, kind: type[Content]) -> Content:
        """Validate the content as a model; raises `error`, which names line and key of each mistake."""
        try:
            return kind.model_validate(self.content)
        except ValidationError as error:
            raise self.error("; ".join(islice(self._explained(error.errors()), _SHOWN))) from None

    def refuse(self, problems: Iterable[Problem]) -> None:
        """Raise `error` if there are problems; it names line and key of each."""
        sentences = [self._at(key, problem) for key, problem in islice(problems, _SHOWN)]
        if sentences:
            raise self.error("; ".join(sentences))

    def _explained(self, details: Iterable[Any]) -> Iterator[str]:
        """Yield one sentence per place; pydantic reports several faults where a value may be of several kinds."""
        places: dict[tuple[str | int, ...], list[Any]] = {}
        for detail in details:
            # For a value of several kinds, pydantic adds the kind that it tried, such as tuple[float, float].
            location = [part for part in detail["loc"] if "[" not in str(part)]
            location += detail.get("ctx", {}).get("key", ())
            places.setdefault(tuple(location), []).append(detail)
        return (self._explain(location, faults) for location, faults in places.items())

    def _explain(self, location: Sequence[str | int], faults: Sequence[Any]) -> str:
        first = faults[0]
        if first["type"] in ("extra_forbidden", "missing"):
            line, key = self._place(location)
            fault = f"unknown key '{key}'" if first["type"] == "extra_forbidden" else f"key '{key}' is missing"
            return f"{self.origin}, line {line}: {fault}"
        if first["type"] == "inconsistent":
            return self._at(location, first["msg"])
        expected = " or ".join(dict.fromkeys(map(expectation, faults)))
        value = first["input"]
        arrived = "" if isinstance(value, dict | list | BaseModel) else f", got {value!r}"
        in_quotes = ": put it in quotes" if first["type"] == "string_type" and isinstance(value, bool) else ""
        return self._at(location, f"expected {expected}{arrived}{in_quotes}")

    def _at(self, location: Sequence[str | int], problem: str) -> str:
        line, key = self._place(location)
        return f"{self.origin}, line {line}: {key}: {problem}"

    def _place(self, location: Sequence[str | int]) -> tuple[int, str]:
        line, path = _line_of(self.root, location)
        return line, ".".join(path) or self.noun


@dataclass(frozen=True)
class Kind:
    """A kind of file: its noun in messages, the package of the shipped files, expected keys, the error class."""

    noun: str
    package: str
    keys: str
    error: type[OffersError]

    def shipped(self) -> list[str]:
        """Names of the files that come with the package."""
        names = (path.name for path in files(self.package).iterdir())
        return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))

    def find(self, where: str) -> tuple[str, str]:
        """Find text and origin of a shipped file by its name, of a file by its path, or of YAML text itself.

        Raises
        ------
        OffersError
            as the class `error`: there is no such file, or it can't be read
        """
        if "\n" in where:
            return where, self.noun
        path = Path(where)
        try:
            if path.suffix in (".yaml", ".yml") or path.is_file():
                return path.read_text("utf-8"), where
            if where in self.shipped():
                return (files(self.package) / f"{where}.yaml").read_text("utf-8"), f"{where}.yaml"
        except UnicodeDecodeError:
            raise self.error(f"{self.noun} {where}: can't be read: it is no text in UTF-8") from None
        except OSError as error:
            raise self.error(f"{self.noun} {where}: can't be read: {(error.strerror or str(error)).lower()}") from None
        expected = f"expected one of {', '.join(self.shipped())}, or the path of a YAML file"
        raise self.error(f"{self.noun} {where!r}: {expected}")

    def read(self, text: str, origin: str) -> Document:
        """Read YAML text; raises `error` if it is not plain YAML with keys."""
        try:
            root = yaml.compose(text, Loader=_Loader)
            if root is not None and _aliased(root) > _MOST_ALIASED:
                raise self.error(
                    f"{origin}: its aliases (*name) stand for more than {_MOST_ALIASED} values; write fewer"
                )
            content = yaml.load(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = f", line {mark.line + 1}" if mark else ""
            raise self.error(f"{origin}{line}: not valid YAML: {error.problem or error.context}") from None
        except (yaml.YAMLError, ValueError) as error:
            raise self.error(f"{origin}: not valid YAML: {error}") from None
        except RecursionError:
            raise self.error(f"{origin}: not valid YAML: nested too deeply") from None
        if not isinstance(content, dict):
            raise self.error(f"{origin}: expected keys such as {self.keys}, got {type(content).__name__}")
        return Document(origin, self.noun, self.error, root, content)


def expectation(detail: Any) -> str:
    """Describe what was expected where pydantic found a fault, in words of the file instead of Python."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _FORMS[context["pattern"]]
    if kind == "scalar":
        return str(detail["msg"])
    for words in (_EXPECTED.get(kind), _EXPECTED.get(kind.rpartition("_")[0])):
        if words is not None:
            text = words.format(**context)
            return _SINGULAR.get(text, text)
    return "another value"


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _aliased(root: yaml.Node) -> int:
    """Count the values that a document's aliases expand to; each node counts once for itself."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = None
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
        if (size_of_node := sizes[id(node)]) is None:
            raise ConstructorError(problem="a value that holds itself, by an alias", problem_mark=node.start_mark)
        return size_of_node

    return size(root) - len(sizes)


def _line_of(root: yaml.Node | None, location: Sequence[str | int]) -> tuple[int, list[str]]:
    """Find the line of the deepest node on the way to `location`, and that way with list entries by their labels."""
    node, line, path = root, 1, []
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            path.append(_label(node) or str(part))
            continue
        path.append(str(part))
        if isinstance(node, yaml.MappingNode):
            child = next(((k, v) for k, v in node.value if k.value == part), None)
            if child is None:
                break
            line, node = child[0].start_mark.line + 1, child[1]
    return line, path


def _label(node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((str(v.value) for k, v in node.value if k.value in _LABELS), None)


def flow(value: Any) -> str:
    """Write a value as one line of YAML, which `Kind.read` can read."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(int(value)) if float(value).is_integer() and abs(value) < 1e16 else repr(float(value))
    if _PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT:
        return str(value)
    quoted: str = yaml.dump(value, default_style='"', allow_unicode=True, width=10**9)
    return quoted.strip()
