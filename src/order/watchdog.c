// SPDX-License-Identifier: BSD-3-Clause
// See watchdog.h. A communicator may learn late, or never, that a process of
// its node is gone: the rendezvous and the watch know better who went, and how.
#include "order/watchdog.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/error.h"
#include "kernels/slot.h"
#include "order/gone.h"

void watchdog_init(struct watchdog *watchdog,
                   const struct watchdog_params *params)
{
    *watchdog = (struct watchdog){.params = *params, .suspect = -1};
}

void watchdog_add_step(struct watchdog *watchdog, struct watchdog_step *step)
{
    step->next = watchdog->steps;
    watchdog->steps = step;
}

void watchdog_remove_step(struct watchdog *watchdog, struct watchdog_step *step)
{
    struct watchdog_step **at = &watchdog->steps;

    while (*at != step)
        at = &(*at)->next;
    *at = step->next;
}

// The kernels are told before anything wakes them.
static void end_all(struct watchdog *watchdog)
{
    const struct watchdog_params *params = &watchdog->params;

    for (struct watchdog_step *s = watchdog->steps; s != NULL; s = s->next)
        __atomic_store_n(&s->mirror->dead, 1, __ATOMIC_SEQ_CST);
    params->ops->group_abort(params->transport, params->group);
}

static void fail_group(struct watchdog *watchdog, tally_status_t status,
                       int32_t failed_rank, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void fail_group(struct watchdog *watchdog, tally_status_t status,
                       int32_t failed_rank, const char *format, ...)
{
    const struct watchdog_params *params = &watchdog->params;
    struct queue_fate *fate = params->fate;
    va_list arguments;

    fate->status = status;
    fate->failed_rank = failed_rank;
    va_start(arguments, format);
    vsnprintf(fate->sentence, sizeof(fate->sentence), format, arguments);
    va_end(arguments);
    core_log(params->log, TALLY_LOG_ERROR, "group \"%s\": %s",
             params->group_key, fate->sentence);
    end_all(watchdog);
}

// The first reduction of a step that has started and not finished; 0: none.
static uint64_t under_way(const struct watchdog_step *step)
{
    uint64_t finished =
        __atomic_load_n(&step->mirror->finished, __ATOMIC_SEQ_CST);
    uint64_t started =
        __atomic_load_n(&step->mirror->started, __ATOMIC_SEQ_CST);

    return started > finished ? finished + 1 : 0;
}

// Whether any is under way, and whether one is so for too long.
static bool look_at_steps(struct watchdog *watchdog, int64_t now_us, bool *late)
{
    bool any = false;

    *late = false;
    for (struct watchdog_step *s = watchdog->steps; s != NULL; s = s->next) {
        uint64_t current = under_way(s);
        if (current != 0 && current != s->seen)
            s->deadline_us = now_us + watchdog->params.timeout_us;
        s->seen = current;
        any = any || current != 0;
        *late = *late || (current != 0 && now_us >= s->deadline_us);
    }
    return any;
}

static void find_suspect(struct watchdog *watchdog)
{
    const struct watchdog_params *params = &watchdog->params;
    uint32_t version = health_version(params->health);

    if (version == watchdog->health_version)
        return;
    watchdog->health_version = version;
    for (int32_t i = 0; i < params->rank_count; i++) {
        int64_t since_us;
        if (health_rank(params->health, params->ranks[i], &since_us) ==
            HEALTH_PRESENT)
            continue;
        if (watchdog->suspect < 0 || since_us < watchdog->suspect_since_us) {
            watchdog->suspect = params->ranks[i];
            watchdog->suspect_since_us = since_us;
        }
    }
}

void watchdog_doubt(struct watchdog *watchdog, tally_status_t status,
                    const char *sentence, int64_t now_us)
{
    if (watchdog->broken != TALLY_OK)
        return;
    watchdog->broken = status;
    watchdog->broken_since_us = now_us;
    snprintf(watchdog->broken_sentence, sizeof(watchdog->broken_sentence), "%s",
             sentence);
}

static void ask_communicator(struct watchdog *watchdog, int64_t now_us)
{
    const struct watchdog_params *params = &watchdog->params;
    tally_status_t status =
        params->ops->group_poll(params->transport, params->group);

    if (status < 0)
        watchdog_doubt(watchdog, status, core_error_text(), now_us);
}

void watchdog_check(struct watchdog *watchdog, int64_t now_us)
{
    const struct watchdog_params *params = &watchdog->params;
    bool late;

    if (!look_at_steps(watchdog, now_us, &late))
        return;
    if (params->fate->status != TALLY_OK) {
        end_all(watchdog);
        return;
    }
    if (params->watch != NULL &&
        now_us - watchdog->watched_us > GONE_WATCH_INTERVAL_US) {
        watchdog->watched_us = now_us;
        watch_check(params->watch);
    }
    find_suspect(watchdog);
    ask_communicator(watchdog, now_us);
    if (watchdog->suspect >= 0 &&
        now_us >= watchdog->suspect_since_us + GONE_GRACE_US)
        fail_group(
            watchdog, TALLY_ERR_PEER, watchdog->suspect, "rank %d %s",
            (int)watchdog->suspect,
            gone_how(health_rank(params->health, watchdog->suspect, NULL)));
    else if (watchdog->broken != TALLY_OK &&
             now_us >= watchdog->broken_since_us + 2 * GONE_GRACE_US)
        fail_group(watchdog, watchdog->broken, -1, "%s",
                   watchdog->broken_sentence);
    else if (late)
        fail_group(watchdog, TALLY_ERR_TIMEOUT, -1,
                   "a reduction on the device timed out after %g s",
                   (double)params->timeout_us / 1e6);
}

void watchdog_fail(struct watchdog *watchdog, tally_status_t status,
                   const char *sentence)
{
    if (watchdog->params.fate->status == TALLY_OK)
        fail_group(watchdog, status, -1, "%s", sentence);
}
