"""The fixed words of help pages, by language."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Words:
    """Headings and phrases of one language; ``types`` are the names of ComfyUI's plain types."""

    marker: str
    sections: tuple[str, ...]
    inputs: str
    outputs: str
    optional: str
    default: str
    on: str
    off: str
    range: str
    step: str
    also: str
    models: str
    picture: str
    types: dict[str, str] = field(default_factory=dict)


ENGLISH = Words(
    marker="<!-- From here on made from the node's schema; edit the schema instead. -->",
    sections=("## Example", "## Common mistakes"),
    inputs="## Inputs",
    outputs="## Outputs",
    optional="optional",
    default="default {}",
    on="on",
    off="off",
    range=", {} to {}",
    step=" in steps of {}",
    also="Also found as: {}.",
    models="what is in the model folders",
    picture="The node {}",
    types={
        "INT": "whole number",
        "FLOAT": "number",
        "STRING": "text",
        "BOOLEAN": "on / off",
        "COMBO": "choice",
    },
)
CHINESE = Words(
    marker="<!-- 以下内容由节点定义和 locales/zh 生成，请勿在此修改。 -->",
    sections=("## 示例", "## 常见错误"),
    inputs="## 输入",
    outputs="## 输出",
    optional="可选",
    default="默认 {}",
    on="开",
    off="关",
    range="，{} 到 {}",
    step="，步长 {}",
    also="也可搜索：{}。",
    models="模型文件夹中的内容",
    picture="节点 {}",
    types={"INT": "整数", "FLOAT": "数字", "STRING": "文本", "BOOLEAN": "开 / 关", "COMBO": "选项"},
)
TRANSLATIONS = {"zh": CHINESE}
