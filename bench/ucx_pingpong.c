// SPDX-License-Identifier: BSD-3-Clause
// UCX's own latency between two processes of this machine, without any of
// Tally's code, with the parameters that libtally-ucx.so uses: what Tally's
// all-reduce of two ranks over UCX is measured against.
//
//   ucx_pingpong [--mode pingpong|exchange] [--tls tcp|posix|...] [--bytes B]
//                [--iters I] [--json]
//
// pingpong: one sends, the other answers; the figure is half of a round trip.
// exchange: both send, then both receive, as an all-reduce of two does; the
// figure is the time of one exchange.
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <ucp/api/ucp.h>
#include <unistd.h>

#define ADDRESS_BYTES_MAX 4096
#define TAG_MASK_ALL UINT64_MAX
// As many to warm up as a tenth of those that count.
#define WARM_UP_SHARE 10

struct options {
    const char *mode;
    const char *tls;
    size_t bytes;
    size_t iters;
    bool json;
};

struct side {
    int other; // socket to the other process
    int index; // 0 measures
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_ep_h endpoint;
    unsigned char *out;
    unsigned char *in;
};

static void die(const char *what, ucs_status_t status)
{
    fprintf(stderr, "ucx_pingpong: %s: %s\n", what, ucs_status_string(status));
    exit(EXIT_FAILURE);
}

static void must(const char *what, ucs_status_t status)
{
    if (status != UCS_OK)
        die(what, status);
}

static void open_worker(struct side *side, const struct options *options)
{
    const ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES,
        .features = UCP_FEATURE_TAG,
    };
    const ucp_worker_params_t worker_params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SERIALIZED,
    };
    ucp_config_t *config;

    must("ucp_config_read", ucp_config_read(NULL, NULL, &config));
    must("TLS", ucp_config_modify(config, "TLS", options->tls));
    must("KEEPALIVE_INTERVAL",
         ucp_config_modify(config, "KEEPALIVE_INTERVAL", "1s"));
    if (strstr(options->tls, "tcp") != NULL)
        must("NET_DEVICES", ucp_config_modify(config, "NET_DEVICES", "lo"));
    else
        must("MM_ERROR_HANDLING",
             ucp_config_modify(config, "MM_ERROR_HANDLING", "y"));
    must("ucp_init", ucp_init(&params, config, &side->context));
    ucp_config_release(config);
    must("ucp_worker_create",
         ucp_worker_create(side->context, &worker_params, &side->worker));
}

static void peer_lost(void *argument, ucp_ep_h endpoint, ucs_status_t status)
{
    (void)argument;
    (void)endpoint;
    (void)status; // at the end, when the other has closed first
}

static void connect_worker(struct side *side)
{
    unsigned char theirs[ADDRESS_BYTES_MAX];
    ucp_address_t *own;
    size_t bytes;

    must("ucp_worker_get_address",
         ucp_worker_get_address(side->worker, &own, &bytes));
    if (write(side->other, own, bytes) != (ssize_t)bytes ||
        read(side->other, theirs, sizeof(theirs)) <= 0)
        die("exchange of addresses", UCS_ERR_IO_ERROR);
    ucp_worker_release_address(side->worker, own);
    const ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = (const ucp_address_t *)theirs,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = peer_lost},
    };
    must("ucp_ep_create",
         ucp_ep_create(side->worker, &params, &side->endpoint));
}

static void wait_for(struct side *side, ucs_status_ptr_t request)
{
    if (request == NULL)
        return;
    if (UCS_PTR_IS_ERR(request))
        die("post", UCS_PTR_STATUS(request));
    while (ucp_request_check_status(request) == UCS_INPROGRESS)
        ucp_worker_progress(side->worker);
    must("request", ucp_request_check_status(request));
    ucp_request_free(request);
}

static ucs_status_ptr_t post_send(struct side *side, size_t bytes)
{
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_MEMORY_TYPE,
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };

    return ucp_tag_send_nbx(side->endpoint, side->out, bytes, 1, &param);
}

static ucs_status_ptr_t post_receive(struct side *side, size_t bytes)
{
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_MEMORY_TYPE,
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };

    return ucp_tag_recv_nbx(side->worker, side->in, bytes, 1, TAG_MASK_ALL,
                            &param);
}

static void pingpong(struct side *side, size_t bytes)
{
    if (side->index == 0)
        wait_for(side, post_send(side, bytes));
    wait_for(side, post_receive(side, bytes));
    if (side->index == 1)
        wait_for(side, post_send(side, bytes));
}

static void exchange(struct side *side, size_t bytes)
{
    ucs_status_ptr_t receive = post_receive(side, bytes);

    wait_for(side, post_send(side, bytes));
    wait_for(side, receive);
}

static const struct mode {
    const char *name;
    void (*round)(struct side *side, size_t bytes);
    double share; // of the time of a round
} modes[] = {
    {"pingpong", pingpong, 0.5},
    {"exchange", exchange, 1.0},
};

static const struct mode *find_mode(const char *name)
{
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    fprintf(stderr, "ucx_pingpong: no mode %s\n", name);
    exit(EXIT_FAILURE);
}

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static void measure(struct side *side, const struct options *options,
                    const struct mode *mode, double *us)
{
    for (size_t i = 0; i < options->iters / WARM_UP_SHARE + 1; i++)
        mode->round(side, options->bytes);
    double before = now_us();
    for (size_t i = 0; i < options->iters; i++) {
        mode->round(side, options->bytes);
        double after = now_us();
        us[i] = (after - before) * mode->share;
        before = after;
    }
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static void print(const struct options *options, double *us)
{
    static const char text[] =
        "UCX %s, %s, tls %s, %zu bytes, %zu rounds, one way in us: min %.3f  "
        "p50 %.3f  p90 %.3f  p99 %.3f  max %.3f\n";
    static const char json[] =
        "{\"bench\": \"ucx_pingpong\", \"ucx\": \"%s\", \"mode\": \"%s\", "
        "\"tls\": \"%s\", \"bytes\": %zu, \"iters\": %zu, \"min_us\": %.3f, "
        "\"p50_us\": %.3f, \"p90_us\": %.3f, \"p99_us\": %.3f, "
        "\"max_us\": %.3f}\n";
    size_t n = options->iters;

    qsort(us, n, sizeof(*us), compare);
    if (options->json)
        printf(json, ucp_get_version_string(), options->mode, options->tls,
               options->bytes, n, us[0], us[n / 2], us[n * 9 / 10],
               us[n * 99 / 100], us[n - 1]);
    else
        printf(text, ucp_get_version_string(), options->mode, options->tls,
               options->bytes, n, us[0], us[n / 2], us[n * 9 / 10],
               us[n * 99 / 100], us[n - 1]);
}

static void close_side(struct side *side)
{
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_EP_CLOSE_FLAG_FORCE,
    };
    char byte = 0;

    // The other has finished, too, once its byte is here.
    if (write(side->other, &byte, 1) != 1 || read(side->other, &byte, 1) != 1)
        die("the other process is gone", UCS_ERR_IO_ERROR);
    wait_for(side, ucp_ep_close_nbx(side->endpoint, &param));
    ucp_worker_destroy(side->worker);
    ucp_cleanup(side->context);
}

static void run_side(int index, int other, const struct options *options)
{
    const struct mode *mode = find_mode(options->mode);
    struct side side = {.other = other, .index = index};
    double *us = calloc(options->iters, sizeof(*us));

    side.out = calloc(1, options->bytes + 1);
    side.in = calloc(1, options->bytes + 1);
    if (us == NULL || side.out == NULL || side.in == NULL)
        die("memory", UCS_ERR_NO_MEMORY);
    open_worker(&side, options);
    connect_worker(&side);
    measure(&side, options, mode, us);
    close_side(&side);
    if (index == 0)
        print(options, us);
    free(side.in);
    free(side.out);
    free(us);
}

static void read_options(int count, char **words, struct options *options)
{
    static const struct option known[] = {
        {"mode", required_argument, NULL, 'm'},
        {"tls", required_argument, NULL, 't'},
        {"bytes", required_argument, NULL, 'b'},
        {"iters", required_argument, NULL, 'i'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(count, words, "", known, NULL)) != -1)
        switch (option) {
        case 'm':
            options->mode = optarg;
            break;
        case 't':
            options->tls = optarg;
            break;
        case 'b':
            options->bytes = strtoul(optarg, NULL, 10);
            break;
        case 'i':
            options->iters = strtoul(optarg, NULL, 10);
            break;
        case 'j':
            options->json = true;
            break;
        default:
            exit(EXIT_FAILURE);
        }
    if (options->iters == 0)
        options->iters = 1;
    find_mode(options->mode);
}

int main(int count, char **words)
{
    struct options options = {"pingpong", "tcp", 80, 20000, false};
    int sockets[2];
    int status = 0;

    read_options(count, words, &options);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) != 0)
        die("socketpair", UCS_ERR_IO_ERROR);
    pid_t pid = fork();
    if (pid < 0)
        die("fork", UCS_ERR_IO_ERROR);
    if (pid == 0) {
        close(sockets[0]);
        run_side(1, sockets[1], &options);
        return EXIT_SUCCESS;
    }
    close(sockets[1]);
    run_side(0, sockets[0], &options);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
