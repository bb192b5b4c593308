// SPDX-License-Identifier: BSD-3-Clause
// See api.h; and the public functions that need no object.
#include "core/api.h"

#include "core/error.h"

tally_status_t api_fail(const struct core_log *log, const char *function,
                        tally_status_t status)
{
    core_fail_within(status, "%s: ", function);
    core_log(log, TALLY_LOG_ERROR, "%s", core_error_text());
    return status;
}

const char *tally_last_error(void)
{
    return core_error_text();
}

const char *tally_version(void)
{
    return TALLY_VERSION_STRING;
}

const char *tally_status_string(tally_status_t status)
{
    switch (status) {
    case TALLY_OK:
        return "ok";
    case TALLY_NOT_YET:
        return "not yet";
    case TALLY_ERR_INVALID:
        return "invalid argument";
    case TALLY_ERR_MEMORY:
        return "out of memory";
    case TALLY_ERR_SYSTEM:
        return "system call failed";
    case TALLY_ERR_CONFIG:
        return "wrong configuration";
    case TALLY_ERR_ABI:
        return "ABI does not fit";
    case TALLY_ERR_TRANSPORT:
        return "transport failed";
    case TALLY_ERR_BOOTSTRAP:
        return "rendezvous failed";
    case TALLY_ERR_TIMEOUT:
        return "deadline passed";
    case TALLY_ERR_PEER:
        return "another rank is gone";
    case TALLY_ERR_ORDER:
        return "calls out of order";
    case TALLY_ERR_MISMATCH:
        return "ranks disagree";
    case TALLY_ERR_OVERFLOW:
        return "sum too large";
    case TALLY_ERR_DEAD:
        return "group is dead";
    case TALLY_ERR_BUSY:
        return "still in use";
    case TALLY_ERR_OVERWRITTEN:
        return "result overwritten";
    case TALLY_ERR_UNSUPPORTED:
        return "not supported";
    case TALLY_ERR_REPLICA:
        return "replica group is not counted";
    }
    return "unknown status";
}
