"""Read one YAML file into plain values with the line of every key.  Constructs nothing else.

Goes through PyYAML's node tree instead of ``safe_load``: only that keeps the lines, shows a key
that is there twice, and lets a ``!!python/object`` tag be reported without any object being made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fhi_al.settings.problems import Problem, shown

KeyPath = tuple[str | int, ...]

LARGEST_FILE_BYTES = 1_000_000
# Anchors can be nested so that a few lines expand to billions of values.
MOST_VALUES = 20_000

# YAML 1.1 as PyYAML reads it takes 1e-3, 1.0e3 and .5e1 for text.
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_NO_LINE_END = re.compile("[\x85\u2028\u2029]")

_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "map", "seq")
)
# What YAML 1.1 guesses from the look of a word (2024-01-01, =); no key of ours holds a date.
_TEXT_AFTER_ALL = frozenset(f"tag:yaml.org,2002:{name}" for name in ("timestamp", "value"))


@dataclass
class Document:
    """The content of one settings file.

    Parameters
    ----------
    file : str
        Its name, without the folder.
    data : dict
        Plain values: str, int, float, bool, None, list, dict.
    lines : dict
        Line, counted from 1, of every key (and list element) by its path from the top.
    """

    file: str
    data: dict[Any, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)


def read_document(path: Path) -> tuple[Document, list[Problem]]:
    """Read a settings file.

    Returns
    -------
    Document, list of Problem
        With problems the document holds what could be read, perhaps nothing.
    """
    document = Document(path.name)
    text, message = _text_of(path)
    if text is None:
        return document, [Problem(path.name, None, None, message)]
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        return document, [_syntax_problem(path.name, text, error)]
    except RecursionError:
        message = "is nested too deeply to be a settings file"
        return document, [Problem(path.name, None, None, message)]
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null")):
        message = "is empty. Expected sections with keys, as in the examples"
        return document, [Problem(path.name, None, None, message)]
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else f"the text {shown(root.value)}"
        message = f"expected sections with keys (SECTION: then key: value), found {kind}"
        return document, [Problem(path.name, root.start_mark.line + 1, None, message)]
    walk = _Walk(document)
    document.data = walk.value_of(root, ())
    return document, walk.problems


def read_value(text: str, place: str) -> tuple[Any, list[Problem]]:
    """A plain value as it stands behind a key, and what is wrong with it.

    Parameters
    ----------
    text : str
        In YAML; nothing is null.
    place : str
        What messages name.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "problem", None) or "cannot be read"
        message = f"not YAML: {reason}. A value that holds ': ' or '#' needs quotes"
        return None, [Problem(place, None, None, message)]
    if root is None:
        return None, []
    walk = _Walk(Document(place))
    value = walk.value_of(root, ())
    return value, [Problem(place, None, None, each.message) for each in walk.problems]


def _not_found_in(folder: Path) -> str:
    what = ""
    if not folder.is_dir():
        what = ", which is a file" if folder.exists() else ", which is not there"
    return f"not found in {folder}{what}. FHI_AL-init FOLDER --geometry FILE writes a first one"


def _text_of(path: Path) -> tuple[str | None, str]:
    """The text of a file, or None and what is the matter with it."""
    if path.is_dir():
        return None, "is a folder; expected a YAML file"
    if not path.exists():
        return None, _not_found_in(path.parent.resolve())
    if not path.is_file():
        return None, "is not a regular file; expected a YAML file"
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            return None, f"is larger than {LARGEST_FILE_BYTES} bytes: not a settings file"
        raw = path.read_bytes()
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    if b"\0" in raw:
        return None, "is a binary file (or UTF-16); expected YAML text in UTF-8"
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, f"is not UTF-8 text (line {line}). Save it as UTF-8"
    # Line ends as editors and YAML 1.2 have them: in PyYAML's YAML 1.1 a U+2028 ends a comment, and
    # what follows it is a key.
    return _NO_LINE_END.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")), ""


def _syntax_problem(file: str, text: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: control character #x{error.character:02x}. Is this a binary file?"
        return Problem(file, line, None, message)
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error)
    if "\\t" in reason:
        reason += ". Indent with spaces, never with tabs"
    elif "mapping values are not allowed" in reason:
        reason += ". Check the indentation; a value that holds ': ' needs quotes"
    elif "expected <block end>" in reason or "could not find expected ':'" in reason:
        reason += ". Check the indentation and the ':' of this line and the one before"
    elif "but found another document" in reason:
        reason += ". One file holds one document: remove the '---'"
    context = getattr(error, "context", None)
    if context:
        reason = f"{context}, {reason}"
    return Problem(file, None if mark is None else mark.line + 1, None, f"not YAML: {reason}")


class _Walk:
    """Turns nodes into plain values and takes down lines and problems on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self._constructor = yaml.SafeLoader("")
        self._open: list[int] = []
        self._n_values = 0

    def value_of(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain value of a node; None where it had to be refused."""
        self._n_values += 1
        if self._n_values > MOST_VALUES:
            if self._n_values == MOST_VALUES + 1:
                self._report(node, path, f"holds more than {MOST_VALUES} values")
            return None
        if node.tag in _TEXT_AFTER_ALL:
            return str(node.value)
        if node.tag not in _PLAIN_TAGS:
            self._report(
                node,
                path,
                f"tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed: settings are"
                " plain numbers, texts, lists and mappings. Nothing was executed",
            )
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._report(node, path, "contains itself through an alias")
            return None
        self._open.append(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            assert isinstance(node, yaml.SequenceNode)
            return self._sequence(node, path)
        finally:
            self._open.pop()

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if node.tag.endswith(":str") and node.style is None and NUMBER.fullmatch(node.value):
            return float(node.value)
        if node.tag.endswith((":int", ":float")) and node.style is None:
            # YAML 1.1 reads 010 as 8 and 1:30 as 90; nobody who writes settings means that.
            if re.fullmatch(r"[-+]?0[0-7]+", node.value):
                return int(node.value, 10)
            if ":" in node.value:
                return str(node.value)
        try:
            return self._constructor.construct_object(node)
        except (ValueError, TypeError, KeyError, yaml.YAMLError):
            self._report(node, path, f"cannot read the value {shown(node.value)}")
            return None

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        values = []
        for index, element in enumerate(node.value):
            self.document.lines[(*path, index)] = element.start_mark.line + 1
            values.append(self.value_of(element, (*path, index)))
        return values

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[Any, Any]:
        self._find_duplicates(node, path)
        try:
            self._constructor.flatten_mapping(node)
        except yaml.YAMLError as error:
            self._report(node, path, f"merge key: {getattr(error, 'problem', error)}")
            return {}
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            self.document.lines[(*path, key)] = key_node.start_mark.line + 1
            values[key] = self.value_of(value_node, (*path, key))
        return values

    def _key(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN_TAGS:
            key = self._scalar(node, path)
            if isinstance(key, (str, int)) and not isinstance(key, bool):
                return key
        self._report(node, path, "a key must be a word or a whole number")
        return None

    def _find_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        first_line: dict[str, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            line = key_node.start_mark.line + 1
            name = key_node.value
            if name in first_line:
                self._report(
                    key_node,
                    (*path, name),
                    f"duplicate key: already given in line {first_line[name]}. Keep one of the two",
                )
            else:
                first_line[name] = line

    def _report(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        key = ".".join(str(part) for part in path) or None
        text = message if key is None else f"{key}: {message}"
        self.problems.append(Problem(self.document.file, node.start_mark.line + 1, key, text))
