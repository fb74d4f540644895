"""What: the checks of the payload that are about files: schemas, examples, golden sections, headers, modes.

Why:   a component author's first mistakes are a missing mode bit, a key that no schema knows, a stale example. Each
       is one line here, before a node sees it.

Never: starts a component, needs the network, writes a file (except golden ones, when BLESS=1 asks for it).

Usage: check_files.py PROJECT   exit code 1 and one line per fault
"""

import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from json_schema import faults  # noqa: E402

PROJECT = os.path.abspath(sys.argv[1])
SCRIPTS = os.path.join(PROJECT, "proxy-scripts")
DEFAULTS = os.path.join(PROJECT, "controller", "repos", "defaults")
HEADER_PARTS = ("What:", "Why:", "Never:")
STAGE_SCRIPTS = {"install", "runpuppet", "validate", "start", "stop", "remove"}
READERS = {"integer": int, "float": float, "string": str, "boolean": {"true": True, "false": False}.__getitem__}

found = []
checked = 0


def check(right, text):
    """Counts a check and keeps its text if it fails."""
    global checked
    checked += 1
    if not right:
        found.append(text)


def load(path):
    """A JSON file; a broken one is a fault of its own and reads as None."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except ValueError as error:
        found.append(f"{os.path.relpath(path, PROJECT)}: not JSON: {error}")
        return None


def walk(*below):
    """Every file below a folder of the project, sorted."""
    for folder, folders, files in os.walk(os.path.join(PROJECT, *below)):
        folders.sort()
        for file in sorted(files):
            yield os.path.join(folder, file)


def against(schema, *paths):
    """Checks files against a schema file."""
    rules = load(schema)
    for path in paths:
        for fault in faults(load(path), rules):
            found.append(f"{os.path.relpath(path, PROJECT)}: {fault}")
        check(True, "")


def messages(text):
    """The messages in a script's output, as (kind, body)."""
    for line in text.splitlines():
        if line.startswith("@straas "):
            ((kind, body),) = json.loads(line.removeprefix("@straas ")).items()
            yield kind, body


def json_files():
    """All JSON parses; the files of every kind fit their schema."""
    for top in ("proxy-scripts", "guestcmds", os.path.join("controller", "repos", "defaults")):
        for path in walk(top):
            if path.endswith(".json"):
                check(load(path) is not None, f"{path}: not JSON")
    schema = os.path.join(SCRIPTS, "schema")
    against(os.path.join(schema, "context.schema.json"), os.path.join(SCRIPTS, "examples", "context.json"),
            *(p for p in walk("proxy-scripts", "tests", "golden") if p.endswith(".context.json") and "refused" not in p))
    against(os.path.join(DEFAULTS, "schema", "metadata.schema.json"),
            *(p for p in walk("controller", "repos", "defaults", "metadata")))
    against(os.path.join(DEFAULTS, "schema", "ini.schema.json"),
            *(p for top in ("app", "service") for p in walk("controller", "repos", "defaults", top)))
    against(os.path.join(PROJECT, "guestcmds", "schema", "guestcmd.schema.json"),
            *(p for p in walk("guestcmds") if p.endswith(".json") and os.sep + "schema" + os.sep not in p))
    rules = load(os.path.join(schema, "message.schema.json"))
    for path in walk("proxy-scripts", "examples"):
        if path.endswith(".dialogue.txt"):
            with open(path, encoding="utf-8") as file:
                for kind, body in messages(file.read()):
                    for fault in faults({kind: body}, rules):
                        found.append(f"{path}: {fault}")
                    check(True, "")


def metadata_fits_scripts():
    """Every role of a component has its scripts; defaults named in metadata exist; versions have a configuration."""
    for path in walk("controller", "repos", "defaults", "metadata"):
        meta, where = load(path), os.path.relpath(path, PROJECT)
        check(meta["type"] + ".json" == os.path.basename(path), f"{where}: type is not the file's name")
        roles = {role["name"] for role in meta["roles"]}
        check(meta["default_role"] in roles, f"{where}: default_role is no role")
        check(meta["default_version"] in meta["versions"], f"{where}: default_version is no version")
        check(meta["default_flavor"] in meta["flavors"], f"{where}: default_flavor is no flavor")
        check(set(meta["peers"]) == roles, f"{where}: peers must name every role")
        for stage, limit in meta["stages"].items():
            check(limit["no_progress_s"] <= limit["total_s"], f"{where}: {stage}: no_progress_s is above total_s")
        for sizes in [meta["sizes"]] + [role["sizes"] for role in meta["roles"] if "sizes" in role]:
            check(sizes["min"] <= sizes["default"] <= sizes["max"], f"{where}: default size is outside min and max")
            check(not sizes["odd"] or sizes["default"] % 2, f"{where}: odd sizes only, but the default is even")
        for role in meta["roles"]:
            script_role = role["script_role"]
            check(os.path.isfile(os.path.join(SCRIPTS, "pre_config", script_role)), f"{where}: no pre_config/{script_role}")
            for version in meta["versions"]:
                for script in STAGE_SCRIPTS - {"install"}:
                    folders = [(script_role, version), (script_role, "default"), ("default",)]
                    places = [os.path.join(SCRIPTS, "cmd", *folder, script + ".sh") for folder in folders]
                    check(any(map(os.path.isfile, places)), f"{where}: no {script}.sh for {script_role} {version}")
        for version in meta["versions"]:
            check(os.path.isfile(os.path.join(DEFAULTS, "app", meta["type"], version, "default.json")),
                  f"{where}: no app/{meta['type']}/{version}/default.json")


def options(path):
    """{(section, key): option} of an ini file, each value read by its type."""
    read = {}
    for section in load(path)["content"]:
        for option in section["options"]:
            name, where = (section["section"], option["key"]), os.path.relpath(path, PROJECT)
            check(name not in read, f"{where}: {'.'.join(name)} is there twice")
            try:
                value = READERS[option["type"]](option["value"])
            except (ValueError, KeyError):
                check(False, f"{where}: {'.'.join(name)}: {option['value']!r} is no {option['type']}")
                continue
            check(option.get("min", value) <= value <= option.get("max", value) if option["type"] in ("integer", "float")
                  else value in option.get("values", [value]), f"{where}: {'.'.join(name)} is outside its own limits")
            read[name] = option
    return read


def user_keys():
    """user.json holds only keys that default.json has, with the same type and, in the seed, the same value."""
    for path in walk("controller", "repos", "defaults", "app"):
        if os.path.basename(path) == "user.json":
            default = options(os.path.join(os.path.dirname(path), "default.json"))
            for name, option in options(path).items():
                where = f"{os.path.relpath(path, PROJECT)}: {'.'.join(name)}"
                check(name in default, f"{where}: not in default.json")
                for key in ("type", "exclusive", "value"):
                    check(option[key] == default.get(name, {}).get(key), f"{where}: {key} differs from default.json")


def script_role(context):
    """The name of the scripts of a context's role: what metadata says, where there is such a role."""
    path = os.path.join(DEFAULTS, "metadata", context["component"]["type"] + ".json")
    named = {role["name"]: role["script_role"] for role in load(path)["roles"]}
    return named.get(context["node"]["role"], context["node"]["role"])


def golden():
    """pre_config on every golden context: the sections, or the refusal, are those on file; twice the same bytes."""
    rules = load(os.path.join(SCRIPTS, "schema", "message.schema.json"))
    for path in walk("proxy-scripts", "tests", "golden"):
        if not path.endswith(".context.json"):
            continue
        where, expected_path = os.path.relpath(path, PROJECT), path.replace(".context.json", ".expected.json")
        script = os.path.join(SCRIPTS, "pre_config", script_role(load(path)))
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "STRAAS_CONTEXT": path}
        runs = [subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60) for _ in range(2)]
        check(runs[0].stdout == runs[1].stdout, f"{where}: two runs differ")
        check(not runs[0].stderr, f"{where}: stderr: {runs[0].stderr}")
        said = [{kind: body} for kind, body in messages(runs[0].stdout)]
        for message in said:
            found.extend(f"{where}: {fault}" for fault in faults(message, rules))
        result = {"exit_code": runs[0].returncode, "messages": said}
        if os.environ.get("BLESS") == "1":
            with open(expected_path, "w", encoding="utf-8") as file:
                file.write(json.dumps(result, indent=2, sort_keys=True) + "\n")
        check(os.path.isfile(expected_path) and result == load(expected_path),
              f"{where}: is not what {os.path.basename(expected_path)} says; BLESS=1 writes it anew: {result}")


def headers_and_modes():
    """Every script is executable, says what, why and never at its top, and bash scripts stop at the first error."""
    programs = [p for top in (("proxy-scripts", "cmd"), ("proxy-scripts", "pre_config"), ("proxy-scripts", "tests"), ("guestcmds",))
                for p in walk(*top) if not p.endswith((".json", ".md"))]
    for path in programs:
        where = os.path.relpath(path, PROJECT)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        top = "\n".join(text.splitlines()[:25])
        library = os.sep + "lib" + os.sep in path or path.endswith(".py")
        check(os.access(path, os.X_OK) != library, f"{where}: {'must not' if library else 'must'} be executable")
        check(library or text.startswith(("#!/bin/bash\n", "#!/usr/bin/python3 -IB\n")), f"{where}: unusual first line")
        for part in HEADER_PARTS:
            check(part in top, f"{where}: the header comment lacks '{part}'")
        if text.startswith("#!/bin/bash"):
            check(re.search(r"^set -euo pipefail$", text, re.M), f"{where}: lacks set -euo pipefail")
            check(not re.search(r"^\s*sleep\b", text, re.M), f"{where}: sleeps; look once and exit 75 instead")
    for path in walk("guestcmds"):
        if path.endswith(".json") and os.sep + "schema" + os.sep not in path:
            check(os.access(path.removesuffix(".json"), os.X_OK), f"{path}: has no executable beside it")


for step in (json_files, metadata_fits_scripts, user_keys, golden, headers_and_modes):
    step()
print(*found, sep="\n", end="\n" if found else "")
print(f"files: {checked} checks, {len(found)} faults")
sys.exit(1 if found else 0)
