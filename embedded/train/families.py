"""The families of captions that every scene has, by how much they leave open."""

FAMILIES = ("named", "open", "open_appearance")
NAMED, OPEN, OPEN_APPEARANCE = range(len(FAMILIES))
