// SPDX-License-Identifier: BSD-3-Clause
// Threads that rest when the process exits: each scene is a process of its own,
// as a process exits once.
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "core/park.h"
#include "harness/processes.h"

// A thread that sleeps until it is woken, and counts what it does.
struct sleeping {
    struct park_thread thread;
    int wake_fd;
    atomic_bool stop, turns, ended;
    atomic_int *wakes; // that children of fork() share
    void (*turn)(void);
};

static void nap_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

static void wake(void *argument)
{
    struct sleeping *sleeping = argument;
    const uint64_t one = 1;

    atomic_fetch_add(sleeping->wakes, 1);
    EXPECT(write(sleeping->wake_fd, &one, sizeof(one)) == sizeof(one));
}

static void *sleep_and_turn(void *argument)
{
    struct sleeping *sleeping = argument;
    struct pollfd fd = {sleeping->wake_fd, POLLIN, 0};
    uint64_t wakes;

    while (!atomic_load(&sleeping->stop)) {
        atomic_store(&sleeping->turns, true);
        if (sleeping->turn != NULL)
            sleeping->turn();
        poll(&fd, 1, -1);
        EXPECT(read(sleeping->wake_fd, &wakes, sizeof(wakes)) > 0);
        park_here(&sleeping->thread);
    }
    atomic_store(&sleeping->ended, true);
    return NULL;
}

static void begin(struct sleeping *sleeping, void (*turn)(void))
{
    if (sleeping->wakes == NULL)
        sleeping->wakes = mmap(NULL, sizeof(atomic_int), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sleeping->wake_fd = eventfd(0, EFD_CLOEXEC);
    sleeping->turn = turn;
    atomic_store(&sleeping->turns, false);
    EXPECT(park_start(&sleeping->thread, sleep_and_turn, wake, sleeping) == 0);
}

static void await(atomic_bool *flag)
{
    for (int i = 0; i < 5000 && !atomic_load(flag); i++)
        nap_ms(1);
    EXPECT(atomic_load(flag));
}

static void do_elsewhere(void *(*body)(void *argument))
{
    pthread_t elsewhere;

    EXPECT(pthread_create(&elsewhere, NULL, body, NULL) == 0);
    pthread_join(elsewhere, NULL);
}

static struct sleeping one, two;

static void end(struct sleeping *sleeping)
{
    atomic_store(&sleeping->stop, true);
    wake(sleeping);
    park_join(&sleeping->thread);
    EXPECT(atomic_load(&sleeping->ended));
}

// ---------------------------------------------------------------------- exit

static bool rests_at_exit;

// Registered before park_at_exit, and so called after Tally's.
static void see_whether_all_rest(void)
{
    atomic_store(&one.turns, false);
    nap_ms(20);
    EXPECT(park_all() == rests_at_exit);
    EXPECT(!rests_at_exit || !atomic_load(&one.turns));
}

static void exit_seen(bool rests, int status)
{
    rests_at_exit = rests;
    atexit(see_whether_all_rest);
    park_at_exit();
    exit(status);
}

static void exit_beside_a_thread(void)
{
    begin(&one, NULL);
    await(&one.turns);
    exit_seen(true, 41);
}

START_TEST(a_thread_is_woken_and_rests_before_the_process_ends)
{
    ck_assert_int_eq(processes_exit_status(exit_beside_a_thread, 0), 41);
}
END_TEST

static void stay(void)
{
    for (;;)
        pause();
}

static void exit_beside_one_that_never_comes(void)
{
    begin(&one, NULL);
    begin(&two, stay);
    await(&two.turns);
    exit_seen(false, 42);
}

START_TEST(exit_goes_on_without_a_thread_that_never_comes)
{
    ck_assert_int_eq(processes_exit_status(exit_beside_one_that_never_comes, 0),
                     42);
}
END_TEST

static void exit_itself(void)
{
    await(&one.turns);
    exit_seen(true, 43);
}

static void wait_for_a_thread_that_exits(void)
{
    begin(&one, NULL);
    begin(&two, exit_itself);
    stay();
}

START_TEST(a_thread_may_exit_itself)
{
    ck_assert_int_eq(processes_exit_status(wait_for_a_thread_that_exits, 0),
                     43);
}
END_TEST

static void end_thread(void)
{
    pthread_exit(NULL);
}

static void join_two(void)
{
    park_join(&two.thread);
}

static void exit_after_one_that_was_ended(void)
{
    atexit(join_two);
    begin(&two, end_thread);
    await(&two.turns);
    exit_seen(true, 44);
}

START_TEST(a_thread_that_a_callback_has_ended_is_not_waited_for)
{
    ck_assert_int_eq(processes_exit_status(exit_after_one_that_was_ended, 0),
                     44);
}
END_TEST

// ------------------------------------------------------------- other threads

static atomic_bool begun, over;

static void await_exit(void)
{
    atomic_store(&begun, true);
    for (int i = 0; i < 5000 && !park_silences(); i++)
        nap_ms(1);
    nap_ms(20);
}

static void *call(void *argument)
{
    EXPECT(park_call_begins());
    await_exit();
    EXPECT(park_call_begins()); // it is a part of it
    park_call_ends();
    atomic_store(&over, true);
    park_call_ends();
    return argument;
}

static void begin_beside(void *(*body)(void *argument))
{
    pthread_t beside;

    EXPECT(pthread_create(&beside, NULL, body, NULL) == 0);
    EXPECT(pthread_detach(beside) == 0);
}

static void see_whether_it_is_over(void)
{
    EXPECT(park_all());
    EXPECT(atomic_load(&over));
}

static void exit_beside_a_call(void)
{
    atexit(see_whether_it_is_over);
    begin_beside(call);
    await(&begun);
    park_at_exit();
    EXPECT(park_call_begins()); // its own is not waited for
    begin(&one, NULL);
    exit(46);
}

START_TEST(a_call_that_closes_is_waited_for)
{
    ck_assert_int_eq(processes_exit_status(exit_beside_a_call, 0), 46);
}
END_TEST

static void *call_too_late(void *argument)
{
    EXPECT(!park_call_begins());
    return argument;
}

static void call_after_all_rest(void)
{
    EXPECT(park_all());
    do_elsewhere(call_too_late);
    EXPECT(park_call_begins());
    park_call_ends();
}

START_TEST(only_who_exits_may_begin_a_call_then)
{
    ck_assert_int_eq(processes_exit_status(call_after_all_rest, 0), 0);
}
END_TEST

static void *end_two(void *argument)
{
    end(&two);
    atomic_store(&over, true);
    return argument;
}

static void see_it_end(void)
{
    EXPECT(park_all());
    await(&over);
}

static void exit_beside_who_ends_a_thread(void)
{
    atexit(see_it_end);
    begin(&two, await_exit);
    await(&begun);
    begin_beside(end_two);
    nap_ms(20); // it joins by then, most often
    park_at_exit();
    exit(47);
}

START_TEST(a_thread_that_is_being_ended_ends)
{
    ck_assert_int_eq(processes_exit_status(exit_beside_who_ends_a_thread, 0),
                     47);
}
END_TEST

// ---------------------------------------------------------------------- fork

static void see_it_exit(pid_t child, int expected)
{
    int status;

    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == expected);
}

static void exit_in_child(bool with_handlers)
{
    begin(&one, NULL);
    await(&one.turns);
    park_at_exit();
    pid_t child = with_handlers
                      ? fork()
                      : (pid_t)syscall(SYS_clone, SIGCHLD, NULL, 0, 0, 0);
    EXPECT(child >= 0);
    if (child == 0) {
        EXPECT(park_all());
        exit(45);
    }
    see_it_exit(child, 45);
    EXPECT(atomic_load(one.wakes) == 0);
    EXPECT(park_all());
}

static void exit_in_child_of_fork(void)
{
    exit_in_child(true);
}

static void exit_in_child_of_clone(void)
{
    exit_in_child(false);
}

START_TEST(a_child_waits_for_no_threads_of_its_parent)
{
    ck_assert_int_eq(processes_exit_status(exit_in_child_of_fork, 0), 0);
    ck_assert_int_eq(processes_exit_status(exit_in_child_of_clone, 0), 0);
}
END_TEST

static void exit_in_child_with_a_thread(void)
{
    begin(&one, NULL);
    await(&one.turns);
    pid_t child = fork();
    if (child == 0)
        exit_beside_a_thread();
    see_it_exit(child, 41);
}

START_TEST(a_child_waits_for_threads_of_its_own)
{
    ck_assert_int_eq(processes_exit_status(exit_in_child_with_a_thread, 0), 0);
}
END_TEST

static void end_one(void)
{
    end(&one);
}

static void end_before_fork(void)
{
    pthread_atfork(end_one, NULL, NULL);
    begin(&one, NULL);
    pid_t child = fork();
    if (child == 0)
        exit(EXIT_SUCCESS);
    see_it_exit(child, EXIT_SUCCESS);
}

START_TEST(a_handler_of_fork_may_close)
{
    ck_assert_int_eq(processes_exit_status(end_before_fork, 0), 0);
}
END_TEST

// --------------------------------------------------------------------- after

static void end_after_all_rest(void)
{
    begin(&one, NULL);
    await(&one.turns);
    EXPECT(park_all());
    end(&one);
    EXPECT(park_all());
    // It needs them.
    begin(&two, NULL);
    await(&two.turns);
    atomic_store(&two.turns, false);
    wake(&two);
    await(&two.turns);
    end(&two);
}

START_TEST(who_exits_may_still_close_and_open)
{
    ck_assert_int_eq(processes_exit_status(end_after_all_rest, 0), 0);
}
END_TEST

static void *begin_two(void *argument)
{
    (void)argument;
    begin(&two, NULL);
    return NULL;
}

static void begin_elsewhere_after_all_rest(void)
{
    begin(&one, NULL);
    EXPECT(park_all());
    do_elsewhere(begin_two);
    wake(&two);
    for (int i = 0; i < 5000 && !park_all(); i++)
        nap_ms(1);
    EXPECT(park_all());
}

START_TEST(a_thread_that_another_begins_meanwhile_rests)
{
    ck_assert_int_eq(processes_exit_status(begin_elsewhere_after_all_rest, 0),
                     0);
}
END_TEST

// ----------------------------------------------------------------------- log

static atomic_int lines;

static void count_line(void *context, tally_log_level_t level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
    atomic_fetch_add(&lines, 1);
}

static void *say(void *argument)
{
    static const struct core_log sink = {TALLY_LOG_WARN, 0, count_line, NULL};

    core_log(&sink, TALLY_LOG_WARN, "a line");
    return argument;
}

static void say_before_and_after(void)
{
    begin(&one, NULL);
    do_elsewhere(say);
    EXPECT(atomic_load(&lines) == 1);
    EXPECT(park_all());
    do_elsewhere(say);
    EXPECT(atomic_load(&lines) == 1);
    say(NULL);
    EXPECT(atomic_load(&lines) == 2);
}

START_TEST(only_who_exits_calls_the_hosts_log)
{
    ck_assert_int_eq(processes_exit_status(say_before_and_after, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("park");
    TCase *tests = tcase_create("park");

    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_thread_is_woken_and_rests_before_the_process_ends);
    tcase_add_test(tests, exit_goes_on_without_a_thread_that_never_comes);
    tcase_add_test(tests, a_thread_may_exit_itself);
    tcase_add_test(tests, a_thread_that_a_callback_has_ended_is_not_waited_for);
    tcase_add_test(tests, a_call_that_closes_is_waited_for);
    tcase_add_test(tests, only_who_exits_may_begin_a_call_then);
    tcase_add_test(tests, a_thread_that_is_being_ended_ends);
    tcase_add_test(tests, a_child_waits_for_no_threads_of_its_parent);
#if !defined(__SANITIZE_THREAD__) // whose children may start no threads
    tcase_add_test(tests, a_child_waits_for_threads_of_its_own);
#else
    (void)a_child_waits_for_threads_of_its_own;
#endif
    tcase_add_test(tests, a_handler_of_fork_may_close);
    tcase_add_test(tests, who_exits_may_still_close_and_open);
    tcase_add_test(tests, a_thread_that_another_begins_meanwhile_rests);
    tcase_add_test(tests, only_who_exits_calls_the_hosts_log);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
