#!/bin/sh
# First boot of a StraaS node; may run again after a crash in its middle.
set -eu
umask 077
mkdir -p /etc/straas
cat > /etc/straas/agent.toml <<'STRAAS_END'
controllers = ["https://10.77.0.1:7443"]
node = "n-1"
state_dir = "/var/lib/straas/agent"
ca_file = "/etc/straas/ca.pem"
join_token_file = "/etc/straas/join-token"
prefix = ""
metrics_listen = "127.0.0.1:9465"
heartbeat_ms = 5000
STRAAS_END
chmod 600 /etc/straas/agent.toml
cat > /etc/straas/ca.pem <<'STRAAS_END'
-----BEGIN CERTIFICATE-----
AAAA
-----END CERTIFICATE-----
STRAAS_END
chmod 644 /etc/straas/ca.pem
cat > /etc/straas/join-token <<'STRAAS_END'
join-token-of-the-test
STRAAS_END
chmod 600 /etc/straas/join-token
mkdir -p -m 755 /etc/apt/keyrings /etc/apt/sources.list.d
cat > /etc/apt/keyrings/straas.asc <<'STRAAS_END'
-----BEGIN PGP PUBLIC KEY BLOCK-----
BBBB
-----END PGP PUBLIC KEY BLOCK-----
STRAAS_END
chmod 644 /etc/apt/keyrings/straas.asc
cat > /etc/apt/sources.list.d/straas.list <<'STRAAS_END'
deb [signed-by=/etc/apt/keyrings/straas.asc] http://10.77.0.1:8081 stable main
STRAAS_END
chmod 644 /etc/apt/sources.list.d/straas.list
echo further
if [ -d /run/systemd/system ]; then
  systemctl enable --now straas-agent.service
elif ! grep -q '^sa:' /etc/inittab 2>/dev/null; then
  umask 022
  echo 'sa:2345:respawn:/usr/sbin/straas-agent --config /etc/straas/agent.toml' >> /etc/inittab
fi
