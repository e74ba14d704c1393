# Builds the programs and runs nodes on loopback; sourced by deploy/quickstart and deploy/benchmark.
#
# Expects: root, lib, name (of the caller), dir ('' for a temporary one), keep (yes|no), bin ('' to
# build), count, doors (yes: with those for mail programs, too); sets daemon, cli, pid, node;
# defines say, fail, start, addr_of, lmtp_of, imap_of, imaps_of, pop3_of, pop3s_of, certificate_of,
# start_cluster. Everything that was started ends with the caller.

say() { printf '\n==> %s\n' "$*"; }
fail() {
    printf '\n%s failed: %s\n' "$name" "$*" >&2
    [ -n "$dir" ] && ls "$dir"/*.log >/dev/null 2>&1 && tail -n 15 "$dir"/node*.log >&2
    exit 1
}

# ---------------------------------------------------------------------------- build
if [ -z "$bin" ]; then
    "$lib/prerequisites.sh" build
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/posthouse/target}
    say "Building (the first time takes a while: RocksDB is compiled)"
    (cd "$root" && cargo build --release --workspace --bins)
    bin=$CARGO_TARGET_DIR/release
fi
daemon=$bin/posthoused cli=$bin/posthouse

# ---------------------------------------------------------------------------- clean end
temporary=no
if [ -z "$dir" ]; then
    dir=$(mktemp -d "${TMPDIR:-/tmp}/posthouse-$name.XXXXXX")
    temporary=yes
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

declare -A pid=() # by place, 1 to count
streamer=''
end() {
    status=$?
    trap - EXIT TERM
    trap '' INT # once is enough: the nodes have heard it too
    set +e
    [ -n "$streamer" ] && kill "$streamer" 2>/dev/null
    for p in "${pid[@]}"; do kill -TERM "$p" 2>/dev/null; done
    for p in "${pid[@]}"; do
        for _ in $(seq 100); do
            kill -0 "$p" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$p" 2>/dev/null
        wait "$p" 2>/dev/null
    done
    if [ $temporary = yes ] && [ $keep = no ]; then
        if [ $status -eq 0 ]; then
            rm -rf "$dir"
        else
            echo "The data and the logs are in $dir" >&2
        fi
    fi
    exit $status
}
trap end EXIT
trap 'exit 0' INT
trap 'exit 143' TERM

# ---------------------------------------------------------------------------- nodes
read -r -a grpc < <(python3 "$lib/placement.py" ports 6600 "$count")
read -r -a lmtp < <(python3 "$lib/placement.py" ports 2400 "$count")
read -r -a imap < <(python3 "$lib/placement.py" ports 1430 "$count")
read -r -a imaps < <(python3 "$lib/placement.py" ports 9930 "$count")
read -r -a pop3 < <(python3 "$lib/placement.py" ports 1100 "$count")
read -r -a pop3s < <(python3 "$lib/placement.py" ports 9950 "$count")
declare -A node=() # node id by place
addr_of() { echo "127.0.0.1:${grpc[$1 - 1]}"; }
lmtp_of() { echo "127.0.0.1:${lmtp[$1 - 1]}"; }
imap_of() { echo "127.0.0.1:${imap[$1 - 1]}"; }
imaps_of() { echo "127.0.0.1:${imaps[$1 - 1]}"; }
pop3_of() { echo "127.0.0.1:${pop3[$1 - 1]}"; }
pop3s_of() { echo "127.0.0.1:${pop3s[$1 - 1]}"; }
certificate_of() { echo "$dir/node$1/tls/certificate.pem"; }

# start PLACE [ARGUMENT...]: starts a node and waits for its line `ready node=N ...`
start() {
    local place=$1 log=$dir/node$1.log out=$dir/node$1.ready programs=()
    shift
    if [ "${doors:-no}" = yes ]; then
        programs=(--imap "$(imap_of "$place")" --imaps "$(imaps_of "$place")"
            --pop3 "$(pop3_of "$place")" --pop3s "$(pop3s_of "$place")")
    fi
    : >"$out"
    "$daemon" --data "$dir/node$place" --listen "$(addr_of "$place")" \
        --lmtp "$(lmtp_of "$place")" "${programs[@]}" "$@" >"$out" 2>>"$log" &
    pid[$place]=$!
    for _ in $(seq 600); do
        if grep -q '^ready ' "$out"; then
            node[$place]=$(sed -n 's/^ready .*node=\([0-9]*\).*/\1/p' "$out")
            return
        fi
        kill -0 "${pid[$place]}" 2>/dev/null || fail "node $place ended while it started"
        sleep 0.1
    done
    fail "node $place is not ready after 60 s"
}

start_cluster() {
    say "Starting $count nodes, data in $dir"
    start 1
    for place in $(seq 2 "$count"); do
        if [ -e "$dir/node$place" ]; then
            start "$place"
            continue
        fi
        token=$dir/token$place
        (umask 077 && "$cli" --addr "$(addr_of 1)" cluster token >"$token")
        start "$place" --join "$(addr_of 1)" --token-file "$token"
        rm -f "$token"
    done
    "$cli" --addr "$(addr_of 1)" cluster status --wait-healthy 60 --nodes "$count" >/dev/null ||
        fail "the cluster did not become healthy"
}
