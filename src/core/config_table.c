// SPDX-License-Identifier: BSD-3-Clause
// The table of variables: what an operator may choose at run time.
#include <stddef.h>

#include "core/config.h"

const struct config_row config_table[CONFIG_COUNT] = {
    [CONFIG_TRANSPORT] =
        {
            .name = "TALLY_TRANSPORT",
            .type_text = "auto|shm|ucx|ofi|nccl|path, list",
            .preset = "auto",
            .doc = "How nodes are joined. A comma list is an order of "
                   "preference; an entry with a slash is the path of a "
                   "backend's file. auto: none if one node holds all ranks, "
                   "else the first backend by which all nodes reach each "
                   "other. shm: one node must hold all ranks. nccl reduces "
                   "steps in the memory of CUDA devices, on their stream, and "
                   "no others.",
            .job_wide = true,
        },
    [CONFIG_PLUGIN_PATH] =
        {
            .name = "TALLY_PLUGIN_PATH",
            .type_text = "folders, separated by colons",
            .preset = "",
            .doc = "Where backends (libtally-NAME.so) are looked for before "
                   "the folder of libtally.so.",
        },
    [CONFIG_LIBRARY] =
        {
            .name = "TALLY_LIBRARY",
            .type_text = "path",
            .preset = "",
            .doc = "The libtally.so that the Python package loads, instead of "
                   "the one beside it or the system's.",
        },
    [CONFIG_NODE_SHM] =
        {
            .name = "TALLY_NODE_SHM",
            .type = CONFIG_BOOL,
            .type_text = "0|1",
            .preset = "1",
            .doc = "Ranks of one node reduce in shared memory first. 0 sends "
                   "every message through the transport.",
            .job_wide = true,
        },
    [CONFIG_NODE] =
        {
            .name = "TALLY_NODE",
            .type_text = "name",
            .preset = "",
            .doc = "Ranks with different names are never taken for one node. "
                   "For tests; nodes are found by reading a nonce through "
                   "shared memory.",
        },
    [CONFIG_TIMEOUT] =
        {
            .name = "TALLY_TIMEOUT",
            .type = CONFIG_SECONDS,
            .type_text = "seconds",
            .preset = "60",
            .doc = "Deadline of a reduction. When it passes, the step ends "
                   "with an error that names the rank waited for.",
            .job_wide = true,
        },
    [CONFIG_BOOTSTRAP_TIMEOUT] =
        {
            .name = "TALLY_BOOTSTRAP_TIMEOUT",
            .type = CONFIG_SECONDS,
            .type_text = "seconds",
            .preset = "120",
            .doc = "How long ranks wait for each other in tally_open and when "
                   "groups and steps are made. Of a transport that leads "
                   "nowhere they think so after 10 s, or a quarter of it.",
        },
    [CONFIG_RANK] =
        {
            .name = "TALLY_RANK",
            .type_text = "integer",
            .preset = "",
            .doc = "This process's rank; before torchrun's RANK, Slurm's "
                   "SLURM_PROCID, Open MPI's and PMIx's.",
        },
    [CONFIG_WORLD_SIZE] =
        {
            .name = "TALLY_WORLD_SIZE",
            .type_text = "integer",
            .preset = "",
            .doc = "The number of ranks of the job, with TALLY_RANK.",
        },
    [CONFIG_LOCAL_SIZE] =
        {
            .name = "TALLY_LOCAL_SIZE",
            .type_text = "integer",
            .preset = "",
            .doc = "The number of ranks on this host, if TALLY_RANK is set. "
                   "Says whether ranks outnumber processors.",
        },
    [CONFIG_ROOT] =
        {
            .name = "TALLY_ROOT",
            .type_text = "host:port",
            .preset = "",
            .doc = "Where rank 0 listens for the rendezvous, under any "
                   "launcher. An IPv6 address stands in brackets.",
        },
    [CONFIG_JOB] =
        {
            .name = "TALLY_JOB",
            .type_text = "text",
            .preset = "",
            .doc = "The job's identity: ranks of another job are turned away. "
                   "Where it is not set, the launcher's.",
        },
    [CONFIG_SECRET] =
        {
            .name = "TALLY_SECRET",
            .type_text = "text",
            .preset = "",
            .doc = "Keys an HMAC-SHA256 of the rendezvous, where the network "
                   "is not trusted.",
            .secret = true,
        },
    [CONFIG_SECRET_FILE] =
        {
            .name = "TALLY_SECRET_FILE",
            .type_text = "path",
            .preset = "",
            .doc = "A file that holds the secret, in place of TALLY_SECRET.",
        },
    [CONFIG_HOST_THREADS] =
        {
            .name = "TALLY_HOST_THREADS",
            .type = CONFIG_INTEGER,
            .type_text = "integer, 0: auto",
            .preset = "0",
            .doc = "Threads of the host device's loss, the caller's included. "
                   "auto: the processors of this process, divided by the "
                   "ranks of the host.",
            .minimum = 0,
            .maximum = 1024,
        },
    [CONFIG_HOST_ISA] =
        {
            .name = "TALLY_HOST_ISA",
            .type = CONFIG_CHOICE,
            .type_text = "auto|generic|avx2|avx512",
            .preset = "auto",
            .doc = "The instruction set of the host device. All give the same "
                   "bits.",
        },
    [CONFIG_RADIX] =
        {
            .name = "TALLY_RADIX",
            .type = CONFIG_INTEGER,
            .type_text = "integer, 0: auto",
            .preset = "0",
            .doc = "The radix of the all-reduce between nodes. auto: by the "
                   "cost model.",
            .minimum = 2,
            .maximum = 64,
            .zero = true,
            .job_wide = true,
        },
    [CONFIG_SPIN_US] =
        {
            .name = "TALLY_SPIN_US",
            .type = CONFIG_INTEGER,
            .type_text = "microseconds",
            .preset = "100",
            .doc = "How long a waiting thread spins before it yields the "
                   "processor; after 5 ms it sleeps. Where ranks outnumber "
                   "processors it yields at once.",
            .minimum = 0,
            .maximum = 1000000,
        },
    [CONFIG_STREAM_WAIT] =
        {
            .name = "TALLY_STREAM_WAIT",
            .type = CONFIG_CHOICE,
            .type_text = "kernel|memop|hostfunc",
            .preset = "kernel",
            .doc = "How a CUDA stream waits for a reduction. kernel: a kernel "
                   "polls, with a deadline. memop: a stream memory operation; "
                   "not for steps captured into a graph. hostfunc: a host "
                   "function, for debugging.",
        },
    [CONFIG_UCX_TLS] =
        {
            .name = "TALLY_UCX_TLS",
            .type_text = "list of UCX transports",
            .preset = "",
            .doc = "UCX_TLS for Tally's own worker: \"tcp\", \"rc,self\", ... "
                   "Empty: UCX's choice.",
        },
    [CONFIG_UCX_NET_DEVICES] =
        {
            .name = "TALLY_UCX_NET_DEVICES",
            .type_text = "list of devices",
            .preset = "",
            .doc = "UCX_NET_DEVICES for Tally's own worker: \"mlx5_0:1\", "
                   "\"eth0\", ... Empty: UCX's choice, and where that leads "
                   "nowhere, the interface of the rendezvous.",
        },
    [CONFIG_OFI_PROVIDER] =
        {
            .name = "TALLY_OFI_PROVIDER",
            .type_text = "name of a libfabric provider",
            .preset = "",
            .doc = "\"tcp;ofi_rxm\", \"shm\", ... Empty: the first that there "
                   "is of efa, cxi, verbs;ofi_rxm, psm3, tcp;ofi_rxm.",
            .job_wide = true,
        },
    [CONFIG_OFI_DOMAIN] =
        {
            .name = "TALLY_OFI_DOMAIN",
            .type_text = "interface or device",
            .preset = "",
            .doc = "The libfabric domain of Tally's endpoint: \"eth0\", "
                   "\"mlx5_0\", ... Empty: the provider's first, and where "
                   "that leads nowhere, the interface of the rendezvous.",
        },
    [CONFIG_NCCL_LIBRARY] =
        {
            .name = "TALLY_NCCL_LIBRARY",
            .type_text = "path",
            .preset = "",
            .doc = "The NCCL to load. Empty: libnccl.so.2, as the loader finds "
                   "it, or beside the header that Tally was built against. One "
                   "that the process has loaded already goes before all.",
        },
    [CONFIG_REPLICA] =
        {
            .name = "TALLY_REPLICA",
            .type = CONFIG_INTEGER,
            .type_text = "integer",
            .preset = "0",
            .doc = "The number of this replica group, from 0; of a witness, "
                   "from TALLY_REPLICAS on.",
            .minimum = 0,
            .maximum = 63,
            .job_wide = true,
        },
    [CONFIG_REPLICAS] =
        {
            .name = "TALLY_REPLICAS",
            .type = CONFIG_INTEGER,
            .type_text = "integer",
            .preset = "1",
            .doc = "How many replica groups there may be. All must come for "
                   "the job to begin.",
            .minimum = 1,
            .maximum = 64,
            .job_wide = true,
        },
    [CONFIG_WITNESSES] =
        {
            .name = "TALLY_WITNESSES",
            .type = CONFIG_INTEGER,
            .type_text = "integer",
            .preset = "0",
            .doc = "How many tally_witness processes vote beside the replica "
                   "groups: one for two groups.",
            .minimum = 0,
            .maximum = 8,
            .job_wide = true,
        },
    [CONFIG_REPLICA_MIN] =
        {
            .name = "TALLY_REPLICA_MIN",
            .type = CONFIG_INTEGER,
            .type_text = "integer",
            .preset = "1",
            .doc = "Replica groups that make a step. With fewer no step is "
                   "counted.",
            .minimum = 1,
            .maximum = 64,
            .job_wide = true,
        },
    [CONFIG_REPLICA_ACCEPTORS] =
        {
            .name = "TALLY_REPLICA_ACCEPTORS",
            .type = CONFIG_INTEGER,
            .type_text = "integer",
            .preset = "3",
            .doc = "At most so many replica groups and witnesses vote: an odd "
                   "number. 2f + 1 of them survive the loss of f at once.",
            .minimum = 1,
            .maximum = 9,
            .job_wide = true,
        },
    [CONFIG_REPLICA_FOLDER] =
        {
            .name = "TALLY_REPLICA_FOLDER",
            .type_text = "path",
            .preset = "",
            .doc = "A folder that all replica groups and witnesses see, empty "
                   "before the job: there they tell each other where they are "
                   "reached.",
            .job_wide = true,
        },
    [CONFIG_QUORUM] =
        {
            .name = "TALLY_QUORUM",
            .type_text = "folder|static|etcd|callback",
            .preset = "folder",
            .doc = "How replica groups and witnesses find each other. "
                   "folder: TALLY_REPLICA_FOLDER. static: "
                   "TALLY_QUORUM_LIST. etcd: TALLY_ETCD_ENDPOINTS. "
                   "callback: the trainer says.",
            .job_wide = true,
        },
    [CONFIG_QUORUM_LIST] =
        {
            .name = "TALLY_QUORUM_LIST",
            .type_text = "list of host:port",
            .preset = "",
            .doc = "With TALLY_QUORUM=static: where each replica group, "
                   "then each witness, listens, in the order of their "
                   "numbers. An IPv6 address stands in brackets.",
            .job_wide = true,
        },
    [CONFIG_ETCD_ENDPOINTS] =
        {
            .name = "TALLY_ETCD_ENDPOINTS",
            .type_text = "list of URLs",
            .preset = "http://127.0.0.1:2379",
            .doc = "With TALLY_QUORUM=etcd: members of the etcd cluster. "
                   "The next is asked where one does not answer.",
            .job_wide = true,
        },
    [CONFIG_ETCD_PREFIX] =
        {
            .name = "TALLY_ETCD_PREFIX",
            .type_text = "text",
            .preset = "/tally",
            .doc = "Before the job's name in etcd's keys.",
            .job_wide = true,
        },
    [CONFIG_ETCD_LEASE] =
        {
            .name = "TALLY_ETCD_LEASE",
            .type = CONFIG_INTEGER,
            .type_text = "seconds",
            .preset = "10",
            .doc = "How long etcd keeps the entry of a process that says "
                   "nothing. Whether it is alive is found out by "
                   "heartbeats, sooner.",
            .minimum = 2,
            .maximum = 3600,
            .job_wide = true,
        },
    [CONFIG_ETCD_CA] =
        {
            .name = "TALLY_ETCD_CA",
            .type_text = "path",
            .preset = "",
            .doc = "With https: a file of the certificates by which etcd "
                   "is known. Empty: the system's.",
        },
    [CONFIG_ETCD_CERT] =
        {
            .name = "TALLY_ETCD_CERT",
            .type_text = "path",
            .preset = "",
            .doc = "With https: this process's certificate, if etcd asks "
                   "for one.",
        },
    [CONFIG_ETCD_KEY] =
        {
            .name = "TALLY_ETCD_KEY",
            .type_text = "path",
            .preset = "",
            .doc = "The key of TALLY_ETCD_CERT.",
        },
    [CONFIG_RECORDER_FOLDER] =
        {
            .name = "TALLY_RECORDER_FOLDER",
            .type_text = "path",
            .preset = "",
            .doc = "A folder of this host for the flight recorder of "
                   "replica groups and witnesses: a socket for "
                   "tally_info --replicas, and what is written on "
                   "SIGUSR1 and on error. Empty: none.",
        },
    [CONFIG_REPLICA_TRANSPORT] =
        {
            .name = "TALLY_REPLICA_TRANSPORT",
            .type = CONFIG_CHOICE,
            .type_text = "auto|ucx|ofi",
            .preset = "auto",
            .doc = "How replica groups reach each other; the same at all. "
                   "auto: the first that opens.",
            .job_wide = true,
        },
    [CONFIG_REPLICA_DEADLINE] =
        {
            .name = "TALLY_REPLICA_DEADLINE",
            .type = CONFIG_SECONDS,
            .type_text = "seconds",
            .preset = "10",
            .doc = "How long a replica group waits for a decision before its "
                   "scale is a NaN and its status IN_DOUBT.",
            .job_wide = true,
        },
    [CONFIG_REPLICA_PATIENCE] =
        {
            .name = "TALLY_REPLICA_PATIENCE",
            .type = CONFIG_SECONDS,
            .type_text = "seconds",
            .preset = "2",
            .doc = "How long a replica group that is alive may come later than "
                   "the first with its count, before the others decide "
                   "without it. Below TALLY_REPLICA_DEADLINE.",
            .job_wide = true,
        },
    [CONFIG_REPLICA_GRADIENT_PATIENCE] =
        {
            .name = "TALLY_REPLICA_GRADIENT_PATIENCE",
            .type = CONFIG_SECONDS,
            .type_text = "seconds",
            .preset = "60",
            .doc = "How long after a count all gradients may take, before "
                   "those who are ready decide alone.",
            .job_wide = true,
        },
    [CONFIG_REPLICA_FORCE] =
        {
            .name = "TALLY_REPLICA_FORCE",
            .type = CONFIG_INTEGER,
            .type_text = "seconds, 0: never",
            .preset = "0",
            .doc =
                "Where too few are left to decide for so long, and the "
                "leases of those that are missing are over, those that are "
                "left go on without them, in a lineage that they force, with "
                "TALLY_QUORUM=etcd: doc/fault.md",
            .minimum = 1,
            .maximum = 604800,
            .zero = true,
            .job_wide = true,
        },
    [CONFIG_HEARTBEAT_US] =
        {
            .name = "TALLY_HEARTBEAT_US",
            .type = CONFIG_INTEGER,
            .type_text = "microseconds",
            .preset = "100000",
            .doc = "How often coordinators and witnesses say that they are "
                   "alive.",
            .minimum = 1000,
            .maximum = 60000000,
            .job_wide = true,
        },
    [CONFIG_HEARTBEAT_MISSES] =
        {
            .name = "TALLY_HEARTBEAT_MISSES",
            .type = CONFIG_INTEGER,
            .type_text = "integer",
            .preset = "3",
            .doc = "After so many heartbeats that did not come a process is "
                   "thought dead.",
            .minimum = 1,
            .maximum = 1000,
            .job_wide = true,
        },
    [CONFIG_LOG] =
        {
            .name = "TALLY_LOG",
            .type = CONFIG_CHOICE,
            .type_text = "error|warn|info|debug",
            .preset = "warn",
            .doc = "Which lines are written.",
        },
    [CONFIG_STRICT_ENV] =
        {
            .name = "TALLY_STRICT_ENV",
            .type = CONFIG_BOOL,
            .type_text = "0|1",
            .preset = "0",
            .doc = "An unknown TALLY_* variable is an error, not a warning.",
        },
};
