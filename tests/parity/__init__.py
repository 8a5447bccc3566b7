"""Our computation beside independent implementations on the same tiny weights."""
