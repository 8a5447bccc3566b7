"""The any-graph template in the real frontend: one press of Run, cancel, resume, and the timeline that fills."""

from magic141.tools.server import PACK

WORKFLOW = PACK / "workflows" / "magic141_any_graph_minute.json"
START = "app.graph.nodes.find((node) => node.type === 'Magic141WindowStart')"
CARDS = f"""() => {{
    const timeline = {START}.widgets.find((widget) => widget.name === "timeline").element;
    return [...timeline.querySelectorAll(".magic141-window")];
}}"""
COUNT = f"() => ({CARDS})().length"
FILLED = f"() => ({CARDS})().filter((card) => card.title.includes('color moved')).length"
SET = f"""(values) => {{
    for (const [name, value] of Object.entries(values)) {{
        const widget = {START}.widgets.find((entry) => entry.name === name);
        widget.value = value;
        widget.callback?.(value);
    }}
}}"""
CANCEL_AFTER_ONE = f"""() => {{
    const node = {START};
    const show = node.showWindows;
    node.showWindows = (output) => {{
        show(output);
        node.showWindows = show;
        app.api.interrupt();
    }};
}}"""
LOOK_AT_IT = f"""() => {{
    const [x, y] = {START}.pos;
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [150 - x, 100 - y];
    app.canvas.setDirty(true, true);
}}"""
SAID = f"() => {START}.widgets.find((widget) => widget.name.startsWith('$$node-text'))?.value ?? ''"


def test_one_press_of_run_fills_the_timeline_and_a_cancelled_run_goes_on(tab):
    tab.drop(WORKFLOW)
    tab.close_dialogs()
    widgets = {"prompts": "a large cyan circle moves right", "length": 3, "length_in": "windows"}
    tab.evaluate(SET, widgets | {"run_name": "browser minute"})
    tab.wait_for(f"() => ({COUNT})() === 3")
    assert tab.evaluate(FILLED) == 0
    tab.evaluate(LOOK_AT_IT)
    tab.evaluate(CANCEL_AFTER_ONE)
    tab.evaluate("() => app.queuePrompt(0)")
    tab.wait_for(f"() => ({FILLED})() >= 1")
    tab.wait_for(f"() => ({SAID})().includes('was not finished')")
    filled = tab.evaluate(FILLED)
    assert filled < 3
    tab.screenshot("any_graph_cancelled")
    tab.evaluate("() => app.queuePrompt(0)")
    tab.wait_for(f"() => ({FILLED})() === 3")
    tab.wait_for(f"() => ({SAID})() === '3 windows are done'")
    tab.screenshot("any_graph_minute")
