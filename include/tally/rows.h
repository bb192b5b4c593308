// SPDX-License-Identifier: BSD-3-Clause
// What there is and what was set, row by row, for whoever shows a user the
// configuration; tally.h includes this.
#ifndef TALLY_ROWS_H
#define TALLY_ROWS_H

#include <tally/tally.h>

#ifdef __cplusplus
extern "C" {
#endif

// One configuration variable. Strings are static, except `value` and `source`,
// which live as long as the tally_t (static too where tally is NULL).
typedef struct tally_config_row {
    size_t size;
    uint32_t abi;
    uint32_t job_wide;  // 1: all ranks must agree
    const char *name;   // "TALLY_TIMEOUT"
    const char *type;   // "seconds", "bool", "a|b|c", ...
    const char *preset; // the default
    const char *doc;
    const char *value;  // in force
    const char *source; // "default" or "environment"
} tally_config_row_t;

// Row `index` of the table of variables; NOT_YET past the last. tally: NULL for
// what the environment says now. Any thread. Errors: INVALID, ABI.
TALLY_API tally_status_t tally_config_row(const tally_t *tally, uint32_t index,
                                          tally_config_row_t *row);

// One transport: what became of it.
typedef struct tally_transport_row {
    size_t size;
    uint32_t abi;
    uint32_t loaded;     // 1: loaded and usable
    const char *name;    // "ucx"
    const char *path;    // of the backend's file; "" if none was found
    const char *version; // of the backend and its library, "" if not loaded
    const char *reason;  // why it is not loaded, "" if it is
} tally_transport_row_t;

// Transport `index`; NOT_YET past the last. tally: NULL to look for all of them
// now (loads and unloads each). The strings live until the thread's next call.
// Errors: INVALID, ABI.
TALLY_API tally_status_t tally_transport_row(const tally_t *tally,
                                             uint32_t index,
                                             tally_transport_row_t *row);

#ifdef __cplusplus
}
#endif

#endif
