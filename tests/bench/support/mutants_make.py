"""Make small faults in our source: the operators are mutmut's, what is left out is ours.

Left out is what no test should notice: texts for people, annotations, imports, assertions, decorators, and arguments
that change nothing on the machine that tests.
"""

import difflib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators, operator_string

SKIPPED = m.OneOf(
    m.Annotation(),
    m.Import(),
    m.ImportFrom(),
    m.Assert(),
    m.Raise(),
    m.Decorator(),
    m.If(test=m.Name("TYPE_CHECKING")),
    m.Expr(value=m.SimpleString() | m.ConcatenatedString()),
    m.Call(func=m.Name("print") | m.Name("len") | m.Name("isinstance")),
    m.Call(func=m.Attribute(value=m.Name("logging") | m.Name("warnings"))),
    m.Arg(keyword=m.Name("encoding") | m.Name("strict")),
    m.Assign(value=m.Subscript(value=m.Name("Callable") | m.Name("Literal") | m.Name("Sequence"))),
    m.Assign(value=m.Call(func=m.Name("TypeVar"))),
)
"""Nodes that are left as they are, with all inside them.

Names of types are annotations, too. Assertions and ``strict`` state what cannot happen; UTF-8 is the default encoding
of the process that tests.
"""


@dataclass(frozen=True)
class Mutant:
    """A file with one fault in it.

    file: from the repository's root. line: where the fault is. lines: those of the statement around it. before, after:
    the lines that differ. source: the whole file with the fault.
    """

    file: str
    line: int
    lines: range
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        """What names the fault however often the file's other lines change."""
        return f"{self.file}\n{self.before}\n{self.after}"


Candidate = tuple[cst.CSTNode, cst.CSTNode]


class _Finder(cst.CSTVisitor):
    """Collects (node, node to put there) by line."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        self.by_line: dict[int, list[Candidate]] = {}
        self.statements: dict[int, range] = {}

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, SKIPPED) or _is_sentence(node):
            return False
        line = self.get_metadata(PositionProvider, node, None)
        if isinstance(node, cst.SimpleStatementLine) and line is not None:
            span = range(line.start.line, line.end.line + 1)
            self.statements |= dict.fromkeys(span, span)
        for kind, operator in mutation_operators:
            if (
                line is None
                or not isinstance(node, kind)
                or (operator is operator_string and _in_words(node))
            ):
                continue
            found = [(node, other) for other in operator(node) if not _loses_a_skipped_argument(node, other)]
            self.by_line.setdefault(line.start.line, []).extend(found)
        return True


def _in_words(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.SimpleString) and " " in node.value


def _is_sentence(node: cst.CSTNode) -> bool:
    """Tell whether a node is a text with spaces, which people read."""
    if isinstance(node, cst.FormattedString):
        return any(isinstance(part, cst.FormattedStringText) and " " in part.value for part in node.parts)
    if isinstance(node, cst.ConcatenatedString):
        return _is_sentence(node.left) or _is_sentence(node.right)
    return _in_words(node)


def _loses_a_skipped_argument(node: cst.CSTNode, other: cst.CSTNode) -> bool:
    if not isinstance(node, cst.Call) or not isinstance(other, cst.Call):
        return False
    kept = {id(argument) for argument in other.args}
    lost = [argument for argument in node.args if id(argument) not in kept]
    return any(m.matches(argument, SKIPPED) or _is_sentence(argument.value) for argument in lost)


class MutableFile:
    """One source file and the faults that can be put into it.

    Args:
        root: the repository.
        file: the file, from there.
    """

    def __init__(self, root: Path, file: str) -> None:
        self.file, self.source = file, (root / file).read_text(encoding="utf-8")
        wrapper = MetadataWrapper(cst.parse_module(self.source))
        finder = _Finder()
        wrapper.visit(finder)
        self.module = wrapper.module
        self.statements = finder.statements
        self.by_line = {line: found for line, found in sorted(finder.by_line.items()) if found}

    def mutant(self, line: int, candidate: Candidate) -> Mutant | None:
        """Return the fault, or None where it leaves no program or the same one."""
        source = self.module.deep_replace(*candidate).code
        try:
            compile(source, self.file, "exec")
        except SyntaxError:
            return None
        before, after = changed_lines(self.source, source)
        lines = self.statements.get(line, range(line, line + 1))
        return Mutant(self.file, line, lines, before, after, source) if before != after else None

    def all_mutants(self) -> Iterator[Mutant]:
        for line, candidates in self.by_line.items():
            for candidate in candidates:
                if mutant := self.mutant(line, candidate):
                    yield mutant


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """Return the lines that two sources do not share, without their indents."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    old, new = ("\n".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return old, new


def draw_mutants(
    rooms: Mapping[str, Sequence[MutableFile]], counts: Mapping[str, int], seed: int
) -> list[Mutant]:
    """Draw lines of every room, and one fault for each, in an order from a seed.

    Args:
        counts: how many of each room; a small room gives fewer lines and then more than one fault each.
    """
    drawn: dict[str, Mutant] = {}
    for room, files in rooms.items():
        dice = random.Random(f"{seed} {room}")
        lines = [(file, line) for file in files for line in file.by_line]
        wanted, tries = counts[room], 0
        deck: list[tuple[MutableFile, int]] = []
        while wanted and tries < 50 * counts[room]:
            deck = deck or dice.sample(lines, len(lines))
            file, line = deck.pop()
            mutant = file.mutant(line, dice.choice(file.by_line[line]))
            tries += 1
            if mutant and mutant.key not in drawn:
                drawn[mutant.key] = mutant
                wanted -= 1
    return list(drawn.values())


def share_out(total: int, lines: Mapping[str, int], *, least: int) -> dict[str, int]:
    """Return how many faults each room gets: ``least``, and the rest by its lines."""
    rest = total - least * len(lines)
    return {room: least + round(rest * count / sum(lines.values())) for room, count in lines.items()}


def line_counts(rooms: Mapping[str, Iterable[MutableFile]]) -> dict[str, int]:
    """Return each room's lines that can hold a fault."""
    return {room: sum(len(file.by_line) for file in files) for room, files in rooms.items()}
