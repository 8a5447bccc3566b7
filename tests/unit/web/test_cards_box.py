"""Cards and the prompts box say the same: what an edit touches, and what it leaves letter for letter."""

import itertools
import json
from pathlib import Path

import pytest
from magic141.model_patches.window.plan import window_seed
from magic141.tests.support.node_js import evaluate, needs_node

CARDS = Path(__file__).resolve().parents[3] / "web" / "cards"
STORY = """((text, count) => {
    const spansOf = (many) => Array.from({ length: many }, (_, i) => [5 * i, 5 * i + 5]);
    const plan = (length) => planWindows({ length: 5 * length, inWindows: false, windowLength: 121, overlap: 1,
        fps: 24, prompts: text, continues: true, hasEndImage: false });
    return { text, windows: plan(count), spansOf, seed: "7" };
})"""
BY_LINES = "a fox waits\n  a fox runs \n\na fox sleeps\n"
BY_TIME = "[0:00-0:10] a fox waits\n[10 - 15 s]   it runs\nan owl looks on\n[0:20-end] it sleeps"
BOXES = (
    "",
    "a fox",
    BY_LINES,
    "a fox\r\nan owl",
    BY_TIME,
    "[5-end] it runs\n\n[window 2] seed 5",
    "[0:00-0:30] a\tb",
)
BOXES += ("a\nb\nb\n[window 2]  SEED 9 \n[ Window 4 ] end a b.png\n[keep later] 2.0\n",)


def after(edit: str, text: str, count: int = 6) -> dict:
    """Return the text and the number of windows that an edit leaves, and the prompts that a run then gives them."""
    return many([(edit, text, count)])[0]


def many(cases: list[tuple[str, str, int]]) -> list[dict]:
    done = ",".join(
        f"(() => {{ const story = make({json.dumps(text)}, {count}); const done = {edit};"
        " return { ...done, before: story.windows.map((w) => w.prompt),"
        " prompts: make(done.text, done.count).windows.map((w) => w.prompt) }; })()"
        for edit, text, count in cases
    )
    expression = f"((make) => [{done}])({STORY})"
    names = "addCard, cardsOf, chooseTake, editPrompt, moveCard, removeCard, splitCard, spreadPrompt } from "
    names += f"{json.dumps((CARDS / 'story.js').as_uri())};\nimport {{ planWindows"
    return evaluate(CARDS.parent / "window_plan.js", names, expression)


@needs_node
def test_a_box_is_read_and_written_letter_for_letter():
    texts = [
        *BOXES,
        "\n\n",
        "a\rb\r\nc\n",
        "[window 0] x",
        "[window 1]",
        "[keep later]",
        "[",
        "[]",
        "[1-2",
        "\u202eabc ",
    ]
    expression = f"{json.dumps(texts)}.map((text) => writeBox(readBox(text)))"
    assert evaluate(CARDS / "box.js", "readBox, writeBox", expression) == texts


@needs_node
def test_an_edited_card_has_the_new_prompt_and_every_other_keeps_its_own():
    cases = [(f"editPrompt(story, {i}, 'new')", text, 6) for text in BOXES for i in range(6)]
    for (edit, text, _), done in zip(cases, many(cases), strict=True):
        index = int(edit.split(",")[1])
        wanted = [*done["before"][:index], "new", *done["before"][index + 1 :]]
        if text:  # in an empty box, windows without a prompt take that of their neighbor
            assert done["prompts"] == wanted, (edit, text, done["text"])


@needs_node
def test_an_edit_that_changes_nothing_leaves_the_box_as_it_is():
    cases = [
        (f"editPrompt(story, {i}, story.windows[{i}].prompt)", text, 6) for text in BOXES for i in range(6)
    ]
    cases += [("moveCard(story, 2, 2)", text, 6) for text in BOXES]
    assert [done["text"] for done in many(cases)] == [text for _, text, _ in cases]


@needs_node
def test_moved_added_and_removed_cards_keep_the_prompts_of_all():
    for text, (start, to) in itertools.product(BOXES[1:], ((0, 3), (4, 1), (2, 5))):
        moved, added, removed = many(
            [
                (f"moveCard(story, {start}, {to})", text, 6),
                (f"addCard(story, {start})", text, 6),
                (f"removeCard(story, {start})", text, 6),
            ]
        )
        before = moved["before"]
        order = [*range(6)]
        order.insert(to, order.pop(start))
        assert moved["prompts"] == [before[i] for i in order], (text, moved["text"])
        assert added["prompts"] == [*before[: start + 1], *before[start:]], (text, added["text"])
        assert removed["prompts"] == [*before[:start], *before[start + 1 :]], (text, removed["text"])


@needs_node
@pytest.mark.parametrize(
    ("edit", "text", "wanted"),
    [
        ("editPrompt(story, 1, 'it jumps')", BY_LINES, "a fox waits\n  it jumps \n\na fox sleeps\n"),
        ("editPrompt(story, 2, 'x')", "a", "a\na\nx\na"),
        ("editPrompt(story, 0, 'x')", "a\n", "x\na\n"),
        ("editPrompt(story, 1, '')", "a\nb\nc", "a\na\nc"),
        ("editPrompt(story, 5, 'x')", "a\r\nb", "a\r\nb\r\nb\r\nb\r\nb\r\nx"),
        ("editPrompt(story, 1, 'x')", "[0:00-0:20] a\nf", "[0:00-0:05] a\n[0:05-0:10] x\n[0:10-0:20] a\nf"),
        ("editPrompt(story, 0, 'x')", BY_TIME, BY_TIME.replace("[0:00-0:10] a fox waits",
                                                              "[0:00-0:05] x\n[0:05-0:10] a fox waits")),
        ("editPrompt(story, 2, 'x')", BY_TIME, BY_TIME.replace("it runs", "x")),
        ("editPrompt(story, 3, 'x')", BY_TIME, BY_TIME.replace("it runs", "it runs\n[0:15-0:20] x")),
        ("editPrompt(story, 5, 'x')", BY_TIME, BY_TIME.replace("[0:20-end]", "[0:20-0:25]") + "\n[0:25-end] x"),
        ("editPrompt(story, 0, '[window 1] seed 5')", "a\nb", "(window 1) seed 5\nb"),
        ("editPrompt(story, 0, '[0:00-0:05] \\n x')", "a\nb", "(0:00-0:05) x\nb"),
        ("editPrompt(story, 0, '[2D film] x')", "a\nb", "[2D film] x\nb"),
        ("spreadPrompt(story, 1)", "a\nb\nc\nd", "a\nb\nb\nb"),
        ("splitCard(story, 0, 2)", "a b\nc", "a\nb\nc"),
        ("removeCard(story, 0)", "a", "a"),
        ("removeCard(story, 1)", "a\nb\n[window 1] seed 4\n[window 2] seed 5\n[window 3] end z.png",
         "a\nb\n[window 1] seed 4\n[window 2] end z.png"),
        ("moveCard(story, 0, 1)", "a\nb\nc\n[window 1] seed 4", "b\na\nc\n[window 2] seed 4"),
        ("chooseTake(story, 1, {prompt: 'x', seed: '9', end: 'z.png'})", "a\nb\nc",
         "a\nx\nc\n[window 2] seed 9\n[window 2] end z.png"),
        (f"chooseTake(story, 1, {{prompt: 'x', seed: '{window_seed(7, 1)}', end: ''}})",
         "a\nb\nc\n[window 2] seed 9", "a\nx\nc"),
    ],
)  # fmt: skip
def test_the_box_after_an_edit(edit, text, wanted):
    assert after(edit, text)["text"] == wanted


@needs_node
@pytest.mark.parametrize("text", ["", "a", "a\n", "a\r\nb\r\n\r\n"])
@pytest.mark.parametrize("setting", ["{number: 2, name: 'seed', value: '18446744073709551615'}",
                                     "{number: 1, name: 'end', value: 'a b/<i>\"x.png'}"])  # fmt: skip
def test_what_is_set_and_taken_back_leaves_the_box_as_it_was(text, setting):
    expression = f"""((text, what) => {{
        const set = setOfWindow(setOfWindow(text, {{ ...what, value: "1" }}), what);
        const found = windowSettings(readBox(set)).get(what.number)[what.name];
        return [found === what.value, setOfWindow(set, {{ ...what, value: null }})];
    }})({json.dumps(text)}, {setting})"""
    assert evaluate(CARDS / "box.js", "readBox, setOfWindow, windowSettings", expression) == [True, text]


@needs_node
def test_the_limit_of_later_windows_is_set_changed_and_taken_away():
    expression = """[setKeepLater("a\\n", "2"), setKeepLater("a\\n[Keep later]  2.0 ", "1.5"),
        setKeepLater("a\\n[keep later] 2", null), keepLater(readBox("[keep later] 2.5"))]"""
    found = evaluate(CARDS / "box.js", "keepLater, readBox, setKeepLater", expression)
    assert found == ["a\n[keep later] 2\n", "a\n[Keep later] 1.5 ", "a", "2.5"]


@needs_node
def test_seeds_are_those_of_the_run():
    seeds = [0, 1, 141, 2**53 - 1, 9_007_199_254_740_993, 2**64 - 1]
    pairs = [(str(seed), index) for seed in seeds for index in (0, 1, 2, 59, 9999)]
    found = evaluate(
        CARDS / "seed.js", "windowSeed", f"{json.dumps(pairs)}.map((pair) => windowSeed(...pair))"
    )
    assert found == [str(window_seed(int(seed), index)) for seed, index in pairs]


@needs_node
def test_a_seed_is_a_whole_number_that_the_server_takes():
    texts = ["0", "77", str(2**64 - 1), str(2**64), "-1", "1.5", "", "7e3"]
    found = evaluate(CARDS / "seed.js", "isSeed", f"{json.dumps(texts)}.map(isSeed)")
    assert found == [True, True, True, False, False, False, False, False]
