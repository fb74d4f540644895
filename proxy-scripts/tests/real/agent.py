"""What: plays the agent for a handful of nodes of one machine: contexts, stages, messages, site.pp, guest commands.

Why:   scenarios check the payload against real software without a controller, in the order and with the environment of
       README.md. A node lives in a directory of its own and on an address of 127.0.0.0/8.

Never: part of the product; knows a component type; decides what is right: scenarios do.
"""

import glob
import json
import os
import resource
import subprocess
import time

ANSWER_S_MAX = 300  # of a node that settles; ten times what the slowest takes on two busy cores
PAUSE_S = 0.5  # between two looks of a validate that says "not yet", as the agent's shortest


class Failed(Exception):
    """What happened is not what should; the text says it."""


def check(right, text):
    """Says what was checked; ends the scenario if it is wrong."""
    if not right:
        raise Failed(text)
    print(f"ok    {text}", flush=True)


def until(right, what):
    """Waits until something is so, and says how long it took."""
    began = time.monotonic()
    while not right():
        if time.monotonic() - began > ANSWER_S_MAX:
            raise Failed(f"not in {ANSWER_S_MAX} s: {what}")
        time.sleep(PAUSE_S)  # waits for: processes that are not ours
    check(True, f"{what}, after {time.monotonic() - began:.1f} s")


def puppet(value):
    """A value as Puppet code, as the agent renders it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(puppet, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{puppet(key)} => {puppet(item)}" for key, item in sorted(value.items())) + "}"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Component:
    """One component of the one topology: its type's metadata and configuration, its nodes."""

    def __init__(self, work, name, kind, version, dependencies=(), ident=""):
        with open(f"{work}/config/metadata/{kind}.json", encoding="utf-8") as file:
            self.meta = json.load(file)
        self.work, self.name, self.kind, self.dependencies = work, name, kind, list(dependencies)
        self.version, self.changes, self.nodes, self.id = version, {}, [], ident or f"c-{name}"

    def add(self, role, ordinal, address, host=None):
        """A node more: in a directory of this machine, or on a host of its own."""
        self.nodes.append(Node(self, role, ordinal, address, host))
        return self.nodes[-1]

    def prepare(self):
        """What a component asks of those it depends on before it is configured first, as the controller would."""
        words = {"{topology}": "real", "{component}": self.name, "{component_id}": self.id}
        wanted = {each["type"]: each.get("operation") for each in self.meta["dependencies"]}
        for dependency, operation in ((each, wanted.get(each.kind)) for each in self.dependencies):
            if operation:
                arguments = dict(operation["args"])
                for word, value in words.items():
                    arguments = {name: text.replace(word, value) for name, text in arguments.items()}
                dependency.nodes[0].ask(operation["command"], **arguments)

    def config(self):
        """The effective configuration, with what the scenario changed."""
        with open(f"{self.work}/config/app/{self.kind}/{self.version}/default.json", encoding="utf-8") as file:
            content = json.load(file)["content"]
        readers = {"integer": int, "float": float, "string": str, "boolean": "true".__eq__}
        effective = {s["section"]: {o["key"]: readers[o["type"]](o["value"]) for o in s["options"]} for s in content}
        for (section, key), value in self.changes.items():
            effective[section][key] = value
        return effective

    def role(self, name):
        """What metadata says of a role."""
        return next(each for each in self.meta["roles"] if each["name"] == name)

    def script_role(self, role):
        """Where a role's scripts are."""
        return self.role(role)["script_role"]


class Node:
    """One node."""

    def __init__(self, component, role, ordinal, address, host=None):
        self.component, self.role, self.ordinal, self.address = component, role, ordinal, address
        self.name = f"{component.name}-{role}-{ordinal}"
        self.own = f"{component.work}/nodes/{self.name}"
        self.prefix, self.inside = (self.own, []) if host is None else ("", host.inside)
        self.facts = {}
        os.makedirs(f"{self.own}/work", exist_ok=True)  # a component made again has the places of the first

    def peer(self):
        """How others see it."""
        return {"name": self.name, "role": self.role, "ordinal": self.ordinal, "address": self.address}

    def context(self):
        """All a script is told."""
        component = self.component
        known, config = component.meta["peers"][self.role], component.config()
        read = component.role(self.role).get("sections", config)
        return {
            "node": {"id": f"n-{self.name}", **self.peer(), "az": "az1", "prefix": self.prefix},
            "topology": {"id": "t-1", "name": "real", "tenant": "acme", "az": "az1"},
            "component": {"id": component.id, "name": component.name, "type": component.kind, "version": component.version},
            "peers": sorted((n.peer() for n in component.nodes if n.role in known), key=lambda p: (p["role"], p["ordinal"])),
            "dependencies": {d.name: {"type": d.kind, "version": d.version, "nodes": [n.peer() for n in d.nodes]}
                             for d in component.dependencies},
            "config": {section: config[section] for section in read},
            "facts": {},
        }

    def run(self, stage, script, **more):
        """Runs one script; (exit code, messages, all output)."""
        with open(f"{self.own}/context.json", "w", encoding="utf-8") as file:
            json.dump(self.context(), file)
        release, component = f"{self.component.work}/release", self.component
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "STRAAS_STAGE": stage,
            "STRAAS_CONTEXT": f"{self.own}/context.json", "STRAAS_SCRIPTS": release, "STRAAS_NODE": self.name,
            "STRAAS_ROLE": component.script_role(self.role), "STRAAS_VERSION": component.version,
            "STRAAS_PREFIX": self.prefix, "STRAAS_WORK": f"{self.own}/work", "STRAAS_SITE_PP": f"{self.own}/site.pp", **more}
        done = subprocess.run([*self.inside, f"{release}/{script}"], env=environment, cwd=f"{self.own}/work", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        messages = [json.loads(line.removeprefix("@straas ")) for line in done.stdout.splitlines() if line.startswith("@straas ")]
        return done.returncode, messages, done.stdout

    def verb(self, stage, file, **more):
        """Runs a script of the role: the version's own, else the role's default, else everybody's."""
        role, release = f"cmd/{self.component.script_role(self.role)}", f"{self.component.work}/release"
        places = [f"{folder}/{file}" for folder in (f"{role}/{self.component.version}", f"{role}/default", "cmd/default")]
        return self.run(stage, next(place for place in places if os.path.exists(f"{release}/{place}")), **more)

    def must(self, stage, file, **more):
        """Runs a script that must succeed; its messages."""
        code, messages, output = self.verb(stage, file, **more)
        if code:
            raise Failed(f"{self.name}: {file} ended with {code}:\n{output}")
        return messages

    def rendered(self):
        """Runs pre_config; the bytes of site.pp."""
        code, messages, output = self.run("pre_config", f"pre_config/{self.component.script_role(self.role)}")
        if code:
            raise Failed(f"{self.name}: pre_config ended with {code}:\n{output}")
        (sections,) = (message["sections"] for message in messages if "sections" in message)
        return "".join(f"class {{ '{name}':\n" + "".join(f"  {key} => {puppet(value)},\n" for key, value in sorted(keys.items())) + "}\n"
                       for name, keys in sorted(sections.items()))

    def configure(self, **more):
        """pre_config and config; the last progress text of the latter."""
        with open(f"{self.own}/site.pp", "w", encoding="utf-8") as file:
            file.write(self.rendered())
        return [m["progress"]["text"] for m in self.must("config", "runpuppet.sh", **more) if "progress" in m][-1]

    def told(self):
        """The facts of a look at a node that is well."""
        code, _, output = self.look(settled=True)
        if code:
            raise Failed(f"{self.name}: validate of a settled node ended with {code}:\n{output}")
        return self.facts

    def ctl(self, verb):
        """What the control script says."""
        path = f"{self.prefix}/etc/straas.d/{self.component.script_role(self.role)}"
        return subprocess.run([*self.inside, path, verb], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60).stdout

    def pid(self):
        """The daemon's process id."""
        return int(self.ctl("pid"))

    def drift(self):
        """What Puppet would change."""
        return next(m["drift"]["resources"] for m in self.must("config", "runpuppet.sh", STRAAS_NOOP="1") if "drift" in m)

    def look(self, settled=False):
        """One validate; (exit code, service, output)."""
        code, messages, output = self.verb("validate", "validate.sh", STRAAS_SETTLED="1" if settled else "0")
        for message in messages:
            self.facts.update(message.get("facts", {}))
        return code, next((m["result"]["service"] for m in messages if "result" in m), ""), output

    def settle(self, *wanted, within=ANSWER_S_MAX):
        """Validates until it succeeds (and the facts (key, value) are there); the seconds it took, `within` at most."""
        began = time.monotonic()
        while True:
            code, service, output = self.look()
            if code == 0 and service == "active" and all(self.facts.get(key) == value for key, value in wanted):
                return time.monotonic() - began
            if code not in (0, 75):
                raise Failed(f"{self.name}: validate ended with {code}:\n{output}")
            if time.monotonic() - began > within:
                raise Failed(f"{self.name} did not settle in {within} s (wanted {wanted}, facts {self.facts}); it said:\n{output}")
            time.sleep(PAUSE_S)

    def command(self, name, /, **arguments):
        """Runs a guest command; (exit code, its result, output)."""
        path = f"{self.own}/args.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(arguments, file)
        more = {f"STRAAS_ARG_{key.upper()}": (str(value).lower() if isinstance(value, bool) else str(value)) for key, value in arguments.items()}
        code, messages, output = self.run("guestcmd", f"guestcmds/{name}", STRAAS_ARGS=path, **more)
        return code, next((m["result"] for m in messages if "result" in m), None), output

    def ask(self, name, /, **arguments):
        """Runs a guest command that must succeed; its result."""
        code, result, output = self.command(name, **arguments)
        if code:
            raise Failed(f"{self.name}: {name} ended with {code}:\n{output}")
        return result

    def memory_mib(self):
        """Resident memory of every process that has this node's directory on its command line: {what: MiB}."""
        found = {}
        for path in glob.glob("/proc/[0-9]*"):
            try:
                with open(f"{path}/cmdline", "rb") as file:
                    line = file.read().decode("utf-8", "replace").split("\0")
                with open(f"{path}/statm", encoding="ascii") as file:
                    resident = int(file.read().split()[1]) * resource.getpagesize() / 2**20
            except OSError:
                continue
            if any(self.prefix in word for word in line):
                # A JVM by its class; a worker's arguments follow that.
                what = next((word for word in reversed(line) if word.startswith("org.") and "=" not in word), line[0])
                found[what] = found.get(what, 0) + round(resident)
        return found

    def validate_cost(self):
        """CPU ms and wall ms of one look at a settled node, the mean of five."""
        def spent():
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return used.ru_utime + used.ru_stime
        cpu, wall = spent(), time.monotonic()
        for _ in range(5):
            code, _, output = self.look(settled=True)
            if code:
                raise Failed(f"{self.name}: validate of a settled node ended with {code}:\n{output}")
        return round((spent() - cpu) * 200), round((time.monotonic() - wall) * 200)


def scenario(work, steps):
    """Runs a scenario; its exit code. When it fails, the logs of every node are shown."""
    try:
        steps(work)
    except Failed as failure:
        print(f"FAIL  {failure}")
        for log in sorted(glob.glob(f"{work}/nodes/*/var/log/**/*.log", recursive=True)):
            with open(log, encoding="utf-8", errors="replace") as file:
                print(f"--- {log}", *(line.rstrip()[:300] for line in file.readlines()[-40:]), sep="\n")
        return 1
    return 0
