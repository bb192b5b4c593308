// SPDX-License-Identifier: BSD-3-Clause
// What tally_info shows, and the forms it shows it in. It reads the library's
// own tables and opens nothing.
#ifndef INFO_INFO_H
#define INFO_INFO_H

#include <stdbool.h>
#include <stdio.h>
#include <tally/tally.h>

enum info_section {
    INFO_VERSION = 1,
    INFO_CONFIG = 2,
    INFO_TRANSPORTS = 4,
    INFO_ALL = INFO_VERSION | INFO_CONFIG | INFO_TRANSPORTS
};

// Each writes the chosen sections. A row that cannot be had is told on stderr
// and left out; false if there was one.
bool info_text_write(FILE *out, unsigned sections);
bool info_json_write(FILE *out, unsigned sections);
// The page tally(7), in mdoc. It does not depend on the environment.
bool info_man_write(FILE *out);
// What replica groups of this host say (TALLY_RECORDER_FOLDER). False: none
// does, which was told on stderr.
bool info_replicas_write(FILE *out, bool json);

// How the library and its tools were built.
struct info_build {
    const char *compiler;
    const char *flags;
    const char *const *host_isas; // ends with NULL
    bool ucx;                     // libtally-ucx.so is built
    bool ofi;                     // libtally-ofi.so is built
    bool nccl;                    // libtally-nccl.so is built
    bool secret;                  // TALLY_SECRET works
};

extern const struct info_build info_build;

// Row `index`; false past the last, and (then *failed is set) on an error,
// which was told on stderr.
bool info_config_row(uint32_t index, tally_config_row_t *row, bool *failed);
bool info_transport_row(uint32_t index, tally_transport_row_t *row,
                        bool *failed);

// The next entry of the environment, from `at` on, that is called TALLY_* and
// has no row; NULL if there is none. Begin with environ.
char *const *info_unknown_next(char *const *at);

#endif
