# shellcheck shell=sh
# Shared by the scripts beside it: what building and testing need of the system. Sourced by a POSIX shell.

die() {
    echo "$0: $*" >&2
    exit 1
}

# As root, or by sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Where the binaries of the PostgreSQL server are, as the tests look for them: as told, as pg_config says, Debian's
# newest. Fails where they are nowhere.
postgresql_bin() {
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    for bin in "${LEAD_WEBHOOK_PG_BIN:-}" "$(pg_config --bindir 2>/dev/null)" "$newest"; do
        if [ -x "$bin/initdb" ] && [ -x "$bin/pg_ctl" ]; then
            echo "$bin"
            return 0
        fi
    done
    return 1
}

has_postgresql() {
    postgresql_bin >/dev/null
}

# The exact version of the server in that directory: 15.18.
postgresql_version() {
    "$1/postgres" --version | sed -n 's/^postgres (PostgreSQL) \([0-9.]*\).*/\1/p'
}

# A pooler, for the tests that go through one: as told, else Debian's.
has_pgbouncer() {
    for program in "${LEAD_WEBHOOK_PGBOUNCER:-}" /usr/sbin/pgbouncer /usr/bin/pgbouncer; do
        if [ -x "$program" ]; then return 0; fi
    done
    return 1
}

# A clock that can be put forward and back, for the tests that do.
has_faketime() {
    for library in /usr/lib/*/faketime/libfaketime.so.1; do
        if [ -e "$library" ]; then return 0; fi
    done
    return 1
}

# Most tests wait for something most of the time: twice as many as usual at once take two thirds of the time.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}
export RUST_TEST_THREADS

# Installs what is missing, on Debian and its relatives, and says so first. Silent where nothing is. What only tests need
# is for those scripts that say for_tests=yes.
install_missing() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust with its toolchain manager, rustup, then try again"
    missing=
    command -v cc >/dev/null || missing="$missing gcc libc6-dev"
    has_postgresql || missing="$missing postgresql"
    if [ -n "${for_tests:-}" ]; then
        has_pgbouncer || missing="$missing pgbouncer"
        has_faketime || missing="$missing libfaketime"
    fi
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "missing here, and there is no apt-get to install it by:$missing"
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "missing here, and installing needs root or sudo: apt-get install$missing"
    fi
    echo "Installing by apt-get (the programs only, no server is set up or started):$missing" >&2
    apt_get update
    case $missing in *postgresql*) apt_get install postgresql-common ;; esac
    # shellcheck disable=SC2086 # a list of words
    without_servers apt_get install $missing || die "apt-get could not install:$missing"
    # It would run from the next start of the machine on.
    case $missing in *pgbouncer*) as_root systemctl --quiet disable pgbouncer 2>/dev/null || true ;; esac
    has_postgresql || die "PostgreSQL is installed, but its server's programs are not found: set LEAD_WEBHOOK_PG_BIN"
}

# Runs a command while what it installs is kept from starting a server.
without_servers() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then without_main_cluster "$@"; return; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    done=0
    without_main_cluster "$@" || done=$?
    as_root rm "$policy"
    return "$done"
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends "$@" >&2 </dev/null
}

# Runs a command while Debian's package is kept from setting up and starting a server of its own on port 5432, as it
# would when it is installed: the tests start theirs themselves.
without_main_cluster() {
    conf=/etc/postgresql-common/createcluster.conf
    if [ ! -e "$conf" ]; then "$@"; return; fi
    as_root cp -p "$conf" "$conf.before"
    as_root pg_conftool "$conf" set create_main_cluster off
    done=0
    "$@" || done=$?
    as_root mv "$conf.before" "$conf"
    return "$done"
}

# The packager, below target, so that nothing is installed beside what is there.
install_cargo_deb() {
    version=3.8.0
    [ "$(target/tools/bin/cargo-deb --version 2>/dev/null)" = "cargo-deb $version" ] && return 0
    cargo install --quiet --locked --root target/tools --version "$version" cargo-deb
}
