// SPDX-License-Identifier: BSD-3-Clause
// See ranks.h.
#include "run/ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "run/lines.h"

// From SIGTERM to SIGKILL.
#define TERMINATE_US 2000000
// Two pipes a rank, and what else is open.
#define FILES_OF_RANK 2
#define FILES_ELSE 64
// Ranks named in a message before "and 13 more".
#define RANKS_NAMED 8
#define EVENTS_MAX 64

struct rank {
    pid_t pid; // 0: not running
    struct run_lines out[FILES_OF_RANK];
};

enum phase { PHASE_RUN, PHASE_GRACE, PHASE_TERMINATE, PHASE_KILL };

struct run {
    const struct run_options *options;
    struct rank *ranks;
    int32_t running;
    int root; // the socket that reserves root_port
    uint16_t root_port;
    int epoll;
    int signals;
    enum phase phase;
    int64_t deadline_us; // of the phase; 0: none
    int passed_signal;   // the last one passed on; 0: none
    int status;          // what to exit with
    // As we found them, for the ranks.
    sigset_t mask;
    struct rlimit files;
};

// --------------------------------------------------------------------- set-up

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "tally_run: %s: %s\n", what, strerror(errno));
    exit(RUN_EXIT_OURS); // ranks that run already get SIGKILL (rank_exec)
}

// A free port of 127.0.0.1. It is bound until we end, so that nobody else gets
// it: neither another tally_run nor an outgoing connection. Linux lets a second
// socket bind and listen where both have SO_REUSEADDR and the first does not
// listen. Ours gets the option only when it is bound, so that it is the only
// one.
static void root_port_reserve(struct run *run)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(address);
    int on = 1;

    run->root = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (run->root < 0 ||
        bind(run->root, (struct sockaddr *)&address, bytes) < 0 ||
        getsockname(run->root, (struct sockaddr *)&address, &bytes) < 0 ||
        setsockopt(run->root, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        fail("cannot reserve a port of 127.0.0.1");
    run->root_port = ntohs(address.sin_port);
}

static void file_limit_raise(struct run *run)
{
    rlim_t need = (rlim_t)run->options->ranks * FILES_OF_RANK + FILES_ELSE;
    struct rlimit raised;

    if (getrlimit(RLIMIT_NOFILE, &run->files) < 0)
        fail("getrlimit");
    raised = run->files;
    if (raised.rlim_cur >= need)
        return;
    raised.rlim_cur = need;
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0)
        fail("cannot raise the limit of open files (ulimit -n)");
}

// Signals come by a file descriptor only. One that we were told to ignore
// (nohup) stays ignored.
static void signals_open(struct run *run)
{
    static const int passed[] = {SIGINT, SIGTERM, SIGHUP};
    struct epoll_event event = {.events = EPOLLIN};
    struct sigaction found;
    sigset_t watched;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); // not ignored, or nobody could be waited for
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
        if (sigaction(passed[i], NULL, &found) == 0 &&
            found.sa_handler != SIG_IGN)
            sigaddset(&watched, passed[i]);
    }
    if (sigprocmask(SIG_BLOCK, &watched, &run->mask) < 0)
        fail("sigprocmask");
    run->signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run->signals < 0 || run->epoll < 0 ||
        epoll_ctl(run->epoll, EPOLL_CTL_ADD, run->signals, &event) < 0)
        fail("cannot watch signals");
}

// --------------------------------------------------------------------- launch

static void env_set(const char *name, const char *format, const char *text,
                    int number)
{
    char value[64];

    snprintf(value, sizeof(value), format, text, number);
    if (setenv(name, value, 1) < 0)
        _exit(RUN_EXIT_OURS);
}

static void rank_env_set(const struct run *run, int32_t rank)
{
    const struct run_options *options = run->options;

    env_set("TALLY_RANK", "%s%d", "", rank);
    env_set("TALLY_WORLD_SIZE", "%s%d", "", options->ranks);
    env_set("TALLY_LOCAL_SIZE", "%s%d", "", options->ranks);
    env_set("TALLY_ROOT", "%s:%d", "127.0.0.1", run->root_port);
    if (options->nodes > 0)
        env_set("TALLY_NODE", "%s%d", "node",
                rank * options->nodes / options->ranks);
}

// The child's side: becomes the rank, or sends errno to `failed`.
_Noreturn static void rank_exec(const struct run *run, int32_t rank,
                                const int *out, pid_t parent, int failed)
{
    int input = open("/dev/null", O_RDONLY | O_CLOEXEC);

    // The rank dies with us, also where we died before this call.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(RUN_EXIT_OURS);
    setpgid(0, 0);
    dup2(input, STDIN_FILENO);
    if (run->options->prefix) {
        dup2(out[0], STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
    }
    rank_env_set(run, rank);
    setrlimit(RLIMIT_NOFILE, &run->files);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &run->mask, NULL);
    execvp(run->options->command[0], run->options->command);
    int error = errno;
    if (write(failed, &error, sizeof(error)) < 0)
        _exit(RUN_EXIT_OURS);
    _exit(error == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_CANNOT_RUN);
}

static void rank_output_open(struct run *run, int32_t index, int *write_ends)
{
    struct rank *rank = &run->ranks[index];
    FILE *const to[FILES_OF_RANK] = {stdout, stderr};

    for (int i = 0; i < FILES_OF_RANK; i++) {
        rank->out[i].from = -1;
        write_ends[i] = -1;
        if (!run->options->prefix)
            continue;
        struct epoll_event event = {.events = EPOLLIN,
                                    .data.ptr = &rank->out[i]};
        if (run_lines_open(&rank->out[i], index, to[i], &write_ends[i]) < 0 ||
            epoll_ctl(run->epoll, EPOLL_CTL_ADD, rank->out[i].from, &event) < 0)
            fail("cannot make a pipe");
    }
}

// Starts a rank. `failed`: where it reports that it cannot run the command.
static void rank_start(struct run *run, int32_t index, int failed)
{
    int write_ends[FILES_OF_RANK];
    pid_t parent = getpid();

    rank_output_open(run, index, write_ends);
    pid_t pid = fork();
    if (pid < 0)
        fail("cannot fork");
    if (pid == 0)
        rank_exec(run, index, write_ends, parent, failed);
    // Here and in the child, so that it is done whoever runs first.
    setpgid(pid, pid);
    run->ranks[index].pid = pid;
    run->running++;
    for (int i = 0; i < FILES_OF_RANK; i++) {
        if (write_ends[i] >= 0)
            close(write_ends[i]);
    }
}

// Rank 0 first and alone until it runs: a command that cannot be run is told
// once.
static void ranks_start(struct run *run)
{
    int failed[2];
    int error;

    if (pipe2(failed, O_CLOEXEC) < 0)
        fail("cannot make a pipe");
    rank_start(run, 0, failed[1]);
    close(failed[1]);
    if (read(failed[0], &error, sizeof(error)) == (ssize_t)sizeof(error)) {
        fprintf(stderr, "tally_run: cannot run '%s': %s\n",
                run->options->command[0], strerror(error));
        exit(error == ENOENT ? RUN_EXIT_NOT_FOUND : RUN_EXIT_CANNOT_RUN);
    }
    close(failed[0]);
    for (int32_t i = 1; i < run->options->ranks; i++)
        rank_start(run, i, -1);
}

// -------------------------------------------------------------------- the run

static void ranks_signal(const struct run *run, int signal_number)
{
    for (int32_t i = 0; i < run->options->ranks; i++) {
        if (run->ranks[i].pid > 0)
            kill(-run->ranks[i].pid, signal_number);
    }
}

// Prints "tally_run: SENTENCE: ranks 0, 2 and 13 more".
static void ranks_name(const struct run *run, const char *sentence)
{
    int32_t named = 0;

    fprintf(stderr, "tally_run: %s: rank%s", sentence,
            run->running > 1 ? "s" : "");
    for (int32_t i = 0; i < run->options->ranks && named < RANKS_NAMED; i++) {
        if (run->ranks[i].pid > 0)
            fprintf(stderr, "%s %d", named++ > 0 ? "," : "", (int)i);
    }
    if (named < run->running)
        fprintf(stderr, " and %d more", (int)(run->running - named));
    putc('\n', stderr);
    fflush(stderr);
}

static void phase_enter(struct run *run, enum phase phase, int64_t lasts_us)
{
    run->phase = phase;
    run->deadline_us = lasts_us >= 0 ? clock_now_us() + lasts_us : 0;
}

static void phase_deadline_pass(struct run *run)
{
    char sentence[64];

    switch (run->phase) {
    case PHASE_RUN:
        snprintf(sentence, sizeof(sentence), "timeout after %g s, ending",
                 (double)run->options->timeout_us / 1e6);
        run->status = RUN_EXIT_TIMEOUT;
        break;
    case PHASE_GRACE:
        snprintf(sentence, sizeof(sentence), "still running after %g s, ending",
                 (double)run->options->grace_us / 1e6);
        if (run->status == 0)
            run->status = RUN_EXIT_SIGNAL + run->passed_signal;
        break;
    case PHASE_TERMINATE:
        ranks_name(run, "SIGTERM did not end, killing");
        ranks_signal(run, SIGKILL);
        phase_enter(run, PHASE_KILL, -1);
        return;
    case PHASE_KILL:
        return;
    }
    ranks_name(run, sentence);
    ranks_signal(run, SIGTERM);
    phase_enter(run, PHASE_TERMINATE, TERMINATE_US);
}

// Whether the rank did what it was told, rather than fail by itself.
static bool death_expected(const struct run *run, int wait_status)
{
    return run->phase >= PHASE_TERMINATE ||
           (WIFSIGNALED(wait_status) && run->passed_signal != 0 &&
            WTERMSIG(wait_status) == run->passed_signal);
}

static void rank_failure_take(struct run *run, int32_t rank, int wait_status)
{
    bool by_signal = WIFSIGNALED(wait_status);
    int code = by_signal ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status);

    if (run->status == 0)
        run->status = by_signal ? RUN_EXIT_SIGNAL + code : code;
    if (death_expected(run, wait_status))
        return;
    if (by_signal)
        fprintf(stderr, "tally_run: rank %d was killed by signal %d (%s)\n",
                (int)rank, code, strsignal(code));
    else
        fprintf(stderr, "tally_run: rank %d exited with status %d\n", (int)rank,
                code);
    fflush(stderr);
    if (run->phase == PHASE_RUN && !run->options->keep_going)
        phase_enter(run, PHASE_GRACE, run->options->grace_us);
}

static int32_t rank_of(const struct run *run, pid_t pid)
{
    for (int32_t i = 0; i < run->options->ranks; i++) {
        if (run->ranks[i].pid == pid)
            return i;
    }
    return -1;
}

static void ranks_reap(struct run *run)
{
    siginfo_t ended = {.si_pid = 0};
    int wait_status;

    // WNOWAIT: until it is waited for, the number names this group and no
    // other, so the rest of it can be killed safely.
    while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           ended.si_pid != 0) {
        pid_t pid = ended.si_pid;
        int32_t index = rank_of(run, pid);
        if (index >= 0)
            kill(-pid, SIGKILL);
        if (waitpid(pid, &wait_status, 0) == pid && index >= 0) {
            struct rank *rank = &run->ranks[index];
            rank->pid = 0;
            run->running--;
            for (int i = 0; i < FILES_OF_RANK; i++)
                run_lines_drain(&rank->out[i]);
            if (wait_status != 0)
                rank_failure_take(run, index, wait_status);
        }
        ended.si_pid = 0;
    }
}

static void signals_take(struct run *run)
{
    struct signalfd_siginfo taken;

    while (read(run->signals, &taken, sizeof(taken)) ==
           (ssize_t)sizeof(taken)) {
        int number = (int)taken.ssi_signo;
        if (number == SIGCHLD) {
            ranks_reap(run);
            continue;
        }
        run->passed_signal = number;
        ranks_signal(run, number);
        if (run->phase == PHASE_RUN)
            phase_enter(run, PHASE_GRACE, run->options->grace_us);
    }
}

static int wait_ms(const struct run *run)
{
    if (run->deadline_us == 0)
        return -1;
    int64_t left_us = run->deadline_us - clock_now_us();
    if (left_us <= 0)
        return 0;
    return left_us < 1000000 ? (int)(left_us / 1000 + 1) : 1000;
}

static void ranks_watch(struct run *run)
{
    struct epoll_event events[EVENTS_MAX];

    if (run->options->timeout_us > 0)
        phase_enter(run, PHASE_RUN, run->options->timeout_us);
    while (run->running > 0) {
        int count = epoll_wait(run->epoll, events, EVENTS_MAX, wait_ms(run));
        for (int i = 0; i < count; i++) {
            struct run_lines *lines = events[i].data.ptr;
            if (lines == NULL)
                signals_take(run);
            else if (lines->from >= 0 && !run_lines_read(lines))
                run_lines_close(lines);
        }
        if (run->deadline_us != 0 && clock_now_us() >= run->deadline_us)
            phase_deadline_pass(run);
    }
}

int run_ranks(const struct run_options *options)
{
    struct run run = {.options = options};

    run.ranks = calloc((size_t)options->ranks, sizeof(*run.ranks));
    if (run.ranks == NULL)
        fail("no memory");
    // So that a line and its prefix are one write.
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    setvbuf(stderr, NULL, _IOFBF, BUFSIZ);
    file_limit_raise(&run);
    signals_open(&run);
    root_port_reserve(&run);
    ranks_start(&run);
    ranks_watch(&run);
    for (int32_t i = 0; i < options->ranks; i++) {
        for (int k = 0; k < FILES_OF_RANK; k++)
            run_lines_close(&run.ranks[i].out[k]);
    }
    close(run.root);
    close(run.epoll);
    close(run.signals);
    free(run.ranks);
    return run.status;
}
