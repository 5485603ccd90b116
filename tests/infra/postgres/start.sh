#!/bin/sh
# Makes the cluster and runs the scripts while the volume is empty, then serves. As root only until its folder has its owner.
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
export PATH
if [ "$(id -u)" = 0 ]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    exec setpriv --reuid postgres --regid postgres --clear-groups sh "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    (umask 077 && printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password)
    initdb --username postgres --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256 --encoding UTF8 > /dev/null
    rm /tmp/password
    pg_ctl --wait --options "-c listen_addresses='' -c unix_socket_directories=/tmp" start > /dev/null
    for script in /docker-entrypoint-initdb.d/*.sh; do PGHOST=/tmp sh "$script"; done
    pg_ctl --wait --mode fast stop > /dev/null
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c port="${PGPORT:-5432}"
