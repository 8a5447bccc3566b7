"""Sentences of the server are found and put into the language of the artist, with what differs in its place."""

import json
from pathlib import Path

import pytest
from magic141.tests.support.node_js import evaluate, needs_node

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "web" / "sentences.js"


def in_chinese(sentences: list[str]) -> list[str]:
    texts = json.loads((ROOT / "locales" / "zh" / "main.json").read_text(encoding="utf-8"))["magic141"]
    patterns = f"{{ patterns: patternsOf({json.dumps(texts)}) }}"
    expression = f"{json.dumps(sentences)}.map((text) => translated(text, {patterns}))"
    return evaluate(SCRIPT, "patternsOf, translated", expression)


@needs_node
@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("done in 12.3 s", "完成，用时 12.3 s"),
        ("encoding videos: 40 %", "正在编码视频：40 %"),
        ("reading the weights", "正在读取权重"),
        ("reading a.safetensors", "正在读取 a.safetensors"),
        ("a.pth would execute code when opened (x)", "a.pth 打开时会执行代码 (x)"),
        ("width - width is 100 px; it must be a multiple of 16. The nearest is 96.",
         "width - width 为 100 像素；必须是 16 的倍数。最接近的是 96。"),
        ("Prompt line 2 sets the seed of window 3 again, which a line before has set. Remove one of them.",
         "第 2 行提示词重复设置了 the seed of window 3，前面已有一行。请删除其中一行。"),
        ("a new sentence, reading the weights", "a new sentence, reading the weights"),
    ],
)  # fmt: skip
def test_what_differs_stands_in_its_place(english, chinese):
    assert in_chinese([english]) == [chinese]
