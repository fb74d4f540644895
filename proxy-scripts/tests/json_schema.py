"""What: checks a JSON value against a JSON Schema, with the standard library alone.

Why:   the payload's tests must run where only python3 is; the schemas here use a small part of the standard.

Never: ignores a keyword it does not know: that would be a check that silently passes, so it is an error.
"""

import re

ANNOTATIONS = {"$schema", "$defs", "title", "description", "default"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def has_type(value, name):
    """Whether a value is of a JSON type; 1 is an integer and a number, true is neither."""
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def faults(value, schema, root=None, at=""):
    """Every fault of `value` as a line `pointer: what is wrong`."""
    root = schema if root is None else root
    found = []

    def wrong(text):
        found.append(f"{at or '/'}: {text}")

    def deeper(inner, inner_schema, step):
        found.extend(faults(inner, inner_schema, root, f"{at}/{step}"))

    for keyword, rule in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword == "$ref":
            target = root
            for step in rule.removeprefix("#/").split("/"):
                target = target[step]
            found.extend(faults(value, target, root, at))
        elif keyword == "oneOf":
            tried = [faults(value, option, root, at) for option in rule]
            if sum(not each for each in tried) != 1:
                wrong(f"fits {sum(not each for each in tried)} of {len(rule)} alternatives, must fit one")
        elif keyword == "type":
            names = rule if isinstance(rule, list) else [rule]
            if not any(has_type(value, name) for name in names):
                wrong(f"is not {' or '.join(names)}")
        elif keyword == "const":
            if value != rule or type(value) is not type(rule):
                wrong(f"is not {rule!r}")
        elif keyword == "enum":
            if value not in rule:
                wrong(f"is none of {rule}")
        elif keyword in ("minimum", "maximum"):
            if has_type(value, "number") and (value < rule if keyword == "minimum" else value > rule):
                wrong(f"{value} breaks {keyword} {rule}")
        elif keyword in ("minLength", "maxLength"):
            if isinstance(value, str) and (len(value) < rule if keyword == "minLength" else len(value) > rule):
                wrong(f"length {len(value)} breaks {keyword} {rule}")
        elif keyword == "pattern":
            if isinstance(value, str) and not re.search(rule, value):
                wrong(f"{value!r} does not match {rule}")
        elif keyword in ("minItems", "maxItems"):
            if isinstance(value, list) and (len(value) < rule if keyword == "minItems" else len(value) > rule):
                wrong(f"{len(value)} items break {keyword} {rule}")
        elif keyword == "items":
            for index, item in enumerate(value if isinstance(value, list) else []):
                deeper(item, rule, index)
        elif keyword == "required":
            for name in rule if isinstance(value, dict) else []:
                if name not in value:
                    wrong(f"lacks {name}")
        elif keyword == "properties":
            for name, inner in rule.items() if isinstance(value, dict) else []:
                if name in value:
                    deeper(value[name], inner, name)
        elif keyword == "additionalProperties":
            for name in value if isinstance(value, dict) else []:
                if name in schema.get("properties", {}):
                    continue
                if rule is False:
                    wrong(f"has {name}, which is not known")
                elif isinstance(rule, dict):
                    deeper(value[name], rule, name)
        elif keyword == "propertyNames":
            for name in value if isinstance(value, dict) else []:
                deeper(name, rule, name)
        elif keyword == "minProperties":
            if isinstance(value, dict) and len(value) < rule:
                wrong(f"has {len(value)} properties, at least {rule} are needed")
        else:
            raise ValueError(f"json_schema.py does not know the keyword {keyword!r}; teach it before using it")
    return found
