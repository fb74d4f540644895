"""What: a topology to submit to a real Storm: words, counted, and what is known of it.

Why:   it has no code of its own: Flux is a program from Storm's own release that reads a topology from a file.

Never: decides what is right: scenarios do.
"""

NAME = "words"
TOPOLOGY = """name: words
config:
  topology.workers: {workers}
  topology.component.resources.onheap.memory.mb: 32.0
spouts:
  - {{id: words, className: org.apache.storm.testing.TestWordSpout, parallelism: 1}}
bolts:
  - {{id: count, className: org.apache.storm.testing.TestWordCounter, parallelism: {workers}}}
streams:
  - {{from: words, to: count, grouping: {{type: FIELDS, args: [word]}}}}
"""


def arguments(work, version, workers):
    """What storm-cmd/submit-jar is told to run it."""
    with open(f"{work}/words.yaml", "w", encoding="utf-8") as file:
        file.write(TOPOLOGY.format(workers=workers))
    return {"jar": f"/usr/lib/storm/{version}/flux/flux-core-{version}.jar", "class": "org.apache.storm.flux.Flux",
            "args": f"--remote {work}/words.yaml"}


def acked(node):
    """Tuples that its bolt has acknowledged, as a node of the cluster hears it."""
    code, result, _ = node.command("storm-cmd/show", name=NAME)
    return result["components"].get("count", {}).get("acked", 0) if code == 0 else 0
