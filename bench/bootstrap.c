// SPDX-License-Identifier: BSD-3-Clause
// How long a job of N processes takes to come up: from before the first process
// is made to the return of each one's tally_open. Each is a real process that
// execs, as under a launcher.
#include <arpa/inet.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tally/tally.h>
#include <time.h>
#include <unistd.h>

#include "json.h"

#define RANKS_MAX 4096

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

// A rank: says on descriptor `out` when it was up, and stays until all are.
static int rank_main(int out, int64_t started_us)
{
    tally_t *tally;

    if (tally_open(NULL, &tally) != TALLY_OK) {
        fprintf(stderr, "%s\n", tally_last_error());
        return EXIT_FAILURE;
    }
    int64_t took_us = now_us() - started_us;
    if (write(out, &took_us, sizeof(took_us)) != sizeof(took_us))
        return EXIT_FAILURE;
    return tally_close(tally) == TALLY_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

// A free port, kept until we end: rank 0 may bind it too (SO_REUSEADDR).
static uint16_t reserve_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(address);
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, bytes) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        fail("cannot reserve a port");
    return ntohs(address.sin_port);
}

static void set_number(const char *name, long value)
{
    char text[32];

    snprintf(text, sizeof(text), "%ld", value);
    setenv(name, text, 1);
}

static void start_ranks(long ranks, int out, int64_t started_us)
{
    char root[32];
    char fd[16];
    char started[32];

    snprintf(root, sizeof(root), "127.0.0.1:%u", reserve_port());
    snprintf(fd, sizeof(fd), "%d", out);
    snprintf(started, sizeof(started), "%lld", (long long)started_us);
    setenv("TALLY_ROOT", root, 1);
    set_number("TALLY_WORLD_SIZE", ranks);
    set_number("TALLY_LOCAL_SIZE", ranks);
    for (long rank = 0; rank < ranks; rank++) {
        pid_t pid = fork();

        if (pid < 0)
            fail("fork");
        if (pid > 0)
            continue;
        set_number("TALLY_RANK", rank);
        execl("/proc/self/exe", "bootstrap", "--out", fd, "--started", started,
              (char *)NULL);
        _exit(EXIT_FAILURE);
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void report(long ranks, const int64_t *took_us, bool as_json)
{
    double p50_s = (double)took_us[ranks / 2] * 1e-6;
    double max_s = (double)took_us[ranks - 1] * 1e-6;
    struct json json = {.out = stdout};

    if (!as_json) {
        printf("%ld ranks: half were up after %.3f s, all after %.3f s\n",
               ranks, p50_s, max_s);
        return;
    }
    json_object_open(&json, NULL);
    json_integer(&json, "ranks", ranks);
    json_number(&json, "p50_s", p50_s, 4);
    json_number(&json, "max_s", max_s, 4);
    json_object_close(&json);
    json_end(&json);
}

static int measure(long ranks, bool as_json)
{
    static int64_t took_us[RANKS_MAX];
    int ends[2];
    int result = EXIT_SUCCESS;

    if (pipe(ends) < 0)
        fail("pipe");
    start_ranks(ranks, ends[1], now_us());
    close(ends[1]);
    for (long i = 0; i < ranks; i++)
        if (read(ends[0], &took_us[i], sizeof(took_us[i])) !=
            sizeof(took_us[i]))
            result = EXIT_FAILURE;
    for (int status; wait(&status) > 0;)
        if (status != 0)
            result = EXIT_FAILURE;
    if (result != EXIT_SUCCESS)
        return result;
    qsort(took_us, (size_t)ranks, sizeof(took_us[0]), compare);
    report(ranks, took_us, as_json);
    return result;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"ranks", required_argument, NULL, 'n'},
        {"out", required_argument, NULL, 'o'},
        {"started", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    long ranks = 64;
    bool as_json = false;
    int out = -1;
    int64_t started_us = 0;

    for (int option;
         (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 'j':
            as_json = true;
            break;
        case 'n':
            ranks = strtol(optarg, NULL, 10);
            break;
        case 'o': // of the ranks that it starts
            out = (int)strtol(optarg, NULL, 10);
            break;
        case 's':
            started_us = strtoll(optarg, NULL, 10);
            break;
        default:
            ranks = 0;
        }
    if (out >= 0)
        return rank_main(out, started_us);
    if (ranks < 2 || ranks > RANKS_MAX) {
        fprintf(stderr, "usage: bootstrap [--json] [--ranks 2..%d]\n",
                RANKS_MAX);
        return EXIT_FAILURE;
    }
    return measure(ranks, as_json);
}
