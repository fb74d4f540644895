"""What: brokers as nodes of this machine, driven by the payload's own scripts as an agent would drive them.

Why:   the scenario then reads as what happens to a cluster, and every step goes through the files that ship.

Never: does a script's work for it; talks to a broker except through the payload or a client that is not ours.
"""

import json
import os
import re
import subprocess
import time

WAIT_S_MAX = 240  # a busy machine takes a while; a broker that is not there by then will not come
POLL_S = 0.5


class Failed(Exception):
    """The payload did something else than it should."""


def literal(value):
    """A value as the agent renders it into site.pp."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)} => {literal(v)}" for k, v in sorted(value.items())) + "}"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def site_pp(sections):
    """site.pp of the sections: one resource a section, keys sorted."""
    return "".join(f"class {{ '{name}':\n" + "".join(f"  {k} => {literal(v)},\n" for k, v in sorted(body.items())) + "}\n"
                   for name, body in sorted(sections.items()))


def effective(path):
    """The configuration that default.json describes, typed."""
    read = {"integer": int, "float": float, "string": str, "boolean": lambda text: text == "true"}
    with open(path, encoding="utf-8") as file:
        return {section["section"]: {it["key"]: read[it["type"]](it["value"]) for it in section["options"]}
                for section in json.load(file)["content"]}


class Run:
    """What a script said."""

    def __init__(self, done, seconds):
        self.code, self.output, self.seconds = done.returncode, done.stdout + done.stderr, seconds
        self.messages = {}
        for line in done.stdout.splitlines():
            if line.startswith("@straas "):
                ((kind, body),) = json.loads(line.removeprefix("@straas ")).items()
                self.messages[kind] = {**self.messages.get(kind, {}), **body} if isinstance(body, dict) else body


class Cluster:
    """A ZooKeeper and some brokers."""

    def __init__(self, project, work):
        self.project, self.work, self.release = project, work, os.path.join(work, "release")
        self.version, self.size, self.overrides, self.nodes = "3.8.1", 0, {}, {}

    def zookeeper(self):
        """A ZooKeeper of one server, from the jars that Kafka brings; its own payload has its own tests."""
        where = os.path.join(self.work, "zookeeper")
        os.makedirs(where)
        config = os.path.join(where, "zoo.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"dataDir={where}\nclientPort=2181\nclientPortAddress=127.0.1.100\ntickTime=1000\n"
                       "admin.enableServer=false\nmaxClientCnxns=0\n")
        log = open(os.path.join(where, "log"), "w", encoding="utf-8")
        subprocess.Popen(["/usr/lib/kafka/3.9.2/bin/kafka-run-class", "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                          config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def address(self, ordinal):
        return f"127.0.1.{ordinal}"

    def bootstrap(self):
        return ",".join(f"{self.address(o)}:9092" for o in self.nodes)

    def context(self, ordinal):
        """What the controller would hand to this node."""
        config = effective(os.path.join(self.project, "controller/repos/defaults/app/kafka", self.version, "default.json"))
        config["log"]["level"] = "INFO"
        for (section, key), value in self.overrides.items():
            config[section][key] = value
        node = lambda o: {"name": f"t-kafka-{o}", "role": "kafka", "ordinal": o, "address": self.address(o)}
        return {"node": {**node(ordinal), "id": f"n-{ordinal}", "az": "az1", "prefix": self.prefix(ordinal)},
                "topology": {"id": "t-1", "name": "t", "tenant": "acme", "az": "az1"},
                "component": {"id": "c-2", "name": "events", "type": "kafka", "version": self.version},
                "peers": [node(o) for o in sorted(self.nodes)],
                "dependencies": {"zk": {"type": "zookeeper", "version": "3.8.0", "nodes": [
                    {"name": "t-zk-1", "role": "zookeeper", "ordinal": 1, "address": "127.0.1.100"}]}},
                "config": config, "facts": {}}

    def prefix(self, ordinal):
        return os.path.join(self.work, "nodes", str(ordinal))

    def run(self, ordinal, stage, script, arguments=None, **extra):
        """Runs one script on one node, with the environment of the contract."""
        prefix = self.prefix(ordinal)
        work = os.path.join(prefix, "work")
        os.makedirs(work, exist_ok=True)
        context = os.path.join(work, "context.json")
        with open(context, "w", encoding="utf-8") as file:
            json.dump(self.context(ordinal), file)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
                       "STRAAS_CONTEXT": context, "STRAAS_SCRIPTS": self.release, "STRAAS_STAGE": stage,
                       "STRAAS_ROLE": "kafka", "STRAAS_VERSION": self.version, "STRAAS_NODE": f"t-kafka-{ordinal}",
                       "STRAAS_PREFIX": prefix, "STRAAS_WORK": work, "STRAAS_SITE_PP": os.path.join(work, "site.pp"), **extra}
        if arguments is not None:
            environment["STRAAS_ARGS"] = os.path.join(work, "args.json")
            with open(environment["STRAAS_ARGS"], "w", encoding="utf-8") as file:
                json.dump(arguments, file)
            for name, value in arguments.items():
                environment["STRAAS_ARG_" + name.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
        begun = time.monotonic()
        done = subprocess.run([os.path.join(self.release, script)], env=environment, cwd=work, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=900)
        return Run(done, time.monotonic() - begun)

    def good(self, run, what):
        if run.code:
            raise Failed(f"{what}: exit code {run.code}\n{run.output}")
        return run

    def configure(self, ordinal):
        """pre_config and config of a node; gives config's run."""
        sections = self.good(self.run(ordinal, "pre_config", "pre_config/kafka"), "pre_config").messages["sections"]
        with open(os.path.join(self.prefix(ordinal), "work", "site.pp"), "w", encoding="utf-8") as file:
            file.write(site_pp(sections))
        return self.good(self.run(ordinal, "config", "cmd/kafka/default/runpuppet.sh"), "config")

    def script(self, ordinal, name, **extra):
        return self.run(ordinal, name, f"cmd/kafka/default/{name}.sh", **extra)

    def settle(self, ordinal):
        """Looks until the node has settled; its last look."""
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            run = self.script(ordinal, "validate", STRAAS_SETTLED="0")
            if run.code == 0:
                return run
            if run.code != 75 or time.monotonic() > deadline:
                raise Failed(f"broker {ordinal} does not settle: exit code {run.code}\n{run.output}")
            time.sleep(POLL_S)  # waits for: a broker in a process that is not ours

    def command(self, ordinal, name, **arguments):
        """A guest command that must succeed; its run."""
        return self.good(self.run(ordinal, "guestcmd", f"guestcmds/{name}", arguments), name)

    def facts(self, ordinal):
        return self.script(ordinal, "validate", STRAAS_SETTLED="1").messages["facts"]

    def pid(self, ordinal):
        ctl = os.path.join(self.prefix(ordinal), "etc/kafka/kafka-ctl")
        return int(subprocess.run([ctl, "pid"], capture_output=True, text=True, check=True).stdout)

    def rss_mib(self, ordinal):
        with open(f"/proc/{self.pid(ordinal)}/status", encoding="utf-8") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) // 1024
