// SPDX-License-Identifier: BSD-3-Clause
// The invariants of doc/fault.md, by an observer that sees everything and whom
// nobody asks. Numbers in messages are those of the list there.
#include "sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void check_violated(struct world *world, const char *format, ...)
{
    va_list list;

    if (world->violation[0] != '\0')
        return;
    va_start(list, format);
    vsnprintf(world->violation, sizeof(world->violation), format, list);
    va_end(list);
    world_trace(world, "VIOLATION: %s", world->violation);
}

struct log_instance *check_log(struct world *world, uint32_t lineage,
                               struct replica_instance instance)
{
    struct log_instance **log;

    if (lineage >= SIM_LINEAGES || instance.index >= SIM_INDICES ||
        instance.attempt >= SIM_ATTEMPTS ||
        world->log_used == world->log_room) {
        check_violated(world, "the observer's log is too small");
        return NULL;
    }
    log = &world->logs[lineage][instance.index][instance.attempt];
    if (*log == NULL) {
        *log = &world->log_pool[world->log_used++];
        memset(*log, 0, sizeof(**log));
    }
    return *log;
}

struct sim_fingerprint check_fingerprint(const struct replica *node)
{
    struct sim_fingerprint print;

    memset(&print, 0, sizeof(print));
    print.next.index = node->at.next.index;
    print.next.attempt = node->at.next.attempt;
    print.previous = node->at.previous;
    print.held = node->table.held;
    print.own = node->own.digest;
    print.promised.round = node->promised.round;
    print.promised.leader.peer = node->promised.leader.peer;
    print.accepted.round = node->accepted.round;
    print.accepted.leader.peer = node->accepted.leader.peer;
    print.has_accepted = node->has_accepted;
    print.entered = node->entered;
    return print;
}

// Not the shipping code's: a mutant there must not blind its observer.
static int place_of(const struct replica_epoch *epoch, struct replica_name name)
{
    for (uint32_t i = 0; i < epoch->acceptor_count; i++)
        if (replica_name_equal(epoch->acceptors[i], name))
            return (int)i;
    return -1;
}

// f + 1 acceptors that the epoch names have voted for it in one ballot.
static void check_votes(struct world *world, const struct log_instance *log,
                        const struct replica_epoch *epoch, uint64_t digest,
                        uint64_t index)
{
    for (uint32_t i = 0; i < log->vote_count; i++) {
        const struct log_vote *first = &log->votes[i];
        uint32_t places = 0;
        for (uint32_t j = 0; j < log->vote_count; j++) {
            const struct log_vote *vote = &log->votes[j];
            int place = place_of(epoch, vote->name);
            if (place >= 0 && vote->digest == digest &&
                replica_ballot_compare(vote->ballot, first->ballot) == 0)
                places |= 1u << place;
        }
        if (__builtin_popcount(places) > (int)epoch->acceptor_count / 2) {
            world->tally.slow += first->ballot.round != 0;
            return;
        }
    }
    check_violated(world,
                   "index %lu is decided without f + 1 votes of its "
                   "epoch's acceptors",
                   index);
}

static void check_totals(struct world *world, uint32_t lineage,
                         const struct replica_kept *kept,
                         const struct replica_epoch *epoch)
{
    struct replica_instance counted = {kept->instance.index, 0};
    const struct log_instance *log = check_log(world, lineage, counted);
    struct numeric_record sum[SIM_RECORDS];

    memset(sum, 0, sizeof(sum));
    for (uint64_t rest = kept->value.members; rest != 0 && log != NULL;
         rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        const struct log_entry *entry = &log->entries[peer];
        if ((log->entered & replica_bit(peer)) == 0 ||
            (epoch->members & replica_bit(peer)) == 0 ||
            entry->incarnation != epoch->incarnations[peer]) {
            check_violated(world,
                           "p%u is counted in index %lu without a "
                           "contribution of its incarnation (2)",
                           peer, counted.index);
            return;
        }
        for (uint32_t i = 0; i < world->config->records; i++)
            numeric_record_add(&sum[i], &entry->records[i]);
    }
    for (uint32_t i = 0; i < world->config->records; i++)
        numeric_record_fold(&sum[i]);
    if (memcmp(sum, kept->value.totals,
               world->config->records * sizeof(sum[0])) != 0)
        check_violated(world, "totals of index %lu are not the sum (4)",
                       counted.index);
}

static void check_next(struct world *world, uint16_t process,
                       const struct replica_kept *kept,
                       const struct replica_epoch *before)
{
    const struct replica_epoch *next = &kept->value.next;
    uint64_t group = world->processes[process].node->at.group.digest;

    for (uint64_t rest = next->members; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        bool ready = false;
        if ((before->members & replica_bit(peer)) != 0 &&
            before->incarnations[peer] == next->incarnations[peer])
            continue;
        for (uint32_t i = 0; i < 64; i++)
            if (world->joins[peer][i].incarnation == next->incarnations[peer] &&
                world->joins[peer][i].digest == group)
                ready = true;
        if (!ready)
            check_violated(world,
                           "an epoch after index %lu names p%u, which "
                           "did not hold its state",
                           kept->instance.index, peer);
    }
}

// The first that was seen of an epoch: as it was decided.
static void check_epoch(struct world *world, const struct replica_epoch *epoch)
{
    struct replica_epoch *seen;

    if (epoch->lineage >= SIM_LINEAGES || epoch->number >= SIM_EPOCHS) {
        check_violated(world, "the observer's log is too small");
        return;
    }
    seen = &world->epochs[epoch->lineage][epoch->number];
    if (!world->epoch_seen[epoch->lineage][epoch->number])
        *seen = *epoch;
    else if (!replica_epoch_same(seen, epoch))
        check_violated(world, "two epochs of one number");
    world->epoch_seen[epoch->lineage][epoch->number] = true;
}

static void check_decided(struct world *world, uint16_t process,
                          uint32_t lineage, const struct replica_kept *kept)
{
    struct log_instance *log = check_log(world, lineage, kept->instance);
    const struct replica_epoch *epoch = &world->epochs[lineage][kept->epoch];
    uint64_t index = kept->instance.index;

    if (log == NULL)
        return;
    if (log->decided) {
        if (log->digest != kept->value.digest)
            check_violated(world, "two values of index %lu.%u (1, 9)", index,
                           kept->instance.attempt);
        if (log->epoch != kept->epoch)
            check_violated(world, "index %lu in two epochs (5)", index);
        return;
    }
    log->decided = true;
    log->epoch = kept->epoch;
    log->kind = kept->value.kind;
    log->members = kept->value.members;
    log->digest = kept->value.digest;
    world->tally.decided[kept->value.kind]++;
    world->tally.epochs += kept->value.has_next;
    world_trace(world, "decided: %lu.%u kind %u members %lx%s", index,
                kept->instance.attempt, log->kind, log->members,
                kept->value.has_next ? " and an epoch" : "");
    if (lineage == world->register_.epoch.lineage) {
        world->progressed_at = world->now;
        if (index > world->furthest)
            world->furthest = index;
    }
    check_votes(world, log, epoch, log->digest, index);
    check_totals(world, lineage, kept, epoch);
    if (kept->value.has_next) {
        check_next(world, process, kept, epoch);
        check_epoch(world, &kept->value.next);
    }
}

void check_node(struct world *world, uint16_t process,
                const struct sim_fingerprint *stale)
{
    struct process *of = &world->processes[process];
    const struct replica *node = of->node;
    uint32_t lineage = node->at.epoch.lineage;

    if (!node->forcing)
        of->forces_since = -1;
    else if (of->forces_since < 0)
        of->forces_since = world->now;
    if (!node->located)
        return;
    if (stale != NULL) {
        struct sim_fingerprint now = check_fingerprint(node);
        if (memcmp(&now, stale, sizeof(now)) != 0)
            check_violated(world, "a stale message changed p%u (9)", process);
    }
    if (of->lineage_seen != lineage || node->kept_count < of->kept_seen)
        of->kept_seen = 0;
    of->lineage_seen = lineage;
    if (of->kept_seen + REPLICA_KEPT < node->kept_count)
        of->kept_seen = node->kept_count - REPLICA_KEPT;
    for (; of->kept_seen < node->kept_count; of->kept_seen++)
        check_decided(world, process, lineage,
                      &node->kept[of->kept_seen % REPLICA_KEPT]);
    check_epoch(world, &node->at.epoch);
}

static bool is_listed(const struct replica_epoch *list,
                      struct replica_name name)
{
    return place_of(list, name) >= 0 ||
           ((list->members & replica_bit(name.peer)) != 0 &&
            list->incarnations[name.peer] == name.incarnation);
}

// Whoever the register lists has sealed what came before.
static void check_sealed(struct world *world, const struct process *of,
                         uint32_t lineage, const char *does)
{
    if (lineage < world->register_.epoch.lineage && of->name.rank == 0 &&
        is_listed(&world->register_.epoch, of->name))
        check_violated(world, "p%u %s in a lineage that it had sealed",
                       of->name.peer, does);
}

static void check_entry(struct world *world,
                        const struct replica_message *message)
{
    const struct replica_entry *entry = &message->entry;
    struct replica_instance counted = {message->instance.index, 0};
    struct log_instance *log = check_log(world, message->lineage, counted);
    uint16_t peer = entry->replica;
    struct log_entry *logged;

    if (log == NULL || message->from.peer != peer)
        return;
    if (message->from.rank != 0) {
        check_violated(world, "who took over from p%u contributes", peer);
        return;
    }
    logged = &log->entries[peer];
    if ((log->entered & replica_bit(peer)) == 0 ||
        logged->incarnation != entry->incarnation) {
        log->entered |= replica_bit(peer);
        logged->incarnation = entry->incarnation;
        logged->epoch = message->epoch;
        memcpy(logged->records, entry->records, sizeof(logged->records));
    } else if (memcmp(logged->records, entry->records,
                      world->config->records * sizeof(entry->records[0])) !=
               0) {
        check_violated(world, "p%u contributes twice to index %lu", peer,
                       counted.index);
    }
    if (entry->vote != REPLICA_READY)
        return;
    const struct shards *shards = &world->shards[peer];
    struct replica_instance asked = {message->instance.index,
                                     message->instance.attempt - 1};
    const struct log_instance *of_set =
        check_log(world, message->lineage, asked);
    for (uint16_t r = 0; r < world->config->ranks; r++)
        if (shards->ranks[r].alive &&
            (shards->ranks[r].index != counted.index ||
             !shards->ranks[r].has_scale || shards->ranks[r].handed != 1))
            check_violated(world,
                           "p%u is ready for index %lu, of which rank "
                           "%u has no scale (3, 6)",
                           peer, counted.index, r);
    if (!shards->has_gradient || of_set == NULL ||
        shards->gradient != of_set->digest ||
        shards->gradient_members != of_set->members)
        check_violated(world, "p%u is ready without the gradient (7)", peer);
}

static void log_vote(struct world *world, const struct replica_message *message)
{
    struct log_instance *log =
        check_log(world, message->lineage, message->instance);
    struct log_vote vote = {message->ballot, message->from,
                            message->value.digest};

    if (log == NULL)
        return;
    for (uint32_t i = 0; i < log->vote_count; i++)
        if (replica_name_equal(log->votes[i].name, vote.name) &&
            replica_ballot_compare(log->votes[i].ballot, vote.ballot) == 0 &&
            log->votes[i].digest == vote.digest)
            return;
    if (log->vote_count < sizeof(log->votes) / sizeof(log->votes[0]))
        log->votes[log->vote_count++] = vote;
}

void check_sent(struct world *world, uint16_t process,
                const struct replica_message *message)
{
    const struct process *of = &world->processes[process];

    switch (message->kind) {
    case REPLICA_ENTRY:
        check_sealed(world, of, message->lineage, "contributes");
        check_entry(world, message);
        break;
    case REPLICA_VOTE:
        check_sealed(world, of, message->lineage, "votes");
        log_vote(world, message);
        break;
    case REPLICA_PROMISE:
        check_sealed(world, of, message->lineage, "promises");
        break;
    case REPLICA_JOIN: {
        struct log_join *join =
            &world->joins[process][world->join_count[process]++ % 64];
        join->incarnation = message->from.incarnation;
        join->digest = message->state.digest;
        break;
    }
    default:
        break;
    }
}

void check_handed(struct world *world, uint16_t peer, uint16_t r, bool scale)
{
    struct rank *rank = &world->shards[peer].ranks[r];
    struct replica_instance counted = {rank->index, 0};
    const struct log_instance *log = check_log(world, rank->lineage, counted);

    rank->has_scale = rank->handed == 0 && scale;
    rank->handed++;
    if (rank->handed > 1)
        check_violated(world,
                       "p%u.%u hands its device two values for index "
                       "%lu (6)",
                       peer, r, rank->index);
    if (scale && log != NULL &&
        (!log->decided || log->digest != rank->digest ||
         log->kind != REPLICA_COUNT || (log->members & replica_bit(peer)) == 0))
        check_violated(world, "p%u.%u releases what is not decided (3, 6)",
                       peer, r);
}

void check_applied(struct world *world, uint16_t process,
                   const struct replica_action *action)
{
    const struct process *of = &world->processes[process];
    uint32_t lineage = action->position->epoch.lineage;
    const struct log_instance *log =
        check_log(world, lineage, action->instance);

    check_sealed(world, of, lineage, "applies");
    if (of->fenced)
        check_violated(world, "p%u applies after it was fenced (6)", process);
    if (log != NULL && (!log->decided || log->kind != REPLICA_APPLY ||
                        log->digest != action->value->digest ||
                        (log->members & replica_bit(process)) == 0))
        check_violated(world, "p%u applies index %lu undecided (7)", process,
                       action->instance.index);
}

// Something is decided in an epoch that does not name it.
void check_retired(struct world *world, uint16_t process)
{
    const struct process *of = &world->processes[process];
    const struct replica *node = of->node;
    uint32_t lineage = node->at.epoch.lineage;
    const struct replica_kept *last =
        &node->kept[(node->kept_count - 1) % REPLICA_KEPT];
    const struct log_instance *log = check_log(world, lineage, last->instance);

    if (log == NULL || !log->decided ||
        place_of(&world->epochs[lineage][log->epoch], of->name) >= 0)
        check_violated(world, "p%u retires while its votes may be asked for",
                       process);
}

// The base is the highest frontier of those that the register lists.
void check_registered(struct world *world)
{
    const struct replica_position *base = &world->register_;

    for (uint64_t rest = base->epoch.members; rest != 0; rest &= rest - 1) {
        uint16_t peer = (uint16_t)__builtin_ctzll(rest);
        const struct process *of = &world->processes[peer];
        if (of->alive &&
            of->name.incarnation == base->epoch.incarnations[peer] &&
            of->state.index > base->group.index)
            check_violated(world,
                           "p%u is past the base of the lineage that "
                           "it survives into",
                           peer);
    }
}
