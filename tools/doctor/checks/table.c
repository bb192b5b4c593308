// SPDX-License-Identifier: BSD-3-Clause
// The table of checks, in the order they are shown.
#include "doctor/checks/checks.h"

#define ALONE(kind_) .run = checks_kind, .kind = kind_

const struct check checks_table[] = {
    {
        .id = "env.refused",
        .severity = SEVERITY_FAIL,
        ALONE(FACTS_REFUSED),
        .why = "Tally does not open with a value that it does not take.",
        .fix = "Correct or unset the variable; tally(7) and tally_info -c "
               "describe each.",
    },
    {
        .id = "env.unknown",
        .severity = SEVERITY_WARN,
        ALONE(FACTS_UNKNOWN),
        .why = "Nothing reads the variable, so what it was meant to set is "
               "not set.",
        .fix = "Rename or unset it; TALLY_STRICT_ENV=1 makes it an error.",
    },
    {
        .id = "env.launchers",
        .severity = SEVERITY_WARN,
        ALONE(FACTS_LAUNCHERS),
        .why = "Variables of one launcher hide those of another. If they are "
               "left over from a shell, ranks take each other's place or run "
               "alone.",
        .fix = "Unset those of the launcher that does not start the ranks, or "
               "set TALLY_RANK and TALLY_WORLD_SIZE, which come first.",
    },
    {
        .id = "env.libraries",
        .severity = SEVERITY_WARN,
        ALONE(FACTS_FOREIGN),
        .why = "UCX and libfabric read these variables in Tally's workers "
               "too. What is meant for another library may leave Tally "
               "without a way.",
        .fix = "Nothing, if it is meant so. Otherwise unset it, or override it "
               "with TALLY_UCX_TLS, TALLY_UCX_NET_DEVICES, TALLY_OFI_PROVIDER "
               "or TALLY_OFI_DOMAIN.",
    },
    {
        .id = "env.settings",
        .severity = SEVERITY_FAIL,
        .run = checks_settings,
        .why = "Ranks must agree on these; tally_open refuses the job "
               "otherwise.",
        .fix = "Set it for all ranks: export it on every host, mpirun -x NAME, "
               "srun --export=ALL.",
    },
    {
        .id = "meet.identity",
        .severity = SEVERITY_FAIL,
        ALONE(FACTS_IDENTITY),
        .why = "A rank must know its number, how many there are, and where "
               "rank 0 is.",
        .fix = "Start the ranks with torchrun, srun, mpirun or tally_run, or "
               "set TALLY_RANK, TALLY_WORLD_SIZE and TALLY_ROOT=host:port.",
    },
    {
        .id = "meet.root",
        .severity = SEVERITY_FAIL,
        ALONE(FACTS_ROOT),
        .why = "All ranks first connect to rank 0, over TCP.",
        .fix = "Let TALLY_ROOT (MASTER_ADDR under torchrun) name the host that "
               "rank 0 runs on, by a name that every host knows, with a port "
               "that no firewall closes; see that rank 0 has started.",
    },
    {
        .id = "meet.ranks",
        .severity = SEVERITY_FAIL,
        .run = checks_meeting,
        .why = "The ranks must all come, and be of one job. What is below is "
               "what this rank knows without the others.",
        .fix = "Look at the ranks that are named: did the launcher start them, "
               "did they end early, do they have the same TALLY_ROOT, "
               "TALLY_JOB and TALLY_SECRET, can their hosts reach the root "
               "over TCP? Each rank prints what it finds by itself.",
    },
    {
        .id = "meet.absent",
        .severity = SEVERITY_FAIL,
        .run = checks_absent,
        .why = "The rank was stopped, died or was cut off while the doctor "
               "ran; the other checks leave it out.",
        .fix = "Look at its host: memory (was it killed for lack of it?), "
               "load, the network.",
    },
    {
        .id = "limit.shm",
        .severity = SEVERITY_FAIL,
        ALONE(FACTS_SHM),
        .why = "Ranks of one host reduce in /dev/shm. UCX and libfabric use it "
               "too, and trainers for their data.",
        .fix = "In containers: docker run --shm-size=1g, or an emptyDir of "
               "medium Memory at /dev/shm. Elsewhere: mount -o "
               "remount,rw,size=50% /dev/shm; remove /dev/shm/tally.* of jobs "
               "that are gone. TALLY_NODE_SHM=0 does without.",
    },
    {
        .id = "limit.files",
        .severity = SEVERITY_WARN,
        ALONE(FACTS_FILES),
        .why = "Rank 0 hears every other rank once, each rank keeps up to 32 "
               "connections, and a backend some for each partner. With too "
               "few, ranks come up slowly, or a backend does not open.",
        .fix = "ulimit -n 65536, nofile in /etc/security/limits.conf, "
               "LimitNOFILE= of the service that starts jobs, or docker run "
               "--ulimit nofile=65536.",
    },
    {
        .id = "limit.memlock",
        .severity = SEVERITY_WARN,
        ALONE(FACTS_MEMLOCK),
        .why = "RDMA devices read and write memory that is locked. With too "
               "little of it UCX and libfabric do without the device, or do "
               "not open.",
        .fix = "ulimit -l unlimited, memlock in /etc/security/limits.conf, "
               "LimitMEMLOCK=infinity of the service that starts jobs, or "
               "docker run --ulimit memlock=-1.",
    },
    {
        .id = "device.network",
        .severity = SEVERITY_FAIL,
        ALONE(FACTS_NETWORK),
        .why = "Ranks on other hosts cannot be reached.",
        .fix = "Bring an interface up (ip link), or give the container one: "
               "docker run --network=host.",
    },
    {
        .id = "device.gpu",
        .severity = SEVERITY_WARN,
        ALONE(FACTS_GPU),
        .why = "The host has GPUs that this process cannot use.",
        .fix = "Start the container with its GPUs (docker run --gpus all), "
               "correct CUDA_VISIBLE_DEVICES, or see what nvidia-smi says.",
    },
    {
        .id = "version.equal",
        .severity = SEVERITY_WARN,
        .run = checks_versions,
        .why = "Tally refuses ranks of other versions of itself; libraries of "
               "other versions may talk to each other, and often do not.",
        .fix = "Install the same on every host, or start the job from one "
               "image.",
    },
    {
        .id = "node.shared",
        .severity = SEVERITY_WARN,
        .run = checks_nodes,
        .why = "These ranks reduce over the transport although they are on one "
               "host, which is some ten times slower.",
        .fix = "Containers of one job: docker run --ipc=host, or one /dev/shm "
               "mounted in all of them. Otherwise unset TALLY_NODE and "
               "TALLY_NODE_SHM, and start the ranks as one user.",
    },
    {
        .id = "transport.named",
        .severity = SEVERITY_FAIL,
        ALONE(FACTS_TRANSPORT),
        .why = "Where TALLY_TRANSPORT names transports, without auto or shm "
               "among them, one of them must load, or tally_open fails.",
        .fix = "Correct TALLY_TRANSPORT, let TALLY_PLUGIN_PATH lead to the "
               "backend's file, or install its library; tally_info -t says "
               "what each lacks.",
    },
    {
        .id = "transport.backends",
        .severity = SEVERITY_WARN,
        .run = checks_backends,
        .why = "A transport is used only if all ranks can use it.",
        .fix = "Install its library and libtally-NAME.so at these ranks too, "
               "set TALLY_PLUGIN_PATH alike everywhere, or name another in "
               "TALLY_TRANSPORT.",
    },
    {
        .id = "transport.common",
        .severity = SEVERITY_FAIL,
        .run = checks_transport,
        .why = "The ranks are on several nodes, and no transport is usable at "
               "all of them.",
        .fix = "Install UCX or libfabric at all ranks; tally_info -t says what "
               "each lacks.",
    },
    {
        .id = "way.reach",
        .severity = SEVERITY_FAIL,
        .run = checks_reach,
        .why = "Messages between these ranks do not arrive: a reduction in "
               "which they are partners ends by its deadline.",
        .fix = "Compare their devices below. Restrict both to interfaces of "
               "one network (TALLY_UCX_NET_DEVICES, TALLY_OFI_DOMAIN), to a "
               "transport that both have (TALLY_UCX_TLS, TALLY_OFI_PROVIDER), "
               "and open the firewall between the hosts to all TCP ports.",
    },
    {
        .id = "way.interface",
        .severity = SEVERITY_WARN,
        .run = checks_interface,
        .why = "Tally finds the way by itself, by the interfaces over which "
               "the ranks found each other; but each group that is made tries "
               "the other first, and may wait for it.",
        .fix = "Name the interface at each rank: TALLY_UCX_NET_DEVICES for "
               "ucx, TALLY_OFI_DOMAIN for ofi.",
    },
    {
        .id = "way.slow",
        .severity = SEVERITY_WARN,
        .run = checks_slow,
        .why = "A reduction is as slow as the slowest pair in it.",
        .fix = "Look for what the ranks named have in common: a host, a "
               "switch, a link that negotiated a lower speed, another "
               "interface than the rest, a busy processor.",
    },
    {
        .id = "clock.skew",
        .severity = SEVERITY_WARN,
        .run = checks_clocks,
        .why = "Tally's deadlines do not depend on it, but logs of different "
               "hosts cannot be laid side by side.",
        .fix = "Run chrony or another NTP client on every host.",
    },
};

const size_t checks_count = sizeof(checks_table) / sizeof(checks_table[0]);

void checks_run(const struct job *job, struct findings *out)
{
    for (size_t i = 0; i < checks_count; i++)
        checks_table[i].run(&checks_table[i], job, out);
}
