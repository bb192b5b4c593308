// SPDX-License-Identifier: BSD-3-Clause
// See double.h.
#include "quorum/double.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

static struct double_answer answer;
static int listener;
static pthread_t thread;
static atomic_bool stop;

static void serve(int fd)
{
    char request[8192];
    struct pollfd poll_one = {.fd = fd, .events = POLLIN};

    if (poll(&poll_one, 1, 100) > 0)
        (void)!recv(fd, request, sizeof(request), 0);
    if (answer.bytes == NULL)
        while (!atomic_load(&stop) &&
               recv(fd, request, sizeof(request), MSG_DONTWAIT) != 0)
            poll(NULL, 0, 10);
    else if (answer.slow_ms == 0)
        (void)!send(fd, answer.bytes, answer.length, MSG_NOSIGNAL);
    else
        for (size_t i = 0; i < answer.length && !atomic_load(&stop); i++) {
            if (send(fd, answer.bytes + i, 1, MSG_NOSIGNAL) != 1)
                break;
            poll(NULL, 0, answer.slow_ms);
        }
    close(fd);
}

static void *run(void *context)
{
    (void)context;
    while (!atomic_load(&stop)) {
        struct pollfd poll_one = {.fd = listener, .events = POLLIN};
        if (poll(&poll_one, 1, 20) <= 0)
            continue;
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0)
            serve(fd);
    }
    return NULL;
}

uint16_t double_start(const struct double_answer *given)
{
    struct sockaddr_in place = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(place);

    answer = *given;
    atomic_store(&stop, false);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&place, sizeof(place)),
                     0);
    ck_assert_int_eq(listen(listener, 16), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&place, &bytes),
                     0);
    ck_assert_int_eq(pthread_create(&thread, NULL, run, NULL), 0);
    return ntohs(place.sin_port);
}

void double_stop(void)
{
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    close(listener);
}
