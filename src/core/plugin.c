// SPDX-License-Identifier: BSD-3-Clause
// The table that trainers find with dlsym.
#include <tally/plugin.h>

const tally_plugin_t tallyPlugin_v1 = {
    .size = sizeof(tally_plugin_t),
    .abi = TALLY_ABI,
    .name = "tally",
    .version = TALLY_VERSION_STRING,
    .status_string = tally_status_string,
    .last_error = tally_last_error,
    .open = tally_open,
    .close = tally_close,
    .rank = tally_rank,
    .group_create = tally_group_create,
    .group_free = tally_group_free,
    .group_describe = tally_group_describe,
    .step_create = tally_step_create,
    .step_free = tally_step_free,
    .step_begin = tally_step_begin,
    .step_count = tally_step_count,
    .step_reduce = tally_step_reduce,
    .step_wait = tally_step_wait,
    .step_loss = tally_step_loss,
    .step_max = tally_step_max,
    .step_end = tally_step_end,
    .step_scale = tally_step_scale,
    .step_result = tally_step_result,
    .config_row = tally_config_row,
    .transport_row = tally_transport_row,
};
