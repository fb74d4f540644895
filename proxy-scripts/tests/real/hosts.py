"""What: hosts in the box: a network and system directories of their own, so that a node owns its host, as in production.

Why:   some software listens on every address of its machine, and a prefix is not what a node usually has.

Never: runs a stage that touches packages (remove, install): /usr is everybody's.
"""

import os
import subprocess
import time

BRIDGE, NETWORK = "br0", "24"
SYSTEM = ("/run", "/var/lib", "/var/log")  # what a daemon writes to, besides /etc


def run(*words):
    """A command that must succeed."""
    subprocess.run(words, check=True, timeout=60)


def bridge(*addresses):
    """The network of the hosts; nodes that have none of their own may use these addresses."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "link", "set", BRIDGE, "up")
    for address in addresses:
        run("ip", "address", "add", f"{address}/{NETWORK}", "dev", BRIDGE)


class Host:
    """One host; it ends with the box."""

    def __init__(self, work, name, address):
        holder = subprocess.Popen(["unshare", "--mount", "--net", "--propagation", "private", "sleep", "infinity"])
        own = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net")]
        while any(os.readlink(f"/proc/{holder.pid}/ns/{kind}") in own for kind in ("mnt", "net")):
            time.sleep(0.01)  # waits for: unshare
        at, port = f"{work}/hosts/{name}", f"v-{name}"
        self.root = f"/proc/{holder.pid}/root"
        self.inside = ["nsenter", f"--target={holder.pid}", "--mount", "--net", f"--wd={work}", "--"]
        for part in ("upper", "work"):
            os.makedirs(f"{at}/{part}")
        run(*self.inside, "mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/etc,upperdir={at}/upper,workdir={at}/work", "/etc")
        for file in ("passwd", "group"):
            run(*self.inside, "mount", "--bind", f"{work}/{file}", f"/etc/{file}")
        for path in SYSTEM:
            run(*self.inside, "mount", "-t", "tmpfs", "tmpfs", path)
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        run("ip", "link", "set", port, "master", BRIDGE, "up")
        run(*self.inside, "ip", "link", "set", "lo", "up")
        run(*self.inside, "ip", "address", "add", f"{address}/{NETWORK}", "dev", "eth0")
        run(*self.inside, "ip", "link", "set", "eth0", "up")
