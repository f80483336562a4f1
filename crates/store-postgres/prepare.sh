#!/usr/bin/env bash
# Writes the descriptions of the checked queries (.sqlx) anew: starts a private PostgreSQL, migrates it and compiles
# the crate against it. Needs the server's programs (Debian: apt-get install postgresql); what it starts, it stops.
set -euo pipefail

crate=$(cd "$(dirname "$0")" && pwd)
programs=${HELIOGRAPH_POSTGRES_BIN:-$(dirname "$(readlink -f "$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb | tail -n 1)")")}
place=$(mktemp -d)
as_server=()
if [ "$(id -u)" = 0 ]; then # the server refuses to run as root
    chown nobody "$place"
    as_server=(runuser -u nobody --)
fi
cleanup() {
    "${as_server[@]}" "$programs/pg_ctl" -D "$place/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$place"
}
trap cleanup EXIT

"${as_server[@]}" "$programs/initdb" -D "$place/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
"${as_server[@]}" "$programs/pg_ctl" -D "$place/data" -l "$place/log" -w start >/dev/null \
    -o "-c listen_addresses='' -c unix_socket_directories=$place -c fsync=off"
for migration in "$crate"/../../migrations/postgres/*.sql; do
    whole=--single-transaction
    if head -n 1 "$migration" | grep -qx -- '-- no-transaction'; then whole=; fi
    psql -h "$place" -U postgres --quiet --set ON_ERROR_STOP=1 $whole -f "$migration"
done

mkdir "$place/described"
touch "$crate/src/lib.rs" # the macros run when the crate is compiled, and only then
cd "$crate"
DATABASE_URL="postgres:///postgres?user=postgres&host=$place" SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$place/described" \
    cargo check --quiet
rm -rf "$crate/.sqlx"
cp -r "$place/described" "$crate/.sqlx"
touch "$crate/src/lib.rs"
cargo check --quiet # with what was written
echo "$(find "$crate/.sqlx" -name '*.json' | wc -l) queries described in $crate/.sqlx"
