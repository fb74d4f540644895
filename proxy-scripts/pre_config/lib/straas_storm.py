"""What: what the pre_config scripts of Storm's roles share: storm.yaml out of the context.

Why:   the daemons of a cluster agree on ZooKeeper, on the nimbuses and on what a topology may take for granted; each
       role adds the keys that it alone reads. So a key of supervisors changes no byte of what a nimbus gets, and a
       nimbus is not restarted for it.

Never: looks at the node or at other nodes; everything comes from the context.
"""

import re

from straas_pre_config import NotYet, Options, Wrong, namespace

# What follows from the topology, or would open a way in: a configuration must not set it.
RESERVED = re.compile(r"(storm\.local\.|storm\.zookeeper\.(servers|root|auth|ssl)|storm\.cluster\.|storm\.log4j2\.|"
                      r"storm\.thrift\.|nimbus\.(seeds|authorizer|host)|supervisor\.slots\.|transactional\.|java\.|"
                      r".*childopts$|.*\.tls\.)")
JVM_FLAG = re.compile(r"-[A-Za-z0-9:+=._,/%@-]+$")


def verbatim(context, section, *prefixes):
    """Keys of storm.yaml that stand in a section as they are; each begins with one of `prefixes`."""
    settings = Options(context, section).rest()
    for key in sorted(settings):
        if RESERVED.match(key):
            raise Wrong(f"{section} sets {key}, which StraaS itself decides; remove it from the configuration")
        if not key.startswith(prefixes):
            raise Wrong(f"{section} sets {key}, which does not belong there (only {', '.join(prefixes)}); correct default.json")
    return settings


def flags(options):
    """The further JVM flags of a section, as a list."""
    found = options.take("extra_flags", str).split()
    for flag in found:
        if not JVM_FLAG.match(flag):
            raise Wrong(f"{options.section}.extra_flags holds {flag!r}, which is not a plain JVM flag; correct it in default.json")
    return found


def addresses(nodes, what):
    """The addresses of nodes, complete, or NotYet."""
    for node in nodes:
        if not node.get("address"):
            raise NotYet(f"waiting for the address of {node['name']}")
    if not nodes:
        raise Wrong(f"there is no {what} in the context: controller and script repository do not fit together")
    return [node["address"] for node in nodes]


def zookeepers(context):
    """The servers of the one ZooKeeper this component depends on."""
    found = [one for one in context["dependencies"].values() if one["type"] == "zookeeper"]
    if len(found) != 1:
        raise Wrong(f"Storm needs exactly one ZooKeeper to depend on, this component has {len(found)}; correct depends_on")
    return addresses(found[0]["nodes"], "server of the ZooKeeper it depends on")


def component_level(context, sections, role, heap_section):
    """What is the same on every node of a role."""
    nimbuses = addresses([peer for peer in context["peers"] if peer["role"] == "nimbus"], "nimbus")
    # In ZooKeeper every Storm has a subtree of its own; it makes it itself.
    root = f"/{namespace(context)}"
    settings = verbatim(context, "storm", "storm.", "topology.", "nimbus.thrift.", "task.")
    settings.update({"storm.zookeeper.servers": zookeepers(context), "storm.zookeeper.root": root,
                     "transactional.zookeeper.root": f"{root}/transactional", "nimbus.seeds": nimbuses})
    heap = Options(context, heap_section)
    log = Options(context, "log")
    sections["storm"] = {
        "role": role,
        "version": context["component"]["version"],
        "settings": settings,
        "heap_mb": heap.take("heap_mb", int),
        "jvm_flags": flags(heap),
        "log_level": log.take("level", str),
        "log_file_mb_max": log.take("max_file_mb", int),
        "log_files_max": log.take("files_max", int),
    }
    for options in (heap, log):
        options.end()


def node_level(context, sections):
    """What is this node's own."""
    sections["storm"].update(address=context["node"]["address"], prefix=context["node"]["prefix"])
