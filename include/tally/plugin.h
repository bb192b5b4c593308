// SPDX-License-Identifier: BSD-3-Clause
// How a trainer reaches Tally without linking it: one table of functions,
// found by name in a library opened with dlopen. The functions are those of
// tally.h, where they are described.
//
//     void *library = dlopen("libtally.so", RTLD_NOW | RTLD_LOCAL);
//     const tally_plugin_t *tally = dlsym(library, TALLY_PLUGIN_SYMBOL);
//     if (tally && TALLY_PLUGIN_HAS(tally, step_result)) ...
#ifndef TALLY_PLUGIN_H
#define TALLY_PLUGIN_H

#include <tally/tally.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TALLY_PLUGIN_SYMBOL "tallyPlugin_v1"

// Whether the loaded table is long enough to hold `member`.
#define TALLY_PLUGIN_HAS(table, member)                                        \
    ((table)->size >=                                                          \
     offsetof(tally_plugin_t, member) + sizeof((table)->member))

// Grows at the tail only. A change that does not, gets another symbol.
typedef struct tally_plugin {
    size_t size;
    uint32_t abi;
    const char *name;    // "tally"
    const char *version; // tally_version()
    const char *(*status_string)(tally_status_t status);
    const char *(*last_error)(void);
    tally_status_t (*open)(const tally_host_t *host, tally_t **out);
    tally_status_t (*close)(tally_t *tally);
    tally_status_t (*rank)(const tally_t *tally, int32_t *rank,
                           int32_t *world_size);
    tally_status_t (*group_create)(tally_t *tally,
                                   const tally_group_params_t *params,
                                   tally_group_t **out);
    tally_status_t (*group_free)(tally_group_t *group);
    tally_status_t (*group_describe)(const tally_group_t *group,
                                     tally_group_info_t *info);
    tally_status_t (*step_create)(tally_group_t *group,
                                  const tally_step_params_t *params,
                                  tally_step_t **out);
    tally_status_t (*step_free)(tally_step_t *step);
    tally_status_t (*step_begin)(tally_step_t *step, int32_t micro_batches,
                                 tally_stream_t stream);
    tally_status_t (*step_count)(tally_step_t *step, uint32_t channel,
                                 const tally_labels_t *labels,
                                 tally_stream_t stream);
    tally_status_t (*step_reduce)(tally_step_t *step, tally_stream_t stream);
    tally_status_t (*step_wait)(tally_step_t *step, tally_stream_t stream);
    tally_status_t (*step_loss)(tally_step_t *step, uint32_t channel,
                                const tally_logits_t *logits,
                                const tally_labels_t *labels,
                                const tally_loss_outputs_t *outputs,
                                tally_stream_t stream);
    tally_status_t (*step_max)(tally_step_t *step, uint32_t lane,
                               const float *value, tally_stream_t stream);
    tally_status_t (*step_end)(tally_step_t *step, tally_stream_t stream);
    tally_status_t (*step_scale)(tally_step_t *step, const float **scale);
    tally_status_t (*step_result)(tally_step_t *step, uint64_t epoch,
                                  uint32_t flags, tally_result_t *result);
    tally_status_t (*config_row)(const tally_t *tally, uint32_t index,
                                 tally_config_row_t *row);
    tally_status_t (*transport_row)(const tally_t *tally, uint32_t index,
                                    tally_transport_row_t *row);
    const char *(*replica_status_string)(tally_replica_status_t status);
    tally_status_t (*replica_ready)(tally_step_t *step,
                                    tally_replica_vote_t vote);
    tally_status_t (*replica_apply)(tally_step_t *step,
                                    tally_replica_verdict_t *verdict);
    tally_status_t (*replica_state)(const tally_step_t *step,
                                    tally_replica_state_t *state);
    tally_status_t (*replica_restored)(tally_step_t *step,
                                       const tally_replica_state_t *state);
    tally_status_t (*witness_open)(const tally_host_t *host,
                                   tally_witness_t **out);
    tally_status_t (*witness_close)(tally_witness_t *witness);
    tally_status_t (*replica_publish)(tally_step_t *step,
                                      const tally_replica_state_t *state);
    tally_status_t (*step_multiply)(tally_step_t *step, tally_dtype_t type,
                                    void *gradient, int64_t elements,
                                    const float *factor, tally_stream_t stream);
    tally_status_t (*step_loss_part)(tally_step_t *step, uint32_t channel,
                                     const tally_logits_t *logits,
                                     const tally_labels_t *labels,
                                     const tally_columns_t *columns,
                                     tally_row_part_t *parts,
                                     tally_stream_t stream);
    tally_status_t (*step_loss_columns)(tally_step_t *step, uint32_t channel,
                                        const tally_logits_t *logits,
                                        const tally_labels_t *labels,
                                        const tally_columns_t *columns,
                                        tally_row_part_t *parts,
                                        const tally_loss_outputs_t *outputs,
                                        tally_stream_t stream);
    tally_status_t (*step_abandon)(tally_step_t *step, tally_stream_t stream);
} tally_plugin_t;

extern TALLY_API const tally_plugin_t tallyPlugin_v1;

#ifdef __cplusplus
}
#endif

#endif
