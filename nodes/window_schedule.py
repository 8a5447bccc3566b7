"""Window Schedule: a value that changes from window to window of a long video."""

from comfy_api.latest import io

from ..model_patches.bridge.window.graph_run import WindowSocket
from ..model_patches.window.schedule import number_of, read_schedule, value_in_window


class WindowSchedule(io.ComfyNode):
    """Wires a window and lines of text to the value that is due."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowSchedule",
            display_name="Window Schedule",
            category="Magic141/long video",
            description=(
                "Gives a value that changes from window to window of a long video: the strength of a LoRA, cfg, steps, "
                "or the name of a file. Connect it between Window Start and the widget that should change."
            ),
            search_aliases=["magic141", "schedule", "keyframes", "lora by window", "cfg schedule", "travel"],
            inputs=[
                WindowSocket.Input("window", tooltip="From Window Start."),
                io.String.Input(
                    "schedule",
                    multiline=True,
                    default="1-3: 0.8\n4-end: 1.0",
                    tooltip="A line for one or more windows, counted from 1: '1-3: 0.8', '4: 0' or '5-end: 1'.",
                ),
                io.String.Input("otherwise", default="0", tooltip="The value in windows that no line names."),
            ],
            outputs=[
                io.Float.Output(display_name="number", tooltip="The value as a number; 0 if it is a text."),
                io.Int.Output(
                    display_name="whole_number", tooltip="The value rounded, for steps and the like."
                ),
                io.AnyType.Output(
                    display_name="text", tooltip="The value as text: a file name, a sampler, a prompt."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, schedule=None) -> bool | str:
        read_schedule(schedule or "")
        return True

    @classmethod
    def execute(cls, window, schedule, otherwise) -> io.NodeOutput:
        index = window.window.index if window.window is not None else len(window.run.windows) - 1
        value = value_in_window(schedule, index, otherwise)
        return io.NodeOutput(number_of(value), round(number_of(value)), value)
