// SPDX-License-Identifier: BSD-3-Clause
// What is done with the actions of the state machine, and how a loop begins and
// ends.
#include "replica/loop/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "replica/loop/record.h"

// Attempts to apply a step before it is discarded: as many replicas may be lost
// between a count and its gradients.
#define ATTEMPTS 4
// Between leaders: above a round trip and a thread that is woken.
#define STAGGER_US 20000
#define RETRY_US 50000
#define IDLE_US 250000

void loop_lock(struct replica_loop *loop)
{
    core_log_hold();
    pthread_mutex_lock(&loop->lock);
}

bool loop_try_lock(struct replica_loop *loop)
{
    if (pthread_mutex_trylock(&loop->lock) != 0)
        return false;
    core_log_hold();
    return true;
}

void loop_unlock(struct replica_loop *loop)
{
    pthread_mutex_unlock(&loop->lock);
    core_log_release();
}

void loop_wake(struct replica_loop *loop)
{
    const uint64_t one = 1;

    // It fails where it was woken 2^64 times.
    if (write(loop->wake_fd, &one, sizeof(one)) < 0)
        return;
}

// -------------------------------------------------------------------- actions

static void send(struct replica_loop *loop, const struct replica_action *action)
{
    void (*const how)(struct replica_peers *, uint16_t, const uint8_t *,
                      size_t) =
        action->later ? replica_peers_hold : replica_peers_send;

    // Ranks other than coordinators are not reached: nobody takes over.
    if (action->rank != 0)
        return;
    for (uint64_t rest = action->peers; rest != 0; rest &= rest - 1)
        how(loop->peers, (uint16_t)__builtin_ctzll(rest), action->bytes,
            action->length);
}

static void heed_report(struct replica_loop *loop,
                        const struct replica_action *action)
{
    const struct core_log *log = loop->params.log;
    const struct replica_position *at = &loop->node->at;
    unsigned self = loop->params.self.peer;

    record_report(loop, action->status);
    switch (action->status) {
    case REPLICA_STATUS_EPOCH:
        core_log(log, TALLY_LOG_INFO,
                 "replica %u: epoch %u of lineage %u, members 0x%llx, %u "
                 "acceptors",
                 self, (unsigned)at->epoch.number, (unsigned)at->epoch.lineage,
                 (unsigned long long)at->epoch.members,
                 (unsigned)at->epoch.acceptor_count);
        loop->stopped = false;
        loop->force.silent_us = 0;
        loop->counted = at->epoch.members;
        memset(loop->waited_us, 0, sizeof(loop->waited_us));
        break;
    case REPLICA_STATUS_FENCED:
        core_log(log, TALLY_LOG_WARN,
                 "replica %u: fenced: a newer start of it is there, or a rank "
                 "of it is gone, or others have forced a lineage without it; "
                 "start it again",
                 self);
        break;
    case REPLICA_STATUS_CONFLICT:
        core_log(log, TALLY_LOG_ERROR,
                 "replica %u: replicas 0x%llx have said two things about "
                 "index %llu",
                 self, (unsigned long long)action->peers,
                 (unsigned long long)action->instance.index);
        break;
    case REPLICA_STATUS_REFUSED:
        loop->refused++;
        core_log(log, TALLY_LOG_DEBUG, "replica %u: %llu messages were refused",
                 self, (unsigned long long)loop->refused);
        break;
    case REPLICA_STATUS_UNLISTED:
        core_log(log, TALLY_LOG_WARN,
                 "replica %u: of 0x%llx a later start is there; the lineage is "
                 "forced without",
                 self, (unsigned long long)action->peers);
        break;
    case REPLICA_STATUS_RETIRED:
        core_log(log, TALLY_LOG_INFO,
                 "replica %u: no acceptor any more; nothing needs its votes",
                 self);
        break;
    case REPLICA_STATUS_STOPPED:
        if (!loop->stopped)
            loop_say_stopped(loop, action->peers);
        loop->stopped = true;
        break;
    case REPLICA_STATUS_OPEN:
    case REPLICA_STATUS_LAGGING:
    case REPLICA_STATUS_WAITING:
    case REPLICA_STATUS_IN_DOUBT:
    case REPLICA_STATUS_ROLLED_BACK:
    case REPLICA_STATUS_SEALED:
        break; // the trainer is told when it asks
    }
}

static void carry_out(struct replica_loop *loop,
                      const struct replica_action *action)
{
    switch (action->kind) {
    case REPLICA_ACTION_SEND:
        send(loop, action);
        break;
    case REPLICA_ACTION_BROADCAST:
    case REPLICA_ACTION_APPLY:
        if (action->value->kind == REPLICA_COUNT)
            loop->counted = action->value->members;
        record_decision(loop, action);
        loop_told(loop, action);
        break;
    case REPLICA_ACTION_TIMER:
        loop->timer_us = action->at_us;
        break;
    case REPLICA_ACTION_REPORT:
        heed_report(loop, action);
        break;
    case REPLICA_ACTION_PROVIDER:
        loop_swap_lineage(loop, action->position);
        break;
    }
}

void loop_handle(struct replica_loop *loop, const struct replica_event *event)
{
    size_t count;

    loop->now_us = clock_now_us();
    const struct replica_action *actions =
        replica_handle(loop->node, event, loop->now_us, &count);
    for (size_t i = 0; i < count; i++)
        carry_out(loop, &actions[i]);
    replica_peers_flush(loop->peers);
}

static void receive(void *context, const uint8_t *bytes, size_t length)
{
    struct replica_loop *loop = context;
    struct replica_event event = {
        .kind = REPLICA_EVENT_MESSAGE, .bytes = bytes, .length = length};

    if (!loop_is_of_the_past(loop, bytes, length))
        loop_handle(loop, &event);
}

// ---------------------------------------------------------------- open, close

static tally_status_t open_node(struct replica_loop *loop)
{
    const struct replica_loop_params *params = &loop->params;
    struct replica_params node = {
        .self = params->self,
        .group = params->layout,
        .witness = params->witness,
        .records = params->records,
        .minimum = params->minimum,
        .attempts = ATTEMPTS,
        .decide_after_us = params->decide_after_us,
        .apply_after_us = params->apply_after_us,
        .stagger_us = STAGGER_US,
        .retry_us = RETRY_US,
        .idle_us = IDLE_US,
    };
    void *memory = malloc(replica_memory());

    if (memory == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a replica");
    for (uint16_t i = 0; i < params->replicas + params->witnesses; i++)
        if (i != params->self.peer)
            node.peers |= replica_bit(i);
    loop->node = replica_open(memory, &node);
    return TALLY_OK;
}

static tally_status_t open_peers(struct replica_loop *loop)
{
    const struct replica_loop_params *params = &loop->params;
    struct replica_peers_params peers = {
        .ops = params->ops,
        .transport = params->transport,
        .self = params->self,
        .count = (uint16_t)(params->replicas + params->witnesses),
        .layout = params->layout,
        .records = params->records,
        .heartbeat_us = params->heartbeat_us,
        .dead_after = params->dead_after,
        .log = params->log,
        .receive = receive,
        .context = loop,
    };
    uint8_t address[REPLICA_ADDRESS_BYTES_MAX];
    size_t bytes = sizeof(address);
    tally_status_t status = replica_peers_create(&peers, &loop->peers);

    if (status == TALLY_OK)
        status = replica_peers_address(loop->peers, address, &bytes);
    if (status == TALLY_OK)
        status = quorum_announce(params->quorum, address, bytes);
    return status;
}

tally_status_t replica_loop_start(const struct replica_loop_params *params,
                                  struct replica_loop **out)
{
    struct replica_loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a replica");
    loop->params = *params;
    loop->now_us = clock_now_us();
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->publication.changed, NULL);
    // Before the thread runs, whose callbacks look for it; and even if
    // something fails: the transport may hold receives.
    *out = loop;
    tally_status_t status = TALLY_OK;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0)
        status = core_fail(TALLY_ERR_SYSTEM, "no eventfd: %s", strerror(errno));
    if (!replica_ear_open(&loop->ear) && status == TALLY_OK)
        status = core_fail(TALLY_ERR_SYSTEM, "no epoll or timer: %s",
                           strerror(errno));
    if (status == TALLY_OK)
        status = open_node(loop);
    if (status == TALLY_OK)
        status = open_peers(loop);
    if (status == TALLY_OK)
        status = loop_start_thread(loop);
    return status;
}

void replica_loop_stop(struct replica_loop *loop)
{
    if (loop == NULL || !loop->thread.runs)
        return;
    atomic_store(&loop->stop, true);
    loop_wake(loop);
    park_join(&loop->thread);
}

void replica_loop_free(struct replica_loop *loop)
{
    if (loop == NULL)
        return;
    replica_peers_free(loop->peers);
    free(loop->node);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    replica_ear_close(&loop->ear);
    pthread_cond_destroy(&loop->publication.changed);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

void replica_loop_hint(struct replica_loop *loop, int32_t peer)
{
    if (peer < 0 || loop == NULL || loop->peers == NULL)
        return;
    replica_peers_hint(loop->peers, (uint16_t)peer);
    loop->check_us = 0;
}
