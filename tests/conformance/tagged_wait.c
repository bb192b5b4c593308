// SPDX-License-Identifier: BSD-3-Clause
// See tagged.h: waiting without polling.
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "conformance/tagged.h"
#include "core/error.h"
#include "harness/side.h"

// Waits with poll alone, with progress only when the descriptor says so.
void tagged_wait_on_descriptor(struct processes_member *member)
{
    enum { POLL_MS = 10000 };
    tally_request_t request;
    char byte = 0;
    struct side side;
    int fd = -1;

    side_join(&side, member);
    side_send(&side, 1 - member->rank, 1, &byte, 1);
    side_receive(&side, 1, &byte, 1);
    tally_status_t status = side.ops->wait_fd(side.transport, &fd);
    if (status == TALLY_ERR_UNSUPPORTED) {
        EXPECT(strstr(core_error_text(), "no descriptor to wait on") != NULL);
    } else if (member->rank == 1) {
        EXPECT(side.ops->trecv(side.transport, 2, &byte, 1, &request) ==
               TALLY_OK);
        processes_barrier(member);
        while (request.status == TALLY_NOT_YET) {
            status = side.ops->wait_fd(side.transport, &fd);
            EXPECT(status == TALLY_OK || status == TALLY_NOT_YET);
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            if (status == TALLY_OK)
                EXPECT(poll(&wait, 1, POLL_MS) == 1);
            EXPECT(side.ops->progress(side.transport) >= 0);
        }
        EXPECT(request.status == TALLY_OK && byte == 7);
    } else {
        processes_barrier(member);
        usleep(50000); // the other is asleep in poll, most likely
        byte = 7;
        side_send(&side, 1, 2, &byte, 1);
    }
    processes_barrier(member);
    side_close(&side);
}
