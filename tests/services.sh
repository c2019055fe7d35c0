#!/usr/bin/env bash
# Install the server that tests start for themselves: PostgreSQL. Without it those tests are skipped, so this never fails.
set -uo pipefail

say() { echo "services: $1"; }

if command -v initdb >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; then
  say "PostgreSQL is there."
  exit 0
fi
if [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
  say "this is no Debian: install PostgreSQL yourself, or its tests are skipped."
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  say "not root: install the package postgresql yourself, or its tests are skipped."
  exit 0
fi

# The tests make their own cluster, so the package need not make one. apt waits a few minutes at most.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive
apt=(timeout --kill-after=10 240 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=60)
"${apt[@]}" update || say "the lists of packages cannot be updated."
if "${apt[@]}" install -y --no-install-recommends -o Dpkg::Options::=--force-confold postgresql >/dev/null; then
  say "PostgreSQL is installed."
else
  say "PostgreSQL cannot be installed: its tests are skipped."
fi
exit 0
