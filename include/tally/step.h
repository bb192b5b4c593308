// SPDX-License-Identifier: BSD-3-Clause
// The step object: channels, the calls of an epoch in their order, and its
// results. tally.h includes this; its conventions hold.

// Before the guard: what tally.h includes after this needs it.
#include <tally/tally.h>

#ifndef TALLY_STEP_H
#define TALLY_STEP_H

#ifdef __cplusplus
extern "C" {
#endif

// The label of tokens that do not count, where a channel does not say another.
#define TALLY_IGNORE_INDEX (-100)

// Bounds of one step object.
#define TALLY_CHANNELS_MAX 64
#define TALLY_MAX_LANES_MAX 14
// Results of this many epochs can be read; older ones are overwritten.
#define TALLY_EPOCH_RING 8

typedef enum tally_dtype {
    TALLY_F32 = 1,
    TALLY_BF16 = 2,
    TALLY_F16 = 3,
    TALLY_I32 = 4,
    TALLY_I64 = 5
} tally_dtype_t;

typedef enum tally_order {
    // Labels are known before the forward: count, reduce, then the loss with
    // the scale applied to its gradient.
    TALLY_COUNT_FIRST = 0,
    // Loss and count together, one reduction, gradients scaled afterwards.
    TALLY_SCALE_LATE = 1
} tally_order_t;

// What the framework does with gradients, and so what the scale must undo.
// The scale of a channel is coefficient * D / W: W is the weight of all its
// valid tokens in the group, M the micro-batches of the step.
typedef enum tally_convention {
    TALLY_GRADIENT_SUM = 0,         // sums over ranks:               D = 1
    TALLY_GRADIENT_AVERAGE = 1,     // averages over R ranks:         D = R
    TALLY_GRADIENT_AVERAGE_ALL = 2, // and over the M micro-batches:  D = R * M
    TALLY_GRADIENT_SCHEDULE = 3     // averages over R, and a pipeline schedule
                                    // divides by schedule_divisor S: D = R * S
} tally_convention_t;

// Where a step's arrays, records and scales are.
typedef enum tally_device {
    TALLY_DEVICE_HOST = 0,
    TALLY_DEVICE_CUDA = 1 // the current context's GPU, else that of ordinal 0
} tally_device_t;

// One named loss. Of a token with logits x and a label it is
//     y = soft_cap * tanh(x / soft_cap) / temperature
//     loss = (1 - s) * nll + s * (lse - mean y) + z_loss * lse^2
// where lse = log sum exp(y), nll = lse - y_label, s = label_smoothing; an x of
// -infinity has no probability under a cap either. With the last four members
// 0, as TALLY_INIT leaves them, it is the nll of x. They are taken as float32,
// the same at all ranks. A row with some costs more: on a GPU its loss and its
// gradient are two passes.
typedef struct tally_channel {
    size_t size;
    uint32_t abi;
    const char *name;       // for messages, at most 31 bytes; NULL: its index
    int64_t vocab;          // V >= 1: labels count if they are in [0, V)
    int64_t ignore_index;   // outside [0, V); 0 (from TALLY_INIT): -100
    double coefficient;     // 0 (from TALLY_INIT): 1
    double label_smoothing; // in [0, 1)
    double z_loss;          // >= 0, finite
    double soft_cap;        // 0: none; else 2^-64 to 2^64
    double temperature;     // 0: 1; else 2^-64 to 2^64
} tally_channel_t;

typedef struct tally_step_params {
    size_t size;
    uint32_t abi;
    tally_order_t order;
    tally_convention_t convention;
    // channel_count channels, 1 <= K <= TALLY_CHANNELS_MAX; each begins
    // channels[0].size bytes after the one before.
    const tally_channel_t *channels;
    uint32_t channel_count;
    // How many MAX lanes ride along, 0 to TALLY_MAX_LANES_MAX.
    uint32_t max_lanes;
    // S of TALLY_GRADIENT_SCHEDULE; 0: 1.
    double schedule_divisor;
    // Ranks of one group may differ in it.
    tally_device_t device;
} tally_step_params_t;

// Collective over the group; compares the layout of all ranks. Blocks.
// Errors: INVALID, ABI, MISMATCH, MEMORY, SYSTEM, TRANSPORT, PEER, TIMEOUT,
// DEAD, BOOTSTRAP (the host's all-gather failed), UNSUPPORTED (the 65537th step
// of a tally_t).
TALLY_API tally_status_t tally_step_create(tally_group_t *group,
                                           const tally_step_params_t *params,
                                           tally_step_t **out);

// Frees; in mid-step (begin without end) it is BUSY, unless the group is dead
// or one of its ranks is gone. Waits for reductions under way, at most
// TALLY_TIMEOUT. NULL: nothing.
TALLY_API tally_status_t tally_step_free(tally_step_t *step);

typedef struct tally_labels {
    size_t size;
    uint32_t abi;
    tally_dtype_t type; // TALLY_I32 or TALLY_I64
    const void *values; // device, [tokens]; may be NULL if tokens is 0
    int64_t tokens;     // T >= 0
    // device, float32 [tokens]: the weight of each token; NULL: 1 each. A
    // weight that is not finite or |w| >= 2^22 makes its token a bad label.
    const float *weights;
} tally_labels_t;

typedef struct tally_logits {
    size_t size;
    uint32_t abi;
    tally_dtype_t type; // TALLY_F32, TALLY_BF16 or TALLY_F16
    const void *values; // device, [tokens][row_stride]; rows that do not count
                        // are not read
    int64_t row_stride; // elements, >= V; 0: V
} tally_logits_t;

typedef struct tally_loss_outputs {
    size_t size;
    uint32_t abi;
    // device, [tokens][gradient_stride] of the logits' type: d loss / d logits
    // times the scale (COUNT_FIRST) or unscaled (SCALE_LATE); rows that do not
    // count are set to 0; columns beyond V are not written. It may be
    // logits.values with the same stride (in place), and must not overlap it
    // otherwise. NULL: none.
    void *gradient;
    int64_t gradient_stride; // elements, >= V; 0: V
    // device, float32 [tokens]: the channel's loss of each token, without
    // weight and scale; 0 where a token does not count. NULL: none.
    float *nll;
    // device, one float32, multiplied into the gradient in float32. NULL: 1.
    const float *grad_scale;
} tally_loss_outputs_t;

// Begins the next epoch (the first is 1) of M >= 1 micro-batches. Every channel
// must then be counted (COUNT_FIRST) or given to the loss (SCALE_LATE) exactly
// M times before tally_step_reduce; a rank without tokens gives tokens = 0.
// Does not block. A stream that captures is refused under
// TALLY_STREAM_WAIT=memop, where the host reduces: nothing has begun then. If
// the capture comes after begin, so are count, reduce, wait, the loss that
// waits, and end, each of which can be called again once it has ended. Errors:
// INVALID, ORDER, DEAD; on a GPU UNSUPPORTED, as said.
TALLY_API tally_status_t tally_step_begin(tally_step_t *step,
                                          int32_t micro_batches,
                                          tally_stream_t stream);

// COUNT_FIRST only: counts one micro-batch of a channel. The arrays must stay
// until the stream has passed. Does not block. The last count of an epoch may
// publish already: on a GPU it does, and spares a launch, where it and all that
// the step has enqueued since it last published are on one stream. Replays of a
// captured step come before it on that stream. Errors: INVALID, ABI, ORDER; on
// a GPU UNSUPPORTED (see begin).
TALLY_API tally_status_t tally_step_count(tally_step_t *step, uint32_t channel,
                                          const tally_labels_t *labels,
                                          tally_stream_t stream);

// Publishes what was counted and posts the all-reduce. Does not block: a
// failure on the way is in the result. Errors: INVALID, ORDER, DEAD; on a GPU
// UNSUPPORTED (see begin; over NCCL, the default stream of a thread).
TALLY_API tally_status_t tally_step_reduce(tally_step_t *step,
                                           tally_stream_t stream);

// Makes the stream wait for the reduction; afterwards the scale is valid.
// Host device: blocks the caller, at most TALLY_TIMEOUT, and returns the
// reduction's error (PEER, TIMEOUT, ...); the scale is then a quiet NaN.
// REPLICA: this replica group is not counted (result.replica_status says why);
// the group lives, and the epoch is to be ended.
// Errors: INVALID, ORDER, on the host device those, and on a GPU UNSUPPORTED
// (see begin).
TALLY_API tally_status_t tally_step_wait(tally_step_t *step,
                                         tally_stream_t stream);

// The fused loss of one micro-batch of a channel; see tally_loss_outputs_t.
// nll = log(sum_j exp(x_j)) - x_label, over j in [0, V), or what the channel's
// members make of it (tally_channel_t).
// COUNT_FIRST: after reduce; the first one waits as tally_step_wait does, and
// labels must be those that were counted (the result says if not).
// SCALE_LATE: before reduce. outputs: NULL for none.
// Errors: INVALID, ABI, ORDER, and those of wait. On a GPU a gradient in two
// passes (that of a channel with label_smoothing, z_loss, soft_cap or
// temperature, or of rows that are not of whole, aligned vectors of 16 bytes)
// needs 24 bytes a token of the step's own: the first one of that size is
// UNSUPPORTED under capture, else MEMORY if there are none.
TALLY_API tally_status_t tally_step_loss(tally_step_t *step, uint32_t channel,
                                         const tally_logits_t *logits,
                                         const tally_labels_t *labels,
                                         const tally_loss_outputs_t *outputs,
                                         tally_stream_t stream);

// Multiplies a gradient that tally_step_loss has written by what follows the
// loss, for a trainer that learns it in its backward: *factor. Where that is 1,
// as in a backward that begins at the loss, the device finds out, and the
// gradient is neither read nor written. gradient: device, `elements` of `type`
// (F32, BF16, F16), one after the other. factor: device, one float32, read in
// the stream's order; products are rounded once. No part of an epoch: at any
// time, by any thread. Does not block. Errors: INVALID; on a GPU SYSTEM, from
// the launch.
TALLY_API tally_status_t tally_step_multiply(tally_step_t *step,
                                             tally_dtype_t type, void *gradient,
                                             int64_t elements,
                                             const float *factor,
                                             tally_stream_t stream);

// Offers a value for the maximum over all ranks in MAX lane `lane`: the largest
// value offered by any rank in the epoch, NaN if any is NaN; -inf if none was.
// value: device, one float32. Before reduce (SCALE_LATE) or end (COUNT_FIRST).
// Errors: INVALID, ORDER.
TALLY_API tally_status_t tally_step_max(tally_step_t *step, uint32_t lane,
                                        const float *value,
                                        tally_stream_t stream);

// Ends the epoch. COUNT_FIRST: posts the second reduction (loss, non-finite,
// MAX lanes), which no stream waits on. Implies wait. Errors: INVALID, ORDER,
// and those of wait (the epoch is ended all the same).
TALLY_API tally_status_t tally_step_end(tally_step_t *step,
                                        tally_stream_t stream);

// Ends an epoch in which calls are missing, as after an exception in the model:
// what was counted so far is reduced, if it was not yet, and the losses that
// there are. So the other ranks do not wait for this one in vain; where losses
// of counted tokens are missing, their results say so (OTHER_TOKENS, or
// NO_LOSS). Without an epoch it does nothing. In a replica group the gradient
// is still to be voted on. Errors: those of reduce and end, but for ORDER;
// after them the step can be freed once the group is dead.
TALLY_API tally_status_t tally_step_abandon(tally_step_t *step,
                                            tally_stream_t stream);

// The scales: device, float32 [K], an address that stays for the life of the
// step. Valid on the stream between wait and the next begin. 0 where no token
// of the group counts; quiet NaN after an error. Errors: INVALID.
TALLY_API tally_status_t tally_step_scale(tally_step_t *step,
                                          const float **scale);

// -------------------------------------------------------------------- results

// Flags of a channel's result, and (any channel has it) of the whole step's;
// but a step is EMPTY only if all its channels are.
#define TALLY_STEP_EMPTY 0x1u     // no valid token in the group, or weight <= 0
#define TALLY_STEP_NONFINITE 0x2u // some token's loss was not finite
#define TALLY_STEP_BAD_LABELS 0x4u // some label was out of range
#define TALLY_STEP_NO_LOSS 0x8u    // COUNT_FIRST without any tally_step_loss
// The losses were of other tokens than those that were counted.
#define TALLY_STEP_OTHER_TOKENS 0x10u

// What became of a step, as far as this replica knows.
typedef enum tally_replica_status {
    TALLY_REPLICA_NONE = 0,    // no replica group, or nothing asked yet
    TALLY_REPLICA_COUNTED = 1, // it is among those that count: reduce gradients
    TALLY_REPLICA_RETRY = 2,   // some are gone: reduce them again, over fewer
    TALLY_REPLICA_APPLY = 3,   // step the optimizer
    TALLY_REPLICA_EXCLUDED = 4,  // the others go on without this step's tokens
    TALLY_REPLICA_ABORTED = 5,   // nobody is counted: the same step again
    TALLY_REPLICA_DISCARDED = 6, // counted, but nobody applies: again
    TALLY_REPLICA_WAITING = 7,   // not taken yet: the same step again
    TALLY_REPLICA_IN_DOUBT = 8,  // not known by the deadline
    TALLY_REPLICA_LAGGING = 9,   // restore the model from another replica
    TALLY_REPLICA_FENCED = 10    // this start of it is over: end the process
} tally_replica_status_t;

// Totals of one channel over the group. The sums are exact:
// (hi * 2^32 + lo) * 2^-40 with 0 <= lo < 2^32.
typedef struct tally_channel_result {
    size_t size;
    uint32_t abi;
    uint32_t flags;
    float scale;
    int64_t loss_hi, loss_lo;     // weighted sum of the finite losses
    int64_t weight_hi, weight_lo; // sum of weights of the valid tokens
    int64_t count;                // valid tokens
    int64_t nonfinite;            // valid tokens whose loss was not finite
    int64_t bad_labels;
    double loss_sum, weight_sum; // the same, nearest double
    double mean;                 // loss_sum / weight_sum; 0 if that is <= 0
} tally_channel_result_t;

typedef struct tally_result {
    size_t size;
    uint32_t abi;
    uint32_t flags;
    uint64_t epoch;
    tally_status_t status; // TALLY_OK or what went wrong in the epoch
    int32_t failed_rank;   // the world rank to blame, -1 if none is known
    int32_t members;       // ranks that were counted
    // In: room for the totals, or NULL. `channel_capacity` elements; each
    // begins channels[0].size bytes after the one before. Out: min(K, capacity)
    // filled if the status is TALLY_OK, else left alone, as is `max`.
    uint32_t channel_capacity;
    tally_channel_result_t *channels;
    float max[TALLY_MAX_LANES_MAX];
    // Of a replica group, else 0. `members` above is then the ranks of one
    // replica times the replicas that were counted. Counts and weights are
    // those of all these replicas, and so are losses with TALLY_SCALE_LATE;
    // with TALLY_COUNT_FIRST losses, and always MAX lanes, are of this
    // replica's own ranks, and the mean is that of their tokens.
    tally_replica_status_t replica_status;
    uint32_t replica_lineage;
    uint32_t replica_epoch;   // of membership
    uint32_t replica_attempt; // 0, unless the gradient was reduced again
    uint64_t replica_index;   // of the decision; 0: there is none
    uint64_t replica_members; // bit r: replica r is counted
    uint64_t replica_digest;  // of the decision: equal at all that are counted
} tally_result_t;

// Flags of the call.
#define TALLY_RESULT_WAIT 0x1u // wait for it, at most TALLY_TIMEOUT

// Reads the result of an epoch; 0: the latest that was reduced. Does not block
// without TALLY_RESULT_WAIT and never synchronises a stream. May be called by
// another thread than the step's.
// Returns result.status once the epoch is complete (the result is written then,
// whatever the status); NOT_YET before; OVERWRITTEN for an epoch that has left
// the ring of TALLY_EPOCH_RING. Errors: INVALID, ABI, ORDER (no such epoch yet;
// or TALLY_RESULT_WAIT before tally_step_end of a COUNT_FIRST epoch), TIMEOUT
// (by the deadline the stream had not come to a waited-for epoch).
TALLY_API tally_status_t tally_step_result(tally_step_t *step, uint64_t epoch,
                                           uint32_t flags,
                                           tally_result_t *result);

#ifdef __cplusplus
}
#endif

#endif
