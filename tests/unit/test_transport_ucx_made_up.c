// SPDX-License-Identifier: BSD-3-Clause
// Tests of how libtally-ucx.so closes, over a UCX that is made up: what peers
// do meanwhile is for the test to say.
#include <check.h>
#include <stdlib.h>

#include "transport/ucx/ucx.h"

#define ENDPOINTS 5

// UCX 1.13 as far as it goes here. Its flush takes one endpoint a turn, and
// holds the next: a worker that is destroyed meanwhile aborts the process.
static struct {
    tally_transport_t transport;
    tally_endpoint_t endpoints[ENDPOINTS];
    char flush;         // a request is its address
    int flushed;        // endpoints
    int turns_till_all; // are lost; never: negative
    int turns;
    int freed;      // requests
    bool destroyed; // the worker, and the flush had ended
} made_up;

static ucs_status_ptr_t flush(ucp_worker_h worker,
                              const ucp_request_param_t *param)
{
    (void)worker;
    (void)param;
    return &made_up.flush;
}

static unsigned progress(ucp_worker_h worker)
{
    (void)worker;
    if (made_up.flushed < ENDPOINTS)
        made_up.flushed++;
    if (++made_up.turns == made_up.turns_till_all)
        for (int i = 0; i < ENDPOINTS; i++)
            made_up.endpoints[i].lost = UCS_ERR_CONNECTION_RESET;
    return 0;
}

static ucs_status_t check_status(void *request)
{
    ck_assert_ptr_eq(request, &made_up.flush);
    return made_up.flushed < ENDPOINTS ? UCS_INPROGRESS : UCS_OK;
}

static void free_request(void *request)
{
    ck_assert_ptr_eq(request, &made_up.flush);
    made_up.freed++;
}

static ucs_status_ptr_t close_endpoint(ucp_ep_h handle,
                                       const ucp_request_param_t *param)
{
    (void)handle;
    ck_assert_uint_eq(param->flags, UCP_EP_CLOSE_FLAG_FORCE);
    return NULL;
}

static ucp_tag_message_h probe(ucp_worker_h worker, ucp_tag_t tag,
                               ucp_tag_t mask, int remove,
                               ucp_tag_recv_info_t *info)
{
    (void)worker;
    (void)tag;
    (void)mask;
    (void)remove;
    (void)info;
    return NULL;
}

static void destroy_worker(ucp_worker_h worker)
{
    (void)worker;
    made_up.destroyed = made_up.flushed == ENDPOINTS;
}

static void clean_up(ucp_context_h context)
{
    (void)context;
}

static void release(void *context, void *memory)
{
    (void)context;
    (void)memory;
}

static const tally_transport_host_t host = {.release = release};

// In place of library.c, which would load the real one.
void ucx_library_close(struct ucx_library *library)
{
    ck_assert_ptr_eq(library, &made_up.transport.library);
}

static void close_when_lost_after(int turns)
{
    tally_transport_t *transport = &made_up.transport;

    made_up.turns_till_all = turns;
    transport->host = &host;
    transport->pending.next = &transport->pending;
    transport->pending.previous = &transport->pending;
    transport->library = (struct ucx_library){
        .worker_flush_nbx = flush,
        .worker_progress = progress,
        .worker_destroy = destroy_worker,
        .request_check_status = check_status,
        .request_free = free_request,
        .ep_close_nbx = close_endpoint,
        .tag_probe_nb = probe,
        .cleanup = clean_up,
    };
    for (int i = 0; i < ENDPOINTS; i++) {
        made_up.endpoints[i].next = transport->endpoints;
        transport->endpoints = &made_up.endpoints[i];
    }
    ucx_worker_close(transport);
}

START_TEST(a_flush_that_peers_cut_short_has_ended_when_the_worker_goes)
{
    close_when_lost_after(_i);
    ck_assert(made_up.destroyed);
    ck_assert_int_eq(made_up.freed, 1);
}
END_TEST

START_TEST(a_flush_that_ends_is_not_waited_for_again)
{
    close_when_lost_after(-1);
    ck_assert(made_up.destroyed);
    ck_assert_int_eq(made_up.freed, 1);
    ck_assert_int_eq(made_up.turns, ENDPOINTS + 1); // the last one reads
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transport ucx, made up");
    TCase *tests = tcase_create("close");

    tcase_add_loop_test(
        tests, a_flush_that_peers_cut_short_has_ended_when_the_worker_goes, 1,
        ENDPOINTS + 2);
    tcase_add_test(tests, a_flush_that_ends_is_not_waited_for_again);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
