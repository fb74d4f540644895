"""What: the frame of a pre_config script: reads the context, runs the three tasks, sends the sections.

Why:   every component has the same three tasks and the same ways to fail, so a component's own file holds only what
       is particular to it, and each failure reaches an operator as one sentence, not as a traceback.

Never: opens a network connection, changes anything on the node, keeps anything between two runs. The same context
       gives the same bytes on stdout: the digest of what is sent here decides whether Puppet runs at all.
"""

import json
import os
import sys

EX_TEMPFAIL = 75


class Wrong(Exception):
    """The configuration cannot work. The text says which value, and what to do."""


class NotYet(Exception):
    """Something is still missing that will come by itself; the text says what is waited for."""


def send(kind, body):
    """Sends one message; keys are sorted so that equal content is equal bytes."""
    print("@straas " + json.dumps({kind: body}, sort_keys=True, separators=(",", ":")), flush=True)


def run(feed_component_level_param, feed_node_level_param, do_other_operation):
    """Runs the three tasks of the stage in their order and ends the process with the contract's exit code."""
    sections = {}
    try:
        with open(os.environ["STRAAS_CONTEXT"], encoding="utf-8") as file:
            context = json.load(file)
        feed_component_level_param(context, sections)
        feed_node_level_param(context, sections)
        do_other_operation(context, sections)
    except NotYet as wait:
        send("progress", {"text": str(wait)})
        sys.exit(EX_TEMPFAIL)
    except Wrong as wrong:
        send("hint", str(wrong))
        sys.exit(1)
    except KeyError as missing:
        send("hint", f"the context has no {missing}: agent, controller and script repository do not fit together")
        raise
    send("sections", sections)
    sys.exit(0)


def namespace(context):
    """What is this component's own in a store that it shares with others: its name for people, its id for good. A
    component made again under an old name finds nothing of the old one's. Metadata says {component}-{component_id}."""
    own = context["component"]
    return f"{own['name']}-{own['id']}"


class Options:
    """One section of the effective configuration, read key by key; what nobody read is a mistake, not a default."""

    def __init__(self, context, section):
        self.section = section
        self.values = dict(context["config"].get(section, {}))

    def take(self, key, kind):
        """Removes and returns a value; its type must be `kind`, and it must be there."""
        if key not in self.values:
            raise Wrong(f"the configuration has no {self.section}.{key}; add it to the component's default.json")
        value = self.values.pop(key)
        if type(value) is not kind:  # not isinstance: True would pass as an int
            raise Wrong(f"{self.section}.{key} is {value!r}, expected {kind.__name__}; correct it in the configuration")
        return value

    def rest(self):
        """What was not taken."""
        return self.values

    def end(self):
        """Refuses what was not taken."""
        if self.values:
            raise Wrong(f"{self.section} has keys that mean nothing here: {', '.join(sorted(self.values))}; remove them")
