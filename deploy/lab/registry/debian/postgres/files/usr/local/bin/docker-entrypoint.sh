#!/bin/sh
# The first start makes the database cluster; every start runs the server as "postgres", never as root.
set -eu

volume=$(dirname "$PGDATA")

if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
    mkdir -p "$volume" /run/postgresql
    chown postgres:postgres "$volume" /run/postgresql
    exec su -s /bin/sh postgres -c 'exec "$0" "$@"' -- "$0" "$@"
fi

if [ "$1" = postgres ] && [ ! -d "$PGDATA" ]; then
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo "POSTGRES_PASSWORD is empty: set it, and the user postgres gets it" >&2
        exit 1
    fi
    # Under another name until it is whole: a first start may be interrupted.
    rm -rf "$PGDATA.new"
    file=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$file"
    initdb --username=postgres --pwfile="$file" --auth-host=scram-sha-256 --auth-local=peer \
        --encoding=UTF8 --locale=C "$PGDATA.new"
    rm -f "$file"
    echo "host all all all scram-sha-256" >>"$PGDATA.new/pg_hba.conf"
    sync
    mv "$PGDATA.new" "$PGDATA"
fi

if [ "$1" = postgres ]; then
    shift
    # Its compiler (LLVM) is not in the image.
    set -- postgres -c jit=off -c "listen_addresses=*" "$@"
fi
exec "$@"
