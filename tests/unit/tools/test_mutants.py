"""The faults that are put into our source: what is changed, what is left out, and how a sample is drawn."""

import json

import pytest

pytest.importorskip("mutmut", reason="a development requirement")

from magic141.tests.bench.mutants import EQUIVALENT, figures_of, survivors
from magic141.tests.bench.support.mutants_make import MutableFile, draw_mutants, line_counts, share_out
from magic141.tools.imports import ROOT


def test_every_fault_that_is_said_to_change_nothing_is_of_code_that_is_there():
    rows = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    code = {row["file"]: (ROOT / row["file"]).read_text(encoding="utf-8") for row in rows}
    assert [row["before"] for row in rows if row["before"] not in code[row["file"]]] == []


def mutable(tmp_path, text: str, name: str = "a.py") -> MutableFile:
    (tmp_path / name).write_text(text)
    return MutableFile(tmp_path, name)


def changes(tmp_path, text: str) -> list[str]:
    return [mutant.after for mutant in mutable(tmp_path, text).all_mutants()]


def test_every_operator_argument_and_number_is_a_fault_of_its_own(tmp_path):
    found = changes(tmp_path, "def f(a, b):\n    return g(a + b, scale=2)\n")
    assert found == [
        "return g(None, scale=2)",
        "return g(a + b, scale=None)",
        "return g(scale=2)",
        "return g(a + b, )",
        "return g(a - b, scale=2)",
        "return g(a + b, scale=3)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '"""A docstring."""\n',
        "from .a import b\n",
        "def f(a: int | None) -> list[int]: ...\n",
        'assert a == 1, "never"\n',
        'raise ValueError(f"{a} is {b + 1}")\n',
        "if TYPE_CHECKING:\n    A = 1\n",
        "@dataclass(frozen=True)\nclass A: ...\n",
        'logging.warning("%s", a)\n',
        'Kind = Literal["a", "b"]\n',
    ],
)
def test_what_no_test_should_notice_is_left_as_it_is(tmp_path, text):
    assert changes(tmp_path, text) == []


def test_texts_for_people_and_arguments_that_change_nothing_here_are_left_in_calls(tmp_path):
    found = changes(tmp_path, 'f(a, "two words", encoding="utf-8", strict=True)\n')
    assert found == [
        'f(None, "two words", encoding="utf-8", strict=True)',
        'f("two words", encoding="utf-8", strict=True)',
    ]


def test_a_fault_knows_the_lines_of_its_statement(tmp_path):
    file = mutable(tmp_path, "x = f(\n    1,\n    2,\n)\n")
    assert {mutant.lines for mutant in file.all_mutants()} == {range(1, 5)}


def test_a_sample_is_that_of_its_seed_and_spread_over_the_lines(tmp_path):
    files = [mutable(tmp_path, "".join(f"x{n} = {n}\n" for n in range(20)), f"{name}.py") for name in "ab"]
    rooms = {"a": files[:1], "b": files[1:]}
    assert line_counts(rooms) == {"a": 20, "b": 20}
    drawn = draw_mutants(rooms, {"a": 15, "b": 5}, seed=1)
    assert (
        drawn
        == draw_mutants(rooms, {"a": 15, "b": 5}, seed=1)
        != draw_mutants(rooms, {"a": 15, "b": 5}, seed=2)
    )
    assert [mutant.file for mutant in drawn].count("a.py") == 15
    assert len({(mutant.file, mutant.line) for mutant in drawn}) == 20
    assert share_out(100, {"a": 30, "b": 10}, least=10) == {"a": 70, "b": 30}


def test_the_share_takes_nothing_off_and_proved_equivalents_have_one_of_their_own():
    def row(number: int, killed: bool) -> dict:
        place = {"file": "model_patches/sampler.py", "line": number, "before": f"a{number}", "after": "b"}
        return {**place, "killed": killed, "timeout": False, "tests": 3}

    rows = [row(1, True), row(2, True), row(3, False), row(4, False)]
    reasons = {"model_patches/sampler.py\na3\nb": "the same number"}
    figures = figures_of(rows, reasons)
    assert (figures["mutants_tried"], figures["mutants_killed_share"]) == (4, 0.5)
    assert figures["mutants_killed_share_of_visible"] == pytest.approx(2 / 3)
    assert [row["reason"] for row in survivors(rows, reasons)] == ["the same number", ""]
