"""A canvas with one node, for browser tests."""

ADD = """([type, values]) => {
    app.graph.clear();
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [100, 100];
    for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find((entry) => entry.name === name);
        widget.value = value;
        widget.callback?.(value);
    }
    app.canvas.setDirty(true, true);
}"""
"""Clears the canvas and puts a node there: its type, and values by widget."""
