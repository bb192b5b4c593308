// SPDX-License-Identifier: BSD-3-Clause
// Tests of collective/links.h: addresses, endpoints made when first used, and
// memory kept for the transport.
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "harness/collective.h"

#define RANKS 5

struct opened {
    struct callback_exchange exchange;
    tally_transport_t *transport;
    tally_endpoint_t **shared; // NULL: none
    struct links *links;
};

static void opened_begin(struct opened *opened, struct ranks_member *member,
                         struct fake_network *network)
{
    memset(opened, 0, sizeof(*opened));
    callback_exchange_open(&opened->exchange, ranks_allgather, member,
                           member->rank, member->size,
                           COLLECTIVE_FIRST_WORLD_RANK);
    opened->transport = fake_network_open(network, member->rank);
}

static tally_status_t opened_link(struct opened *opened,
                                  const struct tally_transport_ops *ops)
{
    struct links_address own;

    links_address_read(ops, opened->transport, &own);
    return links_create(ops, opened->transport, &own, opened->shared,
                        &opened->exchange.base, &opened->exchange.group,
                        &opened->links);
}

static void opened_end(struct opened *opened, struct fake_network *network)
{
    fake_network_ops(network)->close(opened->transport);
    links_free(opened->links);
    callback_exchange_close(&opened->exchange);
}

// ------------------------------------------------------------- endpoints

static void connect_some(struct ranks_member *member)
{
    struct fake_network *network = member->argument;
    struct opened opened;
    tally_endpoint_t *first;
    tally_endpoint_t *again;
    tally_endpoint_t *other;

    opened_begin(&opened, member, network);
    ck_assert_int_eq(opened_link(&opened, fake_network_ops(network)), TALLY_OK);
    ck_assert_ptr_eq(links_ops(opened.links), fake_network_ops(network));
    ck_assert_ptr_eq(links_transport(opened.links), opened.transport);
    ck_assert_int_eq(links_world_rank(opened.links, 4), 104);
    ck_assert_int_eq(fake_transport_counts(opened.transport).connected, 0);
    ck_assert_int_eq(links_endpoint(opened.links, 1, &first), TALLY_OK);
    ck_assert_int_eq(links_endpoint(opened.links, 1, &again), TALLY_OK);
    ck_assert_ptr_eq(first, again);
    ck_assert_int_eq(links_endpoint(opened.links, 4, &other), TALLY_OK);
    ck_assert_ptr_ne(first, other);
    ck_assert_int_eq(fake_transport_counts(opened.transport).connected, 2);
    opened_end(&opened, network);
}

START_TEST(an_endpoint_is_made_when_first_used_and_once)
{
    struct fake_options options = fake_options_calm(1);
    struct fake_network *network = fake_network_create(RANKS, &options);

    ranks_run(RANKS, connect_some, network);
    fake_network_free(network);
}
END_TEST

static void connect_in_two_groups(struct ranks_member *member)
{
    struct fake_network *network = member->argument;
    tally_endpoint_t *shared[COLLECTIVE_FIRST_WORLD_RANK + RANKS] = {NULL};
    tally_endpoint_t *endpoints[2];
    struct opened opened;

    opened_begin(&opened, member, network);
    opened.shared = shared;
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(opened_link(&opened, fake_network_ops(network)),
                         TALLY_OK);
        ck_assert_int_eq(links_endpoint(opened.links, 1, &endpoints[i]),
                         TALLY_OK);
        if (i == 0)
            links_free(opened.links);
    }
    ck_assert_ptr_eq(endpoints[0], endpoints[1]);
    ck_assert_int_eq(fake_transport_counts(opened.transport).connected, 1);
    opened_end(&opened, network);
}

START_TEST(groups_that_come_and_go_share_their_endpoints)
{
    struct fake_options options = fake_options_calm(1);
    struct fake_network *network = fake_network_create(RANKS, &options);

    ranks_run(RANKS, connect_in_two_groups, network);
    fake_network_free(network);
}
END_TEST

// Each sends its rank to all: to whom an endpoint leads, the receiver knows.
static void greet_all(struct ranks_member *member)
{
    struct fake_network *network = member->argument;
    const struct tally_transport_ops *ops = fake_network_ops(network);
    struct opened opened;
    int32_t greetings[RANKS];
    tally_request_t receives[RANKS];
    tally_request_t send;

    opened_begin(&opened, member, network);
    ck_assert_int_eq(opened_link(&opened, ops), TALLY_OK);
    for (int32_t peer = 0; peer < RANKS; peer++) {
        tally_endpoint_t *endpoint;
        int32_t greeting = member->rank * RANKS + peer;

        ops->trecv(opened.transport, (uint64_t)peer, &greetings[peer],
                   sizeof(greetings[peer]), &receives[peer]);
        ck_assert_int_eq(links_endpoint(opened.links, peer, &endpoint),
                         TALLY_OK);
        ops->tsend(endpoint, (uint64_t)member->rank, &greeting,
                   sizeof(greeting), &send);
    }
    ranks_barrier(member);
    ops->progress(opened.transport);
    for (int32_t peer = 0; peer < RANKS; peer++) {
        ck_assert_int_eq(receives[peer].status, TALLY_OK);
        ck_assert_int_eq(greetings[peer], peer * RANKS + member->rank);
    }
    opened_end(&opened, network);
}

START_TEST(endpoints_lead_to_their_ranks_though_addresses_differ_in_length)
{
    struct fake_options options = fake_options_calm(1);
    struct fake_network *network = fake_network_create(RANKS, &options);

    ranks_run(RANKS, greet_all, network);
    fake_network_free(network);
}
END_TEST

static void connect_in_vain(struct ranks_member *member)
{
    struct fake_network *network = member->argument;
    tally_endpoint_t *endpoint = NULL;
    struct opened opened;

    opened_begin(&opened, member, network);
    ck_assert_int_eq(opened_link(&opened, fake_network_ops(network)), TALLY_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(links_endpoint(opened.links, 3, &endpoint),
                         TALLY_ERR_PEER);
        ck_assert_str_eq(core_error_text(), "no route to peer 103");
        ck_assert_ptr_null(endpoint);
    }
    ck_assert_int_eq(links_endpoint(opened.links, 2, &endpoint), TALLY_OK);
    opened_end(&opened, network);
}

START_TEST(a_rank_that_cannot_be_reached_is_an_error_each_time)
{
    struct fake_options options = fake_options_calm(1);

    options.unreachable = 3;
    struct fake_network *network = fake_network_create(RANKS, &options);
    ranks_run(RANKS, connect_in_vain, network);
    fake_network_free(network);
}
END_TEST

// ------------------------------------------------------------- directory

#define LISTED_STRIDE 32

static void directory_fill(struct links_directory *directory,
                           const struct tally_transport_ops *ops,
                           tally_transport_t *const *transports)
{
    for (int32_t i = 0; i < directory->count; i++) {
        size_t bytes = directory->address_stride;

        ck_assert_int_eq(ops->address(transports[i],
                                      directory->addresses +
                                          (size_t)i * directory->address_stride,
                                      &bytes),
                         TALLY_OK);
        directory->world_ranks[i] = COLLECTIVE_FIRST_WORLD_RANK + i;
        directory->address_bytes[i] = bytes;
    }
}

static void greet_by(struct links *const *links, tally_transport_t **transports,
                     const struct tally_transport_ops *ops, int32_t from,
                     int32_t to)
{
    int32_t greeting = from * RANKS + to;
    int32_t got = -1;
    tally_endpoint_t *endpoint;
    tally_request_t send;
    tally_request_t receive;

    ops->trecv(transports[to], 7, &got, sizeof(got), &receive);
    ck_assert_int_eq(links_endpoint(links[from], to, &endpoint), TALLY_OK);
    ops->tsend(endpoint, 7, &greeting, sizeof(greeting), &send);
    ops->progress(transports[to]);
    ck_assert_int_eq(receive.status, TALLY_OK);
    ck_assert_int_eq(got, greeting);
}

START_TEST(ranks_of_one_process_share_a_directory)
{
    struct fake_options options = fake_options_calm(1);
    struct fake_network *network = fake_network_create(RANKS, &options);
    const struct tally_transport_ops *ops = fake_network_ops(network);
    int32_t world_ranks[RANKS];
    uint64_t address_bytes[RANKS];
    unsigned char addresses[RANKS * LISTED_STRIDE];
    struct links_directory directory = {
        RANKS, world_ranks, address_bytes, addresses, LISTED_STRIDE,
    };
    tally_transport_t *transports[RANKS];
    struct links *links[RANKS];

    for (int32_t i = 0; i < RANKS; i++)
        transports[i] = fake_network_open(network, i);
    directory_fill(&directory, ops, transports);
    for (int32_t i = 0; i < RANKS; i++)
        ck_assert_int_eq(
            links_create_listed(ops, transports[i], &directory, &links[i]),
            TALLY_OK);
    ck_assert_int_eq(links_world_rank(links[2], 4), 104);
    // In no order, and twice: the second time over the same endpoints.
    for (int32_t i = 0; i < 2 * RANKS * RANKS; i++)
        greet_by(links, transports, ops, i / RANKS % RANKS, 3 * i % RANKS);
    for (int32_t i = 0; i < RANKS; i++) {
        ck_assert_int_eq(fake_transport_counts(transports[i]).connected, RANKS);
        ops->close(transports[i]);
        links_free(links[i]);
    }
    fake_network_free(network);
}
END_TEST

// ------------------------------------------------------------- addresses

struct refusal {
    struct fake_network *network;
    struct tally_transport_ops ops; // of the rank that fails
    int32_t rank;
    tally_status_t status;
    const char *sentence; // of the others
};

static tally_status_t no_address(tally_transport_t *transport, void *address,
                                 size_t *bytes)
{
    (void)transport;
    (void)address;
    (void)bytes;
    return core_fail(TALLY_ERR_SYSTEM, "no network card");
}

static tally_status_t endless_address(tally_transport_t *transport,
                                      void *address, size_t *bytes)
{
    (void)transport;
    (void)address;
    *bytes = 1 << 20;
    return TALLY_OK;
}

static void link_in_vain(struct ranks_member *member)
{
    struct refusal *refusal = member->argument;
    bool fails = member->rank == refusal->rank;
    struct opened opened;

    opened_begin(&opened, member, refusal->network);
    ck_assert_int_eq(
        opened_link(&opened,
                    fails ? &refusal->ops : fake_network_ops(refusal->network)),
        refusal->status);
    if (!fails)
        ck_assert_str_eq(core_error_text(), refusal->sentence);
    ck_assert_ptr_null(opened.links);
    opened_end(&opened, refusal->network);
}

static void refuse(tally_status_t (*address)(tally_transport_t *transport,
                                             void *address, size_t *bytes),
                   tally_status_t status, const char *sentence)
{
    struct fake_options options = fake_options_calm(1);
    struct refusal refusal = {
        .network = fake_network_create(RANKS, &options),
        .rank = 3,
        .status = status,
        .sentence = sentence,
    };

    refusal.ops = *fake_network_ops(refusal.network);
    refusal.ops.address = address;
    ranks_run(RANKS, link_in_vain, &refusal);
    fake_network_free(refusal.network);
}

START_TEST(a_rank_without_an_address_ends_the_linking_at_all)
{
    refuse(no_address, TALLY_ERR_SYSTEM, "rank 103: no network card");
}
END_TEST

START_TEST(an_address_of_absurd_length_is_refused_by_all)
{
    refuse(endless_address, TALLY_ERR_TRANSPORT, "an address of 1048576 bytes");
}
END_TEST

// ----------------------------------------------------------- kept memory

static void keep_three(struct ranks_member *member)
{
    struct fake_network *network = member->argument;
    struct opened opened;

    opened_begin(&opened, member, network);
    ck_assert_int_eq(opened_link(&opened, fake_network_ops(network)), TALLY_OK);
    for (size_t i = 0; i < 3; i++) {
        struct links_kept *kept = malloc(sizeof(*kept) + 100 * i);

        ck_assert_ptr_nonnull(kept);
        links_keep_take(opened.links, kept);
    }
    opened_end(&opened, network);
}

// The leak and address sanitizers judge.
START_TEST(kept_memory_lives_as_long_as_the_links)
{
    struct fake_options options = fake_options_calm(1);
    struct fake_network *network = fake_network_create(1, &options);

    ranks_run(1, keep_three, network);
    fake_network_free(network);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collective links");
    TCase *tests = tcase_create("links");

    tcase_add_test(tests, an_endpoint_is_made_when_first_used_and_once);
    tcase_add_test(tests, groups_that_come_and_go_share_their_endpoints);
    tcase_add_test(
        tests, endpoints_lead_to_their_ranks_though_addresses_differ_in_length);
    tcase_add_test(tests, a_rank_that_cannot_be_reached_is_an_error_each_time);
    tcase_add_test(tests, ranks_of_one_process_share_a_directory);
    tcase_add_test(tests, a_rank_without_an_address_ends_the_linking_at_all);
    tcase_add_test(tests, an_address_of_absurd_length_is_refused_by_all);
    tcase_add_test(tests, kept_memory_lives_as_long_as_the_links);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
