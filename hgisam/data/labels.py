"""Labels of a slice, and the values of its mask."""

SUBTYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
LABELS = ("any", *SUBTYPES)
MASK_VALUES = {name: value for value, name in enumerate(SUBTYPES, start=1)} | {"unspecified": 6}
