// SPDX-License-Identifier: BSD-3-Clause
// How long a job of N processes takes to come up: from before the first process
// is made to the return of each one's tally_open; and what that costs rank 0,
// to which all come. Each is a real process that execs, as under a launcher.
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

// What a rank says of itself once it is up.
struct arrival {
    int64_t took_us;
    int64_t resident_kib; // at most, so far
    int64_t connections;  // at most, at once; of rank 0 only, others: 0
};

static int64_t resident_most_kib(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kib = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "VmHWM: %ld kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib;
}

// Rank 0 says how many connections it had in a line for people.
static void note_connections(void *context, tally_log_level_t level,
                             const char *line)
{
    struct arrival *arrival = context;
    int ranks, connections;

    if (sscanf(line, "all %d ranks have come, at most %d connections", &ranks,
               &connections) == 2)
        arrival->connections = connections;
    else if (level <= TALLY_LOG_WARN)
        fprintf(stderr, "%s\n", line);
}

// A rank: says on descriptor `out` when it was up, and stays until all are.
static int rank_main(int out, int64_t started_us)
{
    tally_host_t host = TALLY_INIT(tally_host_t);
    struct arrival arrival = {0};
    tally_t *tally;

    host.context = &arrival;
    host.log = note_connections;
    if (tally_open(&host, &tally) != TALLY_OK)
        return EXIT_FAILURE;
    arrival.took_us = now_us() - started_us;
    arrival.resident_kib = resident_most_kib();
    if (write(out, &arrival, sizeof(arrival)) != sizeof(arrival))
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

static void start_ranks(long ranks, bool reverse, int out, int64_t started_us)
{
    char root[32];
    char fd[16];
    char started[32];

    snprintf(root, sizeof(root), "127.0.0.1:%u", reserve_port());
    snprintf(fd, sizeof(fd), "%d", out);
    snprintf(started, sizeof(started), "%lld", (long long)started_us);
    setenv("TALLY_ROOT", root, 1);
    setenv("TALLY_LOG", "info", 1);
    set_number("TALLY_WORLD_SIZE", ranks);
    set_number("TALLY_LOCAL_SIZE", ranks);
    for (long i = 0; i < ranks; i++) {
        long rank = reverse ? ranks - 1 - i : i;
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
    int64_t x = ((const struct arrival *)a)->took_us;
    int64_t y = ((const struct arrival *)b)->took_us;

    return (x > y) - (x < y);
}

static void report(long ranks, const struct arrival *arrivals, bool as_json)
{
    double p50_s = (double)arrivals[ranks / 2].took_us * 1e-6;
    double max_s = (double)arrivals[ranks - 1].took_us * 1e-6;
    const struct arrival *root = arrivals;

    while (root->connections == 0 && root < arrivals + ranks - 1)
        root++;
    struct json json = {.out = stdout};

    if (!as_json) {
        printf(
            "%ld ranks: half were up after %.3f s, all after %.3f s; rank 0: "
            "%lld KiB, %lld connections at once\n",
            ranks, p50_s, max_s, (long long)root->resident_kib,
            (long long)root->connections);
        return;
    }
    json_object_open(&json, NULL);
    json_integer(&json, "ranks", ranks);
    json_number(&json, "p50_s", p50_s, 4);
    json_number(&json, "max_s", max_s, 4);
    json_integer(&json, "root_kib", root->resident_kib);
    json_integer(&json, "root_connections", root->connections);
    json_object_close(&json);
    json_end(&json);
}

static int measure(long ranks, bool reverse, bool as_json)
{
    static struct arrival arrivals[RANKS_MAX];
    int ends[2];
    int result = EXIT_SUCCESS;

    if (pipe(ends) < 0)
        fail("pipe");
    start_ranks(ranks, reverse, ends[1], now_us());
    close(ends[1]);
    for (long i = 0; i < ranks; i++)
        if (read(ends[0], &arrivals[i], sizeof(arrivals[i])) !=
            sizeof(arrivals[i]))
            result = EXIT_FAILURE;
    for (int status; wait(&status) > 0;)
        if (status != 0)
            result = EXIT_FAILURE;
    if (result != EXIT_SUCCESS)
        return result;
    qsort(arrivals, (size_t)ranks, sizeof(arrivals[0]), compare);
    report(ranks, arrivals, as_json);
    return result;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"ranks", required_argument, NULL, 'n'},
        {"out", required_argument, NULL, 'o'},
        {"reverse", no_argument, NULL, 'r'},
        {"started", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    long ranks = 64;
    bool as_json = false;
    bool reverse = false;
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
        case 'r': // rank 0 is started last
            reverse = true;
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
        fprintf(stderr,
                "usage: bootstrap [--json] [--reverse] [--ranks 2..%d]\n",
                RANKS_MAX);
        return EXIT_FAILURE;
    }
    return measure(ranks, reverse, as_json);
}
