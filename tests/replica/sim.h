// SPDX-License-Identifier: BSD-3-Clause
// The shipping state machine of src/replica under a seeded virtual network and
// clock: a job of replicas, ranks and witnesses, a quorum provider and a toy
// model of parameters. One seed, one run; nothing here reads a clock.
//
//   run.c       configurations and faults from a seed; a run; shrinking
//   time.c      what happens next, and chance
//   network.c   messages
//   world.c     processes, and what is done with actions
//   trainer.c   ranks, gradients, the model, restoring it
//   provider.c  leases, proposals, the register of lineages, the operator
//   checks.c    the invariants, after every event
//   progress.c  the one of them that is about the end
#ifndef REPLICA_SIM_H
#define REPLICA_SIM_H

#include <stdio.h>

#include "harness/random.h"
#include "replica/node.h"
#include "replica/rank.h"

#define SIM_PEERS 17 // 16 replicas and a witness
#define SIM_RANKS 8
#define SIM_RECORDS 3
#define SIM_LINEAGES 8
#define SIM_INDICES 1024
#define SIM_ATTEMPTS 8
#define SIM_EPOCHS 128
#define SIM_FAULTS 24
#define SIM_NOBODY 0xffff

enum fault_kind {
    FAULT_CRASH,      // of a coordinator or witness, amid its actions
    FAULT_RANK_CRASH, // of another rank
    FAULT_STOP,       // and continue
    FAULT_RANK_STOP,
    FAULT_CUT,     // one way
    FAULT_ISOLATE, // both ways, from all
    FAULT_SLOW,
    FAULT_LOSS,    // a period of heavy loss, duplication and delay
    FAULT_CLOCK,   // jumps forward
    FAULT_SUSPECT, // falsely
    FAULT_LEASE,   // expires falsely
    FAULT_FORCE,   // a lineage is forced though it may live
    FAULT_VETO,    // the trainer votes no
    FAULT_KINDS
};

struct fault {
    int64_t at;
    enum fault_kind kind;
    uint16_t peer;
    uint16_t other; // peer or rank
    int64_t length;
    uint32_t detail;
    bool off; // by the shrinker
};

// Seeds from here on are of duels: few acceptors, leaders that meet.
#define SIM_DUELS (UINT64_C(1) << 32)

struct config {
    uint64_t seed;
    uint16_t replicas;
    uint16_t ranks;
    bool witness;
    bool hasty;    // leaders start early and meet, and much is lost
    bool provider; // proposes and registers; else membership is static
    uint32_t acceptors;
    uint32_t records;
    uint32_t minimum;
    uint32_t loss_ppm;
    uint32_t duplicate_ppm;
    int64_t delay_us;
    int64_t jitter_us;
    int32_t drift_ppm;
    int64_t heal_at;
    int64_t end_at;
    size_t fault_count;
    struct fault faults[SIM_FAULTS];
};

// What can happen.
enum happening_kind {
    HAPPENS_MESSAGE,
    HAPPENS_TIMER,
    HAPPENS_STEP,      // labels are counted: contribute
    HAPPENS_BROADCAST, // reaches a rank
    HAPPENS_ACKNOWLEDGED,
    HAPPENS_DEADLINE, // of a rank's slot
    HAPPENS_GRADIENT, // ready, or `failed`
    HAPPENS_RESTORED,
    HAPPENS_FAULT,
    HAPPENS_DIES,
    HAPPENS_RANK_LOST,
    HAPPENS_TAKEOVER,
    HAPPENS_RESTART,
    HAPPENS_PROPOSAL,
    HAPPENS_LINEAGE,
    HAPPENS_REGISTER, // a compare-and-swap reaches the provider
    HAPPENS_ASK,
    HAPPENS_TICK, // of detectors, provider and operator
    HAPPENS_HEAL,
    HAPPENS_JUDGE, // whether it must make progress from here
};

struct happening {
    int64_t at;
    uint64_t order;
    enum happening_kind kind;
    uint16_t process; // peer, + SIM_PEERS for what took over
    uint16_t rank;
    uint32_t generation; // of the process or replica it was meant for
    bool failed;
    struct replica_instance instance;
    uint32_t lineage;
    uint64_t decision;
    size_t length;
    void *bytes; // owned
};

struct process {
    bool alive;
    bool waits_restart;
    struct replica *node;
    struct replica_name name;
    uint32_t generation;
    int64_t stopped_until;
    int64_t slow_until;
    int64_t clock_offset;
    int32_t drift_ppm;
    uint64_t suspects;
    bool crash_armed;
    uint32_t crash_after;
    bool fenced;
    size_t kept_seen;
    uint32_t lineage_seen;
    uint64_t params; // the toy model
    struct replica_state state;
    bool restoring;
    bool veto;
    int64_t forces_since; // a lineage; -1: it does not
};

struct rank {
    bool alive;
    int64_t stopped_until;
    struct replica_slot slot;
    uint64_t index;   // of its slot
    uint64_t digest;  // of the COUNT that it holds for it
    uint32_t handed;  // values given to the device for it
    bool has_scale;   // the first of them was a scale
    uint32_t lineage; // of its slot
};

// A shard mesh.
struct shards {
    struct rank ranks[SIM_RANKS];
    uint32_t generation;   // of the incarnation
    uint64_t acknowledged; // decision
    uint32_t acknowledged_count;
    bool scaled;
    bool has_gradient;
    uint64_t gradient; // decision
    uint64_t gradient_members;
    uint64_t gradient_sum;
    bool has_known;
    struct replica_position known; // to who would take over
};

struct log_vote {
    struct replica_ballot ballot;
    struct replica_name name;
    uint64_t digest;
};

struct log_entry {
    uint64_t incarnation;
    uint32_t epoch;
    uint64_t digest;
    struct numeric_record records[SIM_RECORDS];
};

// All that was seen of one decision.
struct log_instance {
    bool decided;
    uint32_t epoch;
    uint8_t kind;
    uint64_t members;
    uint64_t digest;
    uint32_t vote_count;
    struct log_vote votes[96];
    uint64_t entered; // by peers
    struct log_entry entries[SIM_PEERS];
    bool has_params;
    uint64_t params;
    // The gradient's reduction.
    uint64_t reducing;
    uint64_t gradients[SIM_PEERS];
};

struct log_join {
    uint64_t incarnation;
    uint64_t digest;
};

struct tally_of_run {
    uint64_t events;
    uint64_t messages;
    uint64_t decided[6]; // by kind
    uint64_t slow;       // decided above round 0
    uint64_t epochs;
    uint64_t lineages;
    uint64_t applied;
    uint64_t expired;
    uint64_t takeovers;
    uint64_t restores;
    uint64_t judged; // had to make progress
    uint64_t faults[FAULT_KINDS];
};

struct world {
    const struct config *config;
    struct random random;
    FILE *trace;
    int64_t now;
    uint64_t order;
    struct happening *heap;
    size_t heap_count, heap_room;

    uint16_t peers; // replicas and the witness
    struct process processes[2 * SIM_PEERS];
    struct shards shards[SIM_PEERS];
    int64_t cut_until[SIM_PEERS][SIM_PEERS];
    int64_t loss_until;
    bool healed;
    bool two_digests; // for one key, are on their way on purpose

    // The provider.
    uint64_t revision;
    struct replica_epoch proposal;
    struct replica_position register_;
    int64_t lease_lost_until[SIM_PEERS];
    int64_t suspected_until[SIM_PEERS];
    int64_t progressed_at;

    bool epoch_seen[SIM_LINEAGES][SIM_EPOCHS];
    struct replica_epoch epochs[SIM_LINEAGES][SIM_EPOCHS];
    struct log_instance *logs[SIM_LINEAGES][SIM_INDICES][SIM_ATTEMPTS];
    struct log_instance *log_pool;
    size_t log_used, log_room;
    struct log_join joins[SIM_PEERS][64];
    uint32_t join_count[SIM_PEERS];
    uint64_t furthest; // index decided, in the newest lineage
    uint64_t furthest_judged;
    bool must_progress;

    char violation[256];
    struct tally_of_run tally;
};

// run.c
void config_from_seed(uint64_t seed, struct config *config);
// Returns false if an invariant broke: world->violation says which.
bool run(struct world *world, const struct config *config, FILE *trace);
void shrink(struct world *world, struct config *config);
void config_print(const struct config *config, FILE *out);
const char *fault_name(enum fault_kind kind);
struct world *world_create(void);
void world_destroy(struct world *world);

// time.c
struct happening *world_schedule(struct world *world, int64_t after,
                                 enum happening_kind kind, uint16_t process);
struct happening *world_push(struct world *world,
                             const struct happening *happening);
bool world_take(struct world *world, struct happening *out);
int64_t world_between(struct world *world, int64_t least, int64_t most);
bool world_chance(struct world *world, uint32_t ppm);

// network.c
bool world_reaches(const struct world *world, uint16_t from, uint16_t to);
void network_send(struct world *world, uint16_t from,
                  const struct replica_action *action);
void network_deliver(struct world *world, struct happening *happening);

// world.c
void world_trace(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void world_handle(struct world *world, uint16_t process,
                  const struct replica_event *event);
void world_start(struct world *world, uint16_t peer,
                 const struct replica_position *position);
void world_kill(struct world *world, uint16_t process);
void world_restart_later(struct world *world, uint16_t peer, int64_t after);
void world_happens(struct world *world, struct happening *happening);
void world_rearm(struct world *world, uint16_t process);
struct replica_position world_initial(const struct world *world);

// trainer.c
void trainer_begin(struct world *world, uint16_t peer);
void trainer_step_later(struct world *world, uint16_t process);
void trainer_step(struct world *world, uint16_t process);
void trainer_told(struct world *world, uint16_t process,
                  const struct replica_action *action);
void trainer_rank_hears(struct world *world, const struct happening *happening);
void trainer_rank_deadline(struct world *world,
                           const struct happening *happening);
void trainer_acknowledged(struct world *world,
                          const struct happening *happening);
void trainer_gradient(struct world *world, const struct happening *happening);
void trainer_apply(struct world *world, uint16_t process,
                   const struct replica_action *action);
void trainer_restore_later(struct world *world, uint16_t process);
void trainer_restore(struct world *world, uint16_t process);
void trainer_rank_lost(struct world *world, uint16_t peer, uint16_t rank);
void trainer_take_over(struct world *world, uint16_t peer);

// provider.c
void provider_begin(struct world *world);
void provider_tick(struct world *world);
void provider_register(struct world *world,
                       const struct replica_position *position);
void provider_force(struct world *world, uint64_t among);

// checks.c
struct sim_fingerprint {
    struct replica_instance next;
    uint64_t previous, held, own;
    struct replica_ballot promised, accepted;
    bool has_accepted, entered;
};
void check_violated(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
struct log_instance *check_log(struct world *world, uint32_t lineage,
                               struct replica_instance instance);
struct sim_fingerprint check_fingerprint(const struct replica *node);
// After an event; `stale`: nothing may have changed since.
void check_node(struct world *world, uint16_t process,
                const struct sim_fingerprint *stale);
void check_sent(struct world *world, uint16_t process,
                const struct replica_message *message);
void check_handed(struct world *world, uint16_t peer, uint16_t rank,
                  bool scale);
void check_applied(struct world *world, uint16_t process,
                   const struct replica_action *action);
void check_retired(struct world *world, uint16_t process);
void check_registered(struct world *world);

// progress.c
void check_judge(struct world *world);
void check_end(struct world *world);

#endif
