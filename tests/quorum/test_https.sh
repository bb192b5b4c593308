#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# etcd over https: a replica group finds it by a certificate that it can check,
# shows its own where etcd asks for one, and talks to nobody else.
. "${srcdir:-.}/tests/harness/shell.sh"
. "${srcdir:-.}/tests/harness/etcd.sh"

for name in $(env | sed -n 's/^\(TALLY_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
for tool in /usr/bin/etcd openssl python3; do
    command -v $tool >/dev/null || check_skip "there is no $tool"
done
[ -e .libs/libtally-etcd.so ] || check_skip "libtally-etcd.so is not here"
ls .libs/libtally-ucx.so .libs/libtally-ofi.so >/dev/null 2>&1 ||
    check_skip "there is no transport between replicas"

keys=$scratch/keys
mkdir "$keys"

authority() { # NAME
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" \
        -keyout "$keys/$1.key" -out "$keys/$1.pem" 2>>"$scratch/openssl"
}

certificate() { # NAME AUTHORITY ADDRESS
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" \
        -keyout "$keys/$1.key" -out "$keys/$1.csr" 2>>"$scratch/openssl"
    printf 'subjectAltName=IP:%s\nextendedKeyUsage=serverAuth,clientAuth\n' \
        "$3" >"$keys/$1.ext"
    openssl x509 -req -days 2 -in "$keys/$1.csr" -CA "$keys/$2.pem" \
        -CAkey "$keys/$2.key" -CAcreateserial -extfile "$keys/$1.ext" \
        -out "$keys/$1.pem" 2>>"$scratch/openssl"
}

# shellcheck disable=SC2046
set -- $(ports 2)
client=https://127.0.0.1:$1
peer=http://127.0.0.1:$2

start_etcd() { # CERTIFICATE OPTION...
    name=$1
    shift
    rm -rf "$scratch/etcd"
    /usr/bin/etcd --data-dir "$scratch/etcd" --listen-client-urls "$client" \
        --advertise-client-urls "$client" --listen-peer-urls "$peer" \
        --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" \
        --cert-file "$keys/$name.pem" --key-file "$keys/$name.key" "$@" \
        >"$scratch/etcd.log" 2>&1 &
    etcd=$!
    eventually etcd_serves
}

stop_etcd() {
    kill -KILL $etcd
    wait $etcd 2>/dev/null
}

# One replica group by itself: it finds its membership and the register in etcd.
jobs=0
joins() { # VARIABLE=VALUE...
    jobs=$((jobs + 1))
    env TALLY_QUORUM=etcd TALLY_ETCD_ENDPOINTS="$client" TALLY_RANK=0 \
        TALLY_JOB="https.$jobs" TALLY_WORLD_SIZE=1 TALLY_UCX_TLS=tcp,self \
        TALLY_PLUGIN_PATH="$PWD/.libs" "$@" timeout -s KILL 120 \
        examples/trainer/trainer --tally .libs/libtally.so --mode replicas \
        --order late --replicas 1 --steps 2 --documents 2 --evaluate-every 0 \
        --checkpoint "$scratch/checkpoint.$jobs" --checkpoint-every 2 \
        --shared "tally-test.$$.https" "$srcdir/examples/trainer/train.c" \
        >"$scratch/out" 2>&1
    status=$?
    rm -f "/dev/shm/tally-test.$$.https"
    cat "$scratch/out"
    return $status
}

refused() { # SENTENCE VARIABLE=VALUE...
    sentence=$1
    shift
    check "$sentence" not joins TALLY_BOOTSTRAP_TIMEOUT=3 "$@"
    check "etcd's certificate, or ours, is named as the reason" \
        grep -qiE "certificate|alert|SSL" "$scratch/out"
}

authority ours
authority theirs
certificate server ours 127.0.0.1
certificate elsewhere ours 127.0.0.2
certificate group ours 127.0.0.1
certificate stranger theirs 127.0.0.1
check "the certificates are there" [ -s "$keys/stranger.pem" ]

start_etcd server
check "a replica group joins over https" joins TALLY_ETCD_CA="$keys/ours.pem"
check "and publishes its checkpoint" [ -s "$scratch/checkpoint.$jobs" ]
refused "the system's authorities do not know this etcd" TALLY_TIMEOUT=3
refused "another authority does not either" TALLY_ETCD_CA="$keys/theirs.pem"
refused "a file of authorities that is not there" TALLY_ETCD_CA="$keys/none"
stop_etcd

start_etcd elsewhere
refused "a certificate of another address" TALLY_ETCD_CA="$keys/ours.pem"
stop_etcd

start_etcd server --client-cert-auth --trusted-ca-file "$keys/ours.pem"
check "a replica group shows its certificate" joins \
    TALLY_ETCD_CA="$keys/ours.pem" TALLY_ETCD_CERT="$keys/group.pem" \
    TALLY_ETCD_KEY="$keys/group.key"
# TLS 1.3 says so after the handshake, when the connection may be gone already:
# the reason is not always there to be named.
check "etcd asks for one" not joins TALLY_BOOTSTRAP_TIMEOUT=3 \
    TALLY_ETCD_CA="$keys/ours.pem"
check "etcd does not know this one" not joins TALLY_BOOTSTRAP_TIMEOUT=3 \
    TALLY_ETCD_CA="$keys/ours.pem" \
    TALLY_ETCD_CERT="$keys/stranger.pem" TALLY_ETCD_KEY="$keys/stranger.key"
stop_etcd
check_end
