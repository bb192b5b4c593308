// SPDX-License-Identifier: BSD-3-Clause
// Tests of how waiting ranks sleep (order/thread.c, order/sleeper.h,
// collective/wake.h): whoever is awaited wakes them, and no wake is lost. The
// threads look by themselves only once an hour here, so a wake that is lost
// hangs the test.
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "harness/queues.h"
#include "harness/random.h"
#include "order/progress.h"
#include "order/sleeper.h"

#define LONG_US 3600000000ll
#define RANKS 3

static struct queues queues;
static struct progress *engines[RANKS]; // one a rank, as processes have

static void sleep_us(int64_t us)
{
    struct timespec time = {us / 1000000, us % 1000000 * 1000};

    nanosleep(&time, NULL);
}

// ----------------------------------------------- a transport with descriptors

// The fake one with what it lacks: a message makes the descriptor of whom it is
// for readable, and progress takes that away.
static const tally_transport_ops_t *fake;
static int fds[RANKS];
static tally_transport_t *transports[RANKS];
static atomic_int looks[RANKS]; // calls of progress

static void ring(int32_t rank)
{
    static const uint64_t one = 1;

    ck_assert_int_eq(write(fds[rank], &one, sizeof(one)), sizeof(one));
}

static int index_of(const tally_transport_t *transport)
{
    int index = 0;

    while (transports[index] != transport)
        index++;
    return index;
}

static bool stuck; // it stays readable

static int look_and_clear(tally_transport_t *transport)
{
    uint64_t rung;

    atomic_fetch_add(&looks[index_of(transport)], 1);
    if (!stuck && read(fds[index_of(transport)], &rung, sizeof(rung)) < 0)
        rung = 0;
    return fake->progress(transport);
}

static tally_status_t arm_descriptor(tally_transport_t *transport, int *fd)
{
    *fd = fds[index_of(transport)];
    return TALLY_OK;
}

static const struct tally_transport_ops *with_descriptors(void)
{
    static tally_transport_ops_t ops;

    fake = fake_network_ops(queues.job.network);
    ops = *fake;
    ops.progress = look_and_clear;
    ops.wait_fd = arm_descriptor;
    return &ops;
}

// -------------------------------------------------------------------- engines

enum way { IN_MEMORY, BY_DESCRIPTOR, BY_POLLING, WAYS };

static void open_engine(int32_t rank, const tally_transport_ops_t *ops)
{
    const struct progress_params params = {.spin_us = 20, .look_us = LONG_US};

    ck_assert_int_eq(progress_create(&params, &engines[rank]), TALLY_OK);
    if (ops != NULL) {
        ck_assert_int_eq(
            progress_add_transport(engines[rank], ops, transports[rank]),
            TALLY_OK);
    }
    progress_attach(engines[rank], queues.ranks[rank].queue);
    ck_assert_int_eq(progress_start(engines[rank]), TALLY_OK);
}

static void engines_open(enum way way)
{
    struct fake_options options = fake_options_calm(1);
    const tally_transport_ops_t *ops = NULL;

    options.arrived = way == BY_DESCRIPTOR ? ring : NULL;
    queues_open(&queues, RANKS, way == IN_MEMORY ? NULL : &options, LONG_US);
    if (way == BY_DESCRIPTOR)
        ops = with_descriptors();
    else if (way == BY_POLLING)
        ops = fake_network_ops(queues.job.network);
    // All of it before the first engine's thread looks.
    for (int32_t rank = 0; rank < RANKS && ops != NULL; rank++) {
        fds[rank] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        transports[rank] = queues.job.ranks[rank].transport;
    }
    for (int32_t rank = 0; rank < RANKS; rank++)
        open_engine(rank, ops);
}

static void engines_close(void)
{
    for (int32_t rank = 0; rank < RANKS; rank++) {
        progress_detach(engines[rank], queues.ranks[rank].queue);
        progress_drop_transport(engines[rank], transports[rank]);
        progress_free(engines[rank]);
    }
    for (int32_t rank = 0; rank < RANKS && transports[rank] != NULL; rank++) {
        close(fds[rank]);
        transports[rank] = NULL;
    }
    queues_close(&queues);
}

static void reduce(int32_t rank, uint64_t ticket)
{
    int64_t lanes[QUEUES_LANES];
    struct queue *queue = queues.ranks[rank].queue;

    queues_fill(&queues, rank, ticket, lanes);
    progress_post(engines[rank], queue, lanes, ticket);
    tally_status_t status = progress_wait(engines[rank], queue, ticket, lanes);
    if (status != TALLY_OK || !queues_right(&queues, ticket, lanes))
        ck_abort_msg("rank %d, ticket %d: %d", (int)rank, (int)ticket,
                     (int)status);
}

static int epochs(int usual)
{
    const char *fewer = getenv("EPOCHS");

    return fewer != NULL ? atoi(fewer) : usual;
}

// Each rank in turn is late by what it takes the others to fall asleep, more or
// less: they are caught before, while and after they do.
static void come_late(struct ranks_member *member)
{
    struct random random = random_seeded(7);
    int reductions = epochs(150);

    for (int i = 0; i < reductions; i++) {
        int64_t late_us = 4000 + (int64_t)random_below(&random, 3000);

        if (i % RANKS == member->rank)
            sleep_us(late_us);
        reduce(member->rank, (uint64_t)i + 1);
    }
}

START_TEST(who_waits_for_a_late_rank_is_woken_by_it)
{
    engines_open((enum way)_i);
    ranks_run(RANKS, come_late, NULL);
    engines_close();
}
END_TEST

// ------------------------------------------------------- what it costs to wait

static int64_t cpu_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static atomic_llong cost_us;

static void wait_a_second(struct ranks_member *member)
{
    enum { LATE_US = 1000000, ASLEEP_US = 50000 };

    if (member->rank == 0) {
        sleep_us(ASLEEP_US);
        int64_t before_us = cpu_us();
        sleep_us(LATE_US);
        atomic_store(&cost_us, cpu_us() - before_us);
    }
    reduce(member->rank, 1);
}

// 3 % of a processor for all three; nearer to 0.3 %.
START_TEST(to_wait_costs_next_to_nothing)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    return;
#endif
    engines_open((enum way)_i);
    ranks_run(RANKS, wait_a_second, NULL);
    ck_assert_int_lt(atomic_load(&cost_us), _i == BY_POLLING ? 200000 : 100000);
    engines_close();
}
END_TEST

// ------------------------------------------- others of the process meanwhile

static void *poll_often(void *argument)
{
    const atomic_bool *stop = argument;

    while (!atomic_load(stop)) {
        progress_poll(engines[1]);
        sleep_us(300);
    }
    return NULL;
}

// It takes what would have woken the thread, and may leave the rest to it.
START_TEST(another_thread_that_polls_takes_no_wake_away)
{
    atomic_bool stop = false;
    pthread_t thread;

    engines_open((enum way)_i);
    ck_assert_int_eq(pthread_create(&thread, NULL, poll_often, &stop), 0);
    ranks_run(RANKS, come_late, NULL);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    engines_close();
}
END_TEST

START_TEST(who_polls_makes_the_sleeping_thread_look_again)
{
    enum { QUIET_US = 50000, LOOKS = 2 }; // the poll's own, and the thread's
    int64_t lanes[QUEUES_LANES];
    int before;

    engines_open(BY_DESCRIPTOR);
    queues_fill(&queues, 0, 1, lanes);
    progress_post(engines[0], queues.ranks[0].queue, lanes, 1);
    do {
        before = atomic_load(&looks[0]);
        sleep_us(QUIET_US);
    } while (atomic_load(&looks[0]) != before);
    progress_poll(engines[0]);
    while (atomic_load(&looks[0]) < before + LOOKS)
        sleep_us(1000); // a hang, if it does not
    engines_close();
}
END_TEST

START_TEST(a_descriptor_that_is_always_readable_costs_little)
{
    enum { ASLEEP_US = 50000, WATCHED_US = 300000, LOOKS_MAX = 3000 };
    int64_t lanes[QUEUES_LANES];

    stuck = true;
    engines_open(BY_DESCRIPTOR);
    ring(0);
    queues_fill(&queues, 0, 1, lanes);
    progress_post(engines[0], queues.ranks[0].queue, lanes, 1);
    sleep_us(ASLEEP_US);
    int before = atomic_load(&looks[0]);
    sleep_us(WATCHED_US);
    ck_assert_int_lt(atomic_load(&looks[0]) - before, LOOKS_MAX);
    engines_close();
}
END_TEST

// ---------------------------------------------------------------- the sleeper

struct sleep_case {
    struct sleeper *sleeper;
    atomic_int rounds; // begun
    atomic_int seen;
    int total;
};

static void *sleep_again_and_again(void *argument)
{
    struct sleep_case *test = argument;

    while (atomic_load(&test->seen) < test->total) {
        sleeper_begin(test->sleeper);
        int now = atomic_load(&test->rounds);
        if (now > atomic_load(&test->seen)) {
            sleeper_stay(test->sleeper);
            atomic_store(&test->seen, now);
            continue;
        }
        sleeper_sleep(test->sleeper, 0);
    }
    return NULL;
}

START_TEST(a_wake_after_the_last_look_ends_the_sleep)
{
    struct sleep_case test = {.total = 20000};
    pthread_t thread;

    ck_assert_int_eq(sleeper_create(&test.sleeper), TALLY_OK);
    ck_assert_int_eq(
        pthread_create(&thread, NULL, sleep_again_and_again, &test), 0);
    for (int i = 1; i <= test.total; i++) {
        atomic_store(&test.rounds, i);
        sleeper_wake(test.sleeper);
        while (i % 4 == 0 && atomic_load(&test.seen) < i)
            sleep_us(1);
    }
    pthread_join(thread, NULL);
    sleeper_free(test.sleeper);
}
END_TEST

static void *nap_again_and_again(void *argument)
{
    struct sleep_case *test = argument;

    while (atomic_load(&test->seen) < test->total) {
        uint32_t rouses = sleeper_rouses(test->sleeper);
        int now = atomic_load(&test->rounds);
        if (now > atomic_load(&test->seen))
            atomic_store(&test->seen, now);
        else
            sleeper_nap(test->sleeper, rouses, LONG_US);
    }
    return NULL;
}

START_TEST(a_rouse_after_the_last_look_ends_the_nap)
{
    struct sleep_case test = {.total = 20000};
    pthread_t thread;

    ck_assert_int_eq(sleeper_create(&test.sleeper), TALLY_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, nap_again_and_again, &test),
                     0);
    for (int i = 1; i <= test.total; i++) {
        atomic_store(&test.rounds, i);
        sleeper_rouse(test.sleeper);
        while (atomic_load(&test.seen) < i)
            ;
        for (volatile int spins = i % 256; spins > 0; spins--)
            ; // meets it on its way to the nap
    }
    pthread_join(thread, NULL);
    sleeper_free(test.sleeper);
}
END_TEST

START_TEST(words_and_descriptors_are_not_slept_on_together)
{
    struct sleeper *sleeper;
    _Atomic uint32_t word = 1;
    int fd = eventfd(1, EFD_CLOEXEC);

    ck_assert_int_eq(sleeper_create(&sleeper), TALLY_OK);
    sleeper_begin(sleeper);
    ck_assert(sleeper_add_fd(sleeper, fd));
    ck_assert(!sleeper_add_word(sleeper, &word, 1));
    sleeper_sleep(sleeper, LONG_US); // it is readable
    sleeper_begin(sleeper);
    ck_assert(sleeper_add_word(sleeper, &word, 0)); // it has changed
    ck_assert(!sleeper_add_fd(sleeper, fd));
    sleeper_sleep(sleeper, LONG_US);
    sleeper_begin(sleeper);
    ck_assert(sleeper_add_word(sleeper, &word, 1));
    sleeper_wake(sleeper);
    sleeper_sleep(sleeper, LONG_US); // was woken before
    sleeper_begin(sleeper);
    ck_assert(sleeper_add_word(sleeper, &word, 1));
    sleeper_sleep(sleeper, 1000); // time has passed
    sleeper_free(sleeper);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("order sleep");
    TCase *tests = tcase_create("sleep");

    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, who_waits_for_a_late_rank_is_woken_by_it, 0,
                        WAYS);
    tcase_add_loop_test(tests, to_wait_costs_next_to_nothing, 0, WAYS);
    tcase_add_loop_test(tests, another_thread_that_polls_takes_no_wake_away, 0,
                        WAYS);
    tcase_add_test(tests, who_polls_makes_the_sleeping_thread_look_again);
    tcase_add_test(tests, a_descriptor_that_is_always_readable_costs_little);
    tcase_add_test(tests, a_wake_after_the_last_look_ends_the_sleep);
    tcase_add_test(tests, a_rouse_after_the_last_look_ends_the_nap);
    tcase_add_test(tests, words_and_descriptors_are_not_slept_on_together);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
