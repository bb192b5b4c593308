// SPDX-License-Identifier: BSD-3-Clause
// The live view of replica groups and witnesses of this host: what their flight
// recorders say, through the sockets in TALLY_RECORDER_FOLDER.
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "info/info.h"

#define TIMEOUT_S 5

static int is_socket(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return strncmp(entry->d_name, "tally-", 6) == 0 && length > 5 &&
           strcmp(entry->d_name + length - 5, ".sock") == 0;
}

// -1: nobody is behind it; *why says so.
static int join(const char *folder, const char *name, const char **why)
{
    const struct timeval limit = {.tv_sec = TIMEOUT_S};
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (snprintf(place.sun_path, sizeof(place.sun_path), "%s/%s", folder,
                 name) < (int)sizeof(place.sun_path) &&
        fd >= 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
        connect(fd, (struct sockaddr *)&place, sizeof(place)) == 0)
        return fd;
    *why = errno == ECONNREFUSED ? "its process is gone" : strerror(errno);
    if (fd >= 0)
        close(fd);
    return -1;
}

// A whole answer, to be freed, or NULL: its process may die while it speaks.
static char *ask(int fd, bool json)
{
    const char *end = json ? "]}\n" : "\n";
    const char form = json ? 'j' : 't';
    char bytes[4096];
    char *answer = NULL;
    size_t length = 0;
    ssize_t got = -1;
    FILE *memory = open_memstream(&answer, &length);

    if (memory == NULL)
        return NULL;
    if (send(fd, &form, 1, MSG_NOSIGNAL) == 1)
        while ((got = recv(fd, bytes, sizeof(bytes), 0)) > 0)
            fwrite(bytes, 1, (size_t)got, memory);
    if (fclose(memory) == 0 && got == 0 && length >= strlen(end) &&
        strcmp(answer + length - strlen(end), end) == 0)
        return answer;
    free(answer);
    return NULL;
}

static bool show_all(FILE *out, const char *folder, struct dirent **names,
                     int count, bool json)
{
    int shown = 0;

    for (int i = 0; i < count; i++) {
        const char *why = "it does not answer";
        int fd = join(folder, names[i]->d_name, &why);
        char *answer = fd >= 0 ? ask(fd, json) : NULL;
        if (answer != NULL)
            fprintf(out, "%s%s", json && shown > 0 ? "," : "", answer);
        else
            fprintf(stderr, "tally_info: %s/%s: %s\n", folder, names[i]->d_name,
                    why);
        shown += answer != NULL;
        free(answer);
        if (fd >= 0)
            close(fd);
    }
    if (shown == 0)
        fprintf(stderr,
                "tally_info: no replica group of this host runs with "
                "TALLY_RECORDER_FOLDER=%s\n",
                folder);
    return shown > 0;
}

bool info_replicas_write(FILE *out, bool json)
{
    const char *folder = getenv("TALLY_RECORDER_FOLDER");
    struct dirent **names;

    if (folder == NULL || folder[0] == '\0') {
        fprintf(stderr,
                "tally_info: TALLY_RECORDER_FOLDER is not set: it names "
                "the folder that the job was started with\n");
        return false;
    }
    int count = scandir(folder, &names, is_socket, versionsort);
    if (count < 0) {
        fprintf(stderr, "tally_info: TALLY_RECORDER_FOLDER=%s: %s\n", folder,
                strerror(errno));
        return false;
    }
    if (json)
        fputs("{\"replicas\": [\n", out);
    bool shown = show_all(out, folder, names, count, json);
    if (json)
        fputs("]}\n", out);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return shown;
}
