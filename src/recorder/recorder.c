// SPDX-License-Identifier: BSD-3-Clause
// What is recorded, and the thread that writes it.
#include "recorder/recorder.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "recorder/state.h"

// Between two dumps: an error that comes at every step is written once.
#define DUMP_INTERVAL_US 1000000
// A viewer that does not read is left.
#define VIEWER_TIMEOUT_S 1

static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) ==
                  RECORDER_PATH_BYTES,
              "a socket's path");

static int64_t time_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void wake(struct recorder *recorder)
{
    const uint64_t one = 1;

    (void)!write(recorder->wake_fd, &one, sizeof(one));
}

// -------------------------------------------------------------------- records

void recorder_step(struct recorder *recorder, const struct recorder_step *step)
{
    if (recorder == NULL)
        return;
    pthread_mutex_lock(&recorder->lock);
    struct recorder_content *content = &recorder->content;
    content->entries[content->count++ % RECORDER_STEPS] =
        (struct recorder_entry){*step, time_us()};
    pthread_mutex_unlock(&recorder->lock);
}

void recorder_view(struct recorder *recorder, const struct recorder_view *view)
{
    if (recorder == NULL)
        return;
    pthread_mutex_lock(&recorder->lock);
    recorder->content.view = *view;
    pthread_mutex_unlock(&recorder->lock);
}

void recorder_add(struct recorder *recorder, enum recorder_counter counter,
                  uint64_t count)
{
    if (recorder == NULL)
        return;
    pthread_mutex_lock(&recorder->lock);
    recorder->content.counters[counter] += count;
    pthread_mutex_unlock(&recorder->lock);
}

void recorder_error(struct recorder *recorder, const char *why)
{
    if (recorder == NULL)
        return;
    pthread_mutex_lock(&recorder->lock);
    recorder->error = why;
    pthread_mutex_unlock(&recorder->lock);
    wake(recorder);
}

// -------------------------------------------------------------------- writing

// All of it in one form, allocated; NULL: no memory.
static char *form(struct recorder *recorder, enum recorder_form wanted,
                  const char *why, size_t *length)
{
    struct recorder_content *content = malloc(sizeof(*content));
    char *text = NULL;
    FILE *out = content != NULL ? open_memstream(&text, length) : NULL;

    if (out == NULL) {
        free(content);
        return NULL;
    }
    pthread_mutex_lock(&recorder->lock);
    *content = recorder->content;
    pthread_mutex_unlock(&recorder->lock);
    if (wanted == RECORDER_TEXT)
        recorder_write_text(out, content);
    else
        recorder_write_json(out, content, why);
    free(content);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static void dump(struct recorder *recorder, const char *why)
{
    char unfinished[RECORDER_PATH_BYTES + 8];
    size_t length;
    char *text = form(recorder, RECORDER_JSON, why, &length);
    bool written = false;

    snprintf(unfinished, sizeof(unfinished), "%s.new", recorder->dump_path);
    int file =
        text == NULL
            ? -1
            : open(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file >= 0) {
        written = write(file, text, length) == (ssize_t)length;
        written = close(file) == 0 && written;
    }
    free(text);
    if (written && rename(unfinished, recorder->dump_path) == 0)
        core_log(recorder->log, TALLY_LOG_INFO,
                 "the flight recorder was written to %s (%s)",
                 recorder->dump_path, why);
    else
        core_log(recorder->log, TALLY_LOG_WARN,
                 "the flight recorder cannot be written to %s: %s",
                 recorder->dump_path, strerror(errno));
}

static void serve_viewer(struct recorder *recorder)
{
    const struct timeval limit = {.tv_sec = VIEWER_TIMEOUT_S};
    int fd = accept4(recorder->listener, NULL, NULL, SOCK_CLOEXEC);
    char wanted = RECORDER_JSON;
    size_t length;

    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    char *text =
        recv(fd, &wanted, 1, 0) == 1
            ? form(recorder,
                   wanted == RECORDER_TEXT ? RECORDER_TEXT : RECORDER_JSON,
                   "asked", &length)
            : NULL;
    for (size_t sent = 0; text != NULL && sent < length;) {
        ssize_t more = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
        if (more <= 0)
            break;
        sent += (size_t)more;
    }
    free(text);
    close(fd);
}

static void dump_if_wanted(struct recorder *recorder, bool signalled)
{
    pthread_mutex_lock(&recorder->lock);
    const char *why = recorder->error;
    recorder->error = NULL;
    pthread_mutex_unlock(&recorder->lock);
    if (why != NULL || signalled)
        dump(recorder, why != NULL ? why : "SIGUSR1");
}

static void *run(void *argument)
{
    struct recorder *recorder = argument;
    struct pollfd fds[2] = {{.fd = recorder->listener, .events = POLLIN},
                            {.fd = recorder->wake_fd, .events = POLLIN}};
    int64_t next_us = 0;
    uint64_t wakes;

    prctl(PR_SET_NAME, "tally-recorder");
    for (;;) {
        int64_t wait_us = next_us - clock_now_us();
        // While it is too soon for another dump, wakes wait in the eventfd.
        nfds_t count = wait_us > 0 ? 1 : 2;
        int ready =
            poll(fds, count, wait_us > 0 ? (int)(wait_us / 1000) + 1 : -1);
        bool woken = ready > 0 && count == 2 && fds[1].revents != 0;
        if (ready > 0 && fds[0].revents != 0)
            serve_viewer(recorder);
        if (atomic_load(&recorder->stop))
            break;
        if (woken &&
            read(recorder->wake_fd, &wakes, sizeof(wakes)) == sizeof(wakes)) {
            dump_if_wanted(recorder, !park_is_asked(&recorder->thread));
            next_us = clock_now_us() + DUMP_INTERVAL_US;
        }
        if (park_is_asked(&recorder->thread))
            dump_if_wanted(recorder, false); // or it is never written
        park_here(&recorder->thread);
    }
    dump_if_wanted(recorder, false);
    return NULL;
}

// ---------------------------------------------------------------- open, close

static tally_status_t name_files(struct recorder *recorder,
                                 const struct recorder_params *params)
{
    int length = snprintf(recorder->socket_path, RECORDER_PATH_BYTES,
                          "%s/tally-%d-%u.sock", params->folder, (int)getpid(),
                          (unsigned)params->self.peer);

    snprintf(recorder->dump_path, RECORDER_PATH_BYTES, "%s/tally-%d-%u.json",
             params->folder, (int)getpid(), (unsigned)params->self.peer);
    if (length >= RECORDER_PATH_BYTES) {
        recorder->socket_path[0] = '\0';
        return core_fail(TALLY_ERR_CONFIG,
                         "TALLY_RECORDER_FOLDER=%s: a path of at most %d bytes "
                         "is expected",
                         params->folder, RECORDER_PATH_BYTES - 32);
    }
    return TALLY_OK;
}

static tally_status_t listen_there(struct recorder *recorder,
                                   const char *folder)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};

    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return core_fail(TALLY_ERR_SYSTEM,
                         "TALLY_RECORDER_FOLDER=%s: it cannot be made: %s",
                         folder, strerror(errno));
    memcpy(place.sun_path, recorder->socket_path, RECORDER_PATH_BYTES);
    recorder->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // Of a process that had this one's number.
    unlink(recorder->socket_path);
    if (recorder->listener < 0 ||
        bind(recorder->listener, (struct sockaddr *)&place, sizeof(place)) ||
        chmod(recorder->socket_path, 0600) || listen(recorder->listener, 8))
        return core_fail(TALLY_ERR_SYSTEM,
                         "TALLY_RECORDER_FOLDER=%s: no socket can be made "
                         "there: %s",
                         folder, strerror(errno));
    return TALLY_OK;
}

// It may be waiting for the time of the next dump.
static void end_sleep(void *argument)
{
    struct recorder *recorder = argument;

    wake(recorder);
    shutdown(recorder->listener, SHUT_RDWR);
}

static tally_status_t start_thread(struct recorder *recorder)
{
    recorder->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (recorder->wake_fd < 0)
        return core_fail(TALLY_ERR_SYSTEM, "no eventfd: %s", strerror(errno));
    int error = park_start(&recorder->thread, run, end_sleep, recorder);
    if (error != 0)
        return core_fail(TALLY_ERR_SYSTEM,
                         "cannot start the thread of the flight recorder: %s",
                         strerror(error));
    recorder_signal_add(recorder->wake_fd);
    return TALLY_OK;
}

tally_status_t recorder_open(const struct recorder_params *params,
                             struct recorder **out)
{
    struct recorder *recorder = calloc(1, sizeof(*recorder));

    if (recorder == NULL)
        return core_fail(TALLY_ERR_MEMORY, "no memory for a flight recorder");
    recorder->log = params->log;
    recorder->listener = -1;
    recorder->wake_fd = -1;
    recorder->content.self = params->self;
    recorder->content.witness = params->witness;
    snprintf(recorder->content.job, RECORDER_JOB_BYTES, "%s", params->job);
    pthread_mutex_init(&recorder->lock, NULL);
    tally_status_t status = name_files(recorder, params);
    if (status == TALLY_OK)
        status = listen_there(recorder, params->folder);
    if (status == TALLY_OK)
        status = start_thread(recorder);
    if (status != TALLY_OK) {
        recorder_close(recorder);
        return status;
    }
    *out = recorder;
    return TALLY_OK;
}

void recorder_close(struct recorder *recorder)
{
    if (recorder == NULL)
        return;
    if (recorder->thread.runs) {
        recorder_signal_remove(recorder->wake_fd);
        atomic_store(&recorder->stop, true);
        end_sleep(recorder);
        park_join(&recorder->thread);
    }
    if (recorder->listener >= 0) {
        close(recorder->listener);
        unlink(recorder->socket_path);
    }
    if (recorder->wake_fd >= 0)
        close(recorder->wake_fd);
    pthread_mutex_destroy(&recorder->lock);
    free(recorder);
}
