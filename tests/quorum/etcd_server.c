// SPDX-License-Identifier: BSD-3-Clause
// An etcd server on the loopback, as a child that dies with the test.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "quorum/scene.h"

#define PROGRAM "/usr/bin/etcd"

static pid_t server = -1;

static void become_server(uint16_t port, uint16_t peer_port, const char *folder,
                          pid_t parent)
{
    char client[64], peer[64], initial[96], data[512];
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(1);
    snprintf(client, sizeof(client), "http://127.0.0.1:%u", (unsigned)port);
    snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", (unsigned)peer_port);
    snprintf(initial, sizeof(initial), "default=%s", peer);
    snprintf(data, sizeof(data), "%s/etcd", folder);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    // Its state is to survive the server, not the machine.
    execl(PROGRAM, PROGRAM, "--data-dir", data, "--listen-client-urls", client,
          "--advertise-client-urls", client, "--listen-peer-urls", peer,
          "--initial-advertise-peer-urls", peer, "--initial-cluster", initial,
          (char *)NULL);
    _exit(127);
}

bool etcd_server_start(uint16_t port, uint16_t peer_port, const char *folder)
{
    pid_t parent = getpid();

    if (access(PROGRAM, X_OK) != 0)
        return false;
    server = fork();
    if (server == 0)
        become_server(port, peer_port, folder, parent);
    return server > 0;
}

void etcd_server_pause(bool pause)
{
    int status = 0;

    ck_assert_int_eq(kill(server, pause ? SIGSTOP : SIGCONT), 0);
    if (!pause)
        return;
    // It answers until it has stopped.
    ck_assert_int_eq(waitpid(server, &status, WUNTRACED), server);
    ck_assert(WIFSTOPPED(status));
}

void etcd_server_kill(void)
{
    if (server <= 0)
        return;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    server = -1;
}
