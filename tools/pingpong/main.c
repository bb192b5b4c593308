// SPDX-License-Identifier: BSD-3-Clause
// tally_perf_ucx and tally_perf_ofi: the latency of a library by itself between
// two processes, with messages as long as Tally's. tally_perf --compare runs
// it, and so does who wants to know what a network can do:
//
//   PROGRAM [--exchange] ITERATIONS WARMUP RECORDS     two processes, here
//   PROGRAM --listen PORT ...                          one, and on another host
//   PROGRAM --connect ADDRESS:PORT ...                 the one that measures
//
// Ping-pong: one sends, the other answers; a figure is half of a round trip.
// --exchange: both send, then both receive, as an all-reduce of two does; a
// figure is the time of one exchange.
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perf/samples.h"
#include "perf/work.h"
#include "pingpong/meet.h"
#include "pingpong/raw.h"

// What Tally sends with the records: collective/leaders.h.
#define HEADER_BYTES 16

struct options {
    bool exchange;
    const char *listen;
    const char *connect;
    int64_t iterations;
    int64_t warmup;
    size_t bytes;
};

_Noreturn void raw_die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
    exit(EXIT_FAILURE);
}

// ------------------------------------------------- what a backend is lent here

static void log_line(void *context, tally_log_level_t level, const char *line)
{
    (void)context;
    if (level <= TALLY_LOG_WARN)
        fprintf(stderr, "%s\n", line);
}

static tally_status_t say(void *context, tally_status_t status,
                          const char *sentence)
{
    (void)context;
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, sentence);
    return status;
}

static const char *look_up(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

const tally_transport_host_t raw_host = {
    .size = sizeof(raw_host),
    .abi = TALLY_TRANSPORT_ABI,
    .log = log_line,
    .fail = say,
    .config = look_up,
};

const tally_transport_params_t raw_params = {
    .size = sizeof(raw_params),
    .abi = TALLY_TRANSPORT_ABI,
    .world_size = 2,
};

// --------------------------------------------------------------------- rounds

struct side {
    struct raw *raw;
    bool measures;
    size_t bytes;
    unsigned char out[RAW_MESSAGE_BYTES_MAX];
    unsigned char in[RAW_MESSAGE_BYTES_MAX];
};

static void pingpong(struct side *side)
{
    raw_receive_post(side->raw, side->in, side->bytes);
    if (side->measures)
        raw_send(side->raw, side->out, side->bytes);
    raw_receive_wait(side->raw);
    if (!side->measures)
        raw_send(side->raw, side->out, side->bytes);
}

static void exchange(struct side *side)
{
    raw_receive_post(side->raw, side->in, side->bytes);
    raw_send(side->raw, side->out, side->bytes);
    raw_receive_wait(side->raw);
}

static void measure(struct side *side, const struct options *options,
                    struct samples *samples)
{
    for (int64_t i = 0; i < options->warmup + options->iterations; i++) {
        int64_t begin_ns = samples_now_ns();

        if (options->exchange)
            exchange(side);
        else
            pingpong(side);
        int64_t ns = samples_now_ns() - begin_ns;
        if (i >= options->warmup)
            samples_add(samples, options->exchange ? ns : ns / 2);
    }
}

static void print(const struct raw *raw, const struct samples *samples)
{
    printf("library %s\nwrong 0\nsamples_ns", raw_library(raw));
    for (size_t i = 0; i < samples->count; i++)
        printf(" %lld", (long long)samples->ns[i]);
    printf("\n");
}

static void run_side(int other, bool measures, const struct options *options)
{
    static struct side side; // its messages are large
    unsigned char address[RAW_ADDRESS_BYTES_MAX];
    struct samples samples;

    if (!samples_create(&samples, (size_t)options->iterations))
        raw_die("samples", "no memory");
    side.raw = raw_open();
    side.measures = measures;
    side.bytes = options->bytes;
    size_t bytes = raw_address(side.raw, address);
    bytes = meet_swap(other, address, bytes, sizeof(address));
    raw_connect(side.raw, address, bytes);
    meet_swap(other, address, 1, sizeof(address)); // both are there
    measure(&side, options, &samples);
    meet_swap(other, address, 1, sizeof(address)); // both have all
    if (measures)
        print(side.raw, &samples);
    raw_close(side.raw);
    samples_free(&samples);
}

static int run_both(const struct options *options)
{
    int ends[2];
    int status = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        raw_die("socketpair", "it fails");
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        raw_die("fork", "it fails");
    close(ends[child != 0]);
    run_side(ends[child == 0], child != 0, options);
    if (child != 0 && waitpid(child, &status, 0) < 0)
        raw_die("the other process", "it is gone");
    return status == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static _Noreturn void usage(void)
{
    fprintf(stderr,
            "usage: %s [--exchange] [--listen PORT | --connect ADDRESS:PORT] "
            "ITERATIONS WARMUP RECORDS\n",
            program_invocation_short_name);
    exit(2);
}

static int64_t number(const char *text, int64_t least, int64_t most)
{
    char *end;
    long long value = strtoll(text, &end, 10);

    if (end == text || *end != '\0' || value < least || value > most)
        usage();
    return value;
}

static void read_options(int count, char **words, struct options *options)
{
    static const struct option known[] = {
        {"exchange", no_argument, NULL, 'e'},
        {"listen", required_argument, NULL, 'l'},
        {"connect", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(count, words, "", known, NULL)) != -1)
        switch (option) {
        case 'e':
            options->exchange = true;
            break;
        case 'l':
            options->listen = optarg;
            break;
        case 'c':
            options->connect = optarg;
            break;
        default:
            usage();
        }
    if (count - optind != 3)
        usage();
    options->iterations = number(words[optind], 1, 10000000);
    options->warmup = number(words[optind + 1], 0, 10000000);
    options->bytes =
        HEADER_BYTES + (size_t)number(words[optind + 2], 1, WORK_RECORDS_MAX) *
                           sizeof(struct numeric_record);
}

int main(int count, char **words)
{
    struct options options = {.exchange = false};

    read_options(count, words, &options);
    if (options.listen == NULL && options.connect == NULL)
        return run_both(&options);
    int other = options.connect != NULL ? meet_connect(options.connect)
                                        : meet_listen(options.listen);
    run_side(other, options.connect != NULL, &options);
    return EXIT_SUCCESS;
}
