// SPDX-License-Identifier: BSD-3-Clause
// Opens a provider, and the thread that asks it.
#include "quorum/quorum.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/struct_check.h"
#include "quorum/object.h"

#define LOOK_INTERVAL_US 200000
#define ASK_AGAIN_US 100000
#define ASK_US 500000 // what an answer may take

static const char *host_setting(void *context, const char *name)
{
    const struct quorum *quorum = context;

    return quorum->params.setting(quorum->params.setting_context, name);
}

static void host_log(void *context, tally_log_level_t level, const char *line)
{
    const struct quorum *quorum = context;

    core_log(quorum->params.log, level, "%s", line);
}

static tally_status_t host_fail(void *context, tally_status_t status,
                                const char *sentence)
{
    (void)context;
    return core_fail(status, "%s", sentence);
}

uint64_t quorum_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static tally_status_t take_membership(struct quorum *quorum,
                                      const tally_membership_t *given)
{
    tally_status_t status;

    if (given == NULL)
        return TALLY_OK;
    status = struct_take("tally_membership", given, &quorum->membership,
                         sizeof(quorum->membership),
                         STRUCT_THROUGH(tally_membership_t, withdraw));
    quorum->params.membership = &quorum->membership;
    return status;
}

tally_status_t quorum_open(const struct quorum_params *params,
                           struct quorum **out)
{
    struct quorum *quorum = calloc(1, sizeof(*quorum));
    tally_status_t status;

    if (quorum == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for membership");
    quorum->params = *params;
    quorum->job = content_digest(params->job);
    quorum->host = (struct quorum_host){
        .context = quorum,
        .setting = host_setting,
        .log = host_log,
        .fail = host_fail,
        .seen = events_seen,
        .gone = events_gone,
        .fenced = events_fenced,
        .value = register_value,
        .force = events_force,
    };
    pthread_mutex_init(&quorum->lock, NULL);
    quorum->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    status =
        quorum->wake_fd >= 0
            ? take_membership(quorum, params->membership)
            : core_fail(TALLY_ERR_SYSTEM, "no eventfd: %s", strerror(errno));
    if (status == TALLY_OK)
        status = quorum_load(params->provider,
                             host_setting(quorum, "TALLY_PLUGIN_PATH"),
                             &quorum->ops, &quorum->library);
    if (status == TALLY_OK)
        status = quorum->ops->open(&quorum->host, &quorum->params,
                                   &quorum->provider);
    if (status != TALLY_OK) {
        quorum_close(quorum);
        return status;
    }
    *out = quorum;
    return TALLY_OK;
}

bool quorum_has_register(const struct quorum *quorum)
{
    return quorum->ops->has_register;
}

static void nap_us(int64_t us)
{
    const struct timespec time = {us / 1000000, us % 1000000 * 1000};

    nanosleep(&time, NULL);
}

tally_status_t quorum_incarnation(struct quorum *quorum, int64_t timeout_us,
                                  uint64_t *incarnation)
{
    int64_t deadline_us = clock_now_us() + timeout_us;
    tally_status_t status;

    for (;;) {
        int64_t left_ms = (deadline_us - clock_now_us()) / 1000 + 1;
        status = quorum->ops->incarnation(
            quorum->provider,
            left_ms < OBJECT_CALL_MS ? (int)left_ms : OBJECT_CALL_MS,
            &quorum->incarnation);
        if (status == TALLY_OK || status == TALLY_ERR_CONFIG)
            break;
        // One that has no time any more would only say that.
        if (clock_now_us() + ASK_AGAIN_US + ASK_US >= deadline_us)
            return core_fail_within(TALLY_ERR_TIMEOUT,
                                    "TALLY_QUORUM=%s gave no incarnation "
                                    "within %.1f s: ",
                                    quorum->ops->name,
                                    (double)timeout_us * 1e-6);
        nap_us(ASK_AGAIN_US);
    }
    if (status == TALLY_OK)
        *incarnation = quorum->incarnation;
    return status;
}

// --------------------------------------------------------------------- thread

static bool is_stopping(struct quorum *quorum)
{
    pthread_mutex_lock(&quorum->lock);
    bool stop = quorum->stop;
    pthread_mutex_unlock(&quorum->lock);
    return stop;
}

static void look(struct quorum *quorum)
{
    tally_status_t status = TALLY_OK;

    if (!quorum->is_announced) {
        status = quorum->ops->announce(quorum->provider, OBJECT_CALL_MS,
                                       &quorum->self);
        quorum->is_announced = status == TALLY_OK;
    }
    if (status == TALLY_OK)
        status = quorum->ops->watch(quorum->provider, OBJECT_CALL_MS);
    events_trouble(quorum, status);
}

// Until the time has come, or somebody has woken it.
static void wait_until(struct quorum *quorum, int64_t until_us)
{
    const struct quorum_provider_ops *ops = quorum->ops;
    struct pollfd fds[2] = {
        {.fd = quorum->wake_fd, .events = POLLIN},
        {.fd = ops->fd != NULL ? ops->fd(quorum->provider) : -1,
         .events = POLLIN},
    };
    uint64_t wakes;

    for (;;) {
        int64_t left_us = until_us - clock_now_us();
        if (left_us <= 0 || poll(fds, 2, (int)(left_us / 1000) + 1) < 0)
            return;
        if (fds[1].revents != 0)
            ops->serve(quorum->provider);
        if (fds[0].revents != 0) {
            if (read(quorum->wake_fd, &wakes, sizeof(wakes)) < 0)
                continue;
            return;
        }
    }
}

static void wake_thread(void *argument)
{
    const struct quorum *quorum = argument;
    const uint64_t one = 1;

    (void)!write(quorum->wake_fd, &one, sizeof(one));
}

static void *run(void *argument)
{
    struct quorum *quorum = argument;

    prctl(PR_SET_NAME, "tally-quorum");
    while (!is_stopping(quorum)) {
        int64_t next_us = clock_now_us() + LOOK_INTERVAL_US;

        register_serve(quorum);
        look(quorum);
        wait_until(quorum, next_us);
        park_here(&quorum->thread);
    }
    return NULL;
}

tally_status_t quorum_announce(struct quorum *quorum, const void *address,
                               size_t bytes)
{
    if (bytes > QUORUM_ADDRESS_MAX)
        return core_fail(TALLY_ERR_INVALID,
                         "an address has %zu bytes, at most %d are possible",
                         bytes, QUORUM_ADDRESS_MAX);
    memcpy(quorum->self_address, address, bytes);
    quorum->self = (struct quorum_member){
        quorum->params.peer, quorum->incarnation, quorum->self_address, bytes};
    int error = park_start(&quorum->thread, run, wake_thread, quorum);
    if (error != 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "cannot start the thread of membership: %s",
                         strerror(error));
    return TALLY_OK;
}

void quorum_close(struct quorum *quorum)
{
    if (quorum == NULL)
        return;
    pthread_mutex_lock(&quorum->lock);
    quorum->stop = true;
    pthread_mutex_unlock(&quorum->lock);
    wake_thread(quorum);
    park_join(&quorum->thread);
    if (quorum->provider != NULL)
        quorum->ops->close(quorum->provider, OBJECT_CALL_MS);
    if (quorum->library != NULL)
        dlclose(quorum->library);
    if (quorum->wake_fd >= 0)
        close(quorum->wake_fd);
    pthread_mutex_destroy(&quorum->lock);
    free(quorum);
}
