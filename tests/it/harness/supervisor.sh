# Owns one throw-away PostgreSQL server and its directory: `sh -c SUPERVISOR supervisor BIN`.
#
# It first prints the directory, then does what each line on its input says and answers `ok` or `failed`:
#     init              make the server's files
#     set NAME = VALUE  a line for postgresql.conf
#     export NAME=VALUE a variable of the server's environment, from the next start
#     allow NETWORK     whoever comes from there may log in
#     start PORT        start, and wait until it accepts connections
#     stop MODE         stop by pg_ctl's mode: fast or immediate
#     copy              of a stopped server: keep a copy of its files, as they are on a standby
#     take-over         of a stopped server: the copy takes its place, still a standby
# At the end of the input, which comes when the test process is gone, however that came, it leaves nothing behind.

bin=$1
dir=$(mktemp -d /tmp/lead-webhook-test.XXXXXX) || exit 1
cleanup() {
    [ ! -e data/postmaster.pid ] || pg_ctl stop -m immediate
    cd / && rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
cd "$dir" || exit 1

# The server must not inherit our input or output: they are how both sides learn of the other's end.
pg_ctl() {
    "$bin/pg_ctl" -D data -w -t 60 "$@" </dev/null >>pg_ctl.log 2>&1
}

init() {
    "$bin/initdb" -D data -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync </dev/null >>pg_ctl.log 2>&1 &&
        echo "unix_socket_directories = '$dir'" >>data/postgresql.conf
}

echo "$dir"
while read -r command argument; do
    case $command in
    init) init ;;
    set) echo "$argument" >>data/postgresql.conf ;;
    export) export "${argument?}" ;;
    allow) echo "host all all $argument trust" >>data/pg_hba.conf ;;
    start) pg_ctl start -l server.log -o "-p $argument" ;;
    stop) pg_ctl stop -m "$argument" ;;
    copy) cp -a data standby && touch standby/standby.signal ;;
    take-over) rm -rf data && mv standby data ;;
    *) false ;;
    esac && echo ok || echo failed
done
