# SPDX-License-Identifier: BSD-3-Clause
# An etcd server for tests written in shell; sourced after shell.sh.
#
#   ports COUNT     that many ports of the loopback that were free a moment ago
#   static_list COUNT   TALLY_QUORUM_LIST of such ports
#   etcd_is_here    the server and its provider are built
#   etcd_prepare    chooses where it is reached: TALLY_ETCD_ENDPOINTS
#   etcd_start      starts it there, as $etcd; again: with its data
#   etcd_serves     it has come up

# None that the kernel gives out by itself: it would to others, soon.
ports() {
    python3 -c "import random, socket
them = []
while len(them) < $1:
    s = socket.socket()
    try:
        s.bind(('127.0.0.1', random.randrange(10000, 29000)))
        them.append(s)
    except OSError:
        pass
print(*[s.getsockname()[1] for s in them])"
}

# TALLY_QUORUM_LIST for that many.
static_list() {
    ports "$1" | sed 's/[0-9]*/127.0.0.1:&/g; s/ /,/g'
}

etcd_is_here() {
    [ -x /usr/bin/etcd ] && [ -e .libs/libtally-etcd.so ]
}

etcd_prepare() {
    # shellcheck disable=SC2046
    set -- $(ports 2)
    etcd_client=http://127.0.0.1:$1
    etcd_peer=http://127.0.0.1:$2
    export TALLY_QUORUM=etcd TALLY_ETCD_ENDPOINTS="$etcd_client"
}

etcd_start() {
    /usr/bin/etcd --data-dir "$scratch/etcd" \
        --listen-client-urls "$etcd_client" \
        --advertise-client-urls "$etcd_client" \
        --listen-peer-urls "$etcd_peer" \
        --initial-advertise-peer-urls "$etcd_peer" \
        --initial-cluster "default=$etcd_peer" >"$scratch/etcd.log" 2>&1 &
    etcd=$!
}

etcd_serves() {
    grep -q "ready to serve client requests" "$scratch/etcd.log"
}
