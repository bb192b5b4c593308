// SPDX-License-Identifier: BSD-3-Clause
// See peer.h.
#include "perf/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// The other ranks wait for the round to end, at most TALLY_BOOTSTRAP_TIMEOUT
// (120 s): a round that takes longer than this is given up first.
static const int64_t round_timeout_ms = 100000;
#define ARGUMENTS_MAX 24
#define NUMBER_BYTES 24

const char *const peer_kind_names[PEER_KINDS] = {
    [PEER_NONE] = NULL,
    [PEER_MPI] = "mpi",
    [PEER_PINGPONG] = "pingpong",
    [PEER_EXCHANGE] = "exchange",
};

enum peer_kind peer_kind_named(const char *name)
{
    for (int kind = PEER_NONE + 1; kind < PEER_KINDS; kind++)
        if (strcmp(name, peer_kind_names[kind]) == 0)
            return (enum peer_kind)kind;
    return PEER_NONE;
}

// ------------------------------------------------------------------- find it

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

static bool find_in_path(const char *name, char *out)
{
    const char *folders = getenv("PATH");

    while (folders != NULL && *folders != '\0') {
        size_t bytes = strcspn(folders, ":");
        int length =
            snprintf(out, PATH_MAX, "%.*s/%s", (int)bytes, folders, name);
        if (bytes > 0 && length < PATH_MAX && is_program(out))
            return true;
        folders += bytes + (folders[bytes] == ':');
    }
    return false;
}

// The folder of this program; of an uninstalled one, which libtool keeps in
// .libs, the folder above.
static void own_folder(char *folder)
{
    static const char hidden[] = "/.libs";
    ssize_t bytes = readlink("/proc/self/exe", folder, PATH_MAX - 1);

    folder[bytes > 0 ? bytes : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    slash = strrchr(folder, '/');
    if (slash != NULL && strcmp(slash, hidden) == 0)
        *slash = '\0';
}

// Beside this program, or where it is installed.
static bool find_program(const char *name, char *out, char *why,
                         size_t why_bytes)
{
    char folder[PATH_MAX];
    const char *const folders[] = {folder, TALLY_LIBEXEC_DIR};

    own_folder(folder);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        if (snprintf(out, PATH_MAX, "%s/%s", folders[i], name) < PATH_MAX &&
            is_program(out))
            return true;
    snprintf(why, why_bytes,
             "%s was not found in %s nor in %s; it is built where its library "
             "is",
             name, folder, TALLY_LIBEXEC_DIR);
    return false;
}

static bool find_mpi(struct peer *peer, const struct peer_wish *wish, char *why,
                     size_t why_bytes)
{
    bool in_memory = strcmp(wish->transport, "shm") == 0 ||
                     strcmp(wish->transport, "self") == 0;
    const char *btl = wish->mpi_btl;

    if (btl == NULL)
        btl = in_memory ? "self,vader" : "self,tcp";
    snprintf(peer->btl, sizeof(peer->btl), "%s", btl);
    if (!find_in_path("mpirun", peer->mpirun)) {
        snprintf(why, why_bytes, "mpirun was not found");
        return false;
    }
    if (wish->mpi_program == NULL)
        return find_program("tally_perf_mpi", peer->program, why, why_bytes);
    snprintf(peer->program, sizeof(peer->program), "%s", wish->mpi_program);
    if (is_program(peer->program))
        return true;
    snprintf(why, why_bytes, "%s cannot be run: %s", wish->mpi_program,
             strerror(errno));
    return false;
}

bool peer_find(struct peer *peer, const struct peer_wish *wish, char *why,
               size_t why_bytes)
{
    peer->kind = wish->kind;
    if (wish->kind == PEER_MPI)
        return find_mpi(peer, wish, why, why_bytes);
    if (strcmp(wish->transport, "ucx") == 0)
        return find_program("tally_perf_ucx", peer->program, why, why_bytes);
    if (strcmp(wish->transport, "ofi") == 0)
        return find_program("tally_perf_ofi", peer->program, why, why_bytes);
    snprintf(why, why_bytes, "there is no library below the transport %s",
             wish->transport);
    return false;
}

// -------------------------------------------------------------------- run it

struct command {
    const char *arguments[ARGUMENTS_MAX]; // ends with NULL
    int count;
    char numbers[4][NUMBER_BYTES];
    char **environment;
    const char *file;
};

static void append(struct command *command, const char *argument)
{
    command->arguments[command->count++] = argument;
}

static void append_mca(struct command *command, const char *name,
                       const char *value)
{
    append(command, "--mca");
    append(command, name);
    append(command, value);
}

static void write_mpirun(const struct peer *peer,
                         const struct peer_round *round,
                         struct command *command)
{
    snprintf(command->numbers[0], NUMBER_BYTES, "%d", (int)round->ranks);
    command->file = peer->mpirun;
    // By its path it would take the folder above for a prefix.
    append(command, "mpirun");
    append(command, "--oversubscribe");
    append(command, "--allow-run-as-root");
    append(command, "-n");
    append(command, command->numbers[0]);
    // Not UCX below MPI, whatever it would choose.
    append_mca(command, "pml", "ob1");
    append_mca(command, "btl", peer->btl);
    if (strstr(peer->btl, "tcp") != NULL)
        append_mca(command, "btl_tcp_if_include", "lo");
}

static void write_arguments(const struct peer *peer,
                            const struct peer_round *round,
                            struct command *command)
{
    command->file = peer->program;
    if (peer->kind == PEER_MPI)
        write_mpirun(peer, round, command);
    append(command, peer->program);
    if (peer->kind == PEER_EXCHANGE)
        append(command, "--exchange");
    snprintf(command->numbers[1], NUMBER_BYTES, "%" PRId64, round->iterations);
    snprintf(command->numbers[2], NUMBER_BYTES, "%" PRId64, round->warmup);
    snprintf(command->numbers[3], NUMBER_BYTES, "%u", (unsigned)round->records);
    for (int i = 1; i < 4; i++)
        append(command, command->numbers[i]);
}

// What a launcher left there would make mpirun believe that it is a rank.
static bool is_launchers(const char *entry)
{
    static const char *const prefixes[] = {"OMPI_", "PMIX_", "PMI_", "PRTE_"};

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static bool write_environment(struct command *command)
{
    bool launched = getenv("OMPI_COMM_WORLD_SIZE") != NULL;
    size_t count = 0;

    while (environ[count] != NULL)
        count++;
    command->environment = calloc(count + 1, sizeof(char *));
    if (command->environment == NULL)
        return false;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!launched || !is_launchers(environ[i]))
            command->environment[kept++] = environ[i];
    return true;
}

// In the child of a process with threads: system calls only.
static _Noreturn void become(const struct command *command, int output)
{
    int null = open("/dev/null", O_RDONLY);

    dup2(null, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
#ifdef SYS_close_range
    // Sockets that mpirun kept open would hide the death of this rank.
    syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
#endif
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    // It takes them without const, and leaves them as they are.
    execve(command->file, (char *const *)command->arguments,
           command->environment);
    _exit(127);
}

static bool wait_readable(int fd, int64_t deadline_ns)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    int ready;

    do {
        int64_t left_ms = (deadline_ns - samples_now_ns()) / 1000000;
        ready = poll(&wanted, 1, left_ms > 0 ? (int)left_ms : 0);
    } while (ready < 0 && errno == EINTR);
    if (ready == 0)
        errno = ETIMEDOUT;
    return ready > 0;
}

// All that comes from `fd` until its end; NULL (errno set) if that takes longer
// than the round may.
static char *read_all(int fd)
{
    int64_t deadline_ns = samples_now_ns() + round_timeout_ms * 1000000;
    size_t room = 1 << 16;
    size_t used = 0;
    char *text = malloc(room);

    while (text != NULL && wait_readable(fd, deadline_ns)) {
        ssize_t bytes = read(fd, text + used, room - used - 1);
        if (bytes == 0) {
            text[used] = '\0';
            return text;
        }
        if (bytes < 0 && errno != EINTR)
            break;
        used += bytes > 0 ? (size_t)bytes : 0;
        if (room - used > 1)
            continue;
        room *= 2;
        char *more = realloc(text, room);
        if (more == NULL)
            break;
        text = more;
    }
    free(text);
    return NULL;
}

// Runs the command and returns its standard output; NULL, and why.
static char *capture(const struct command *command, char *why, size_t why_bytes)
{
    int ends[2];
    int wait_status;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        snprintf(why, why_bytes, "no pipe: %s", strerror(errno));
        return NULL;
    }
    pid_t child = fork();
    if (child == 0)
        become(command, ends[1]);
    close(ends[1]);
    if (child < 0) {
        snprintf(why, why_bytes, "no process: %s", strerror(errno));
        close(ends[0]);
        return NULL;
    }
    char *output = read_all(ends[0]);
    if (output == NULL) {
        snprintf(why, why_bytes, "%s: %s", command->arguments[0],
                 strerror(errno));
        kill(child, SIGTERM);
    }
    close(ends[0]);
    while (waitpid(child, &wait_status, 0) < 0 && errno == EINTR)
        ;
    if (output != NULL && wait_status != 0) {
        snprintf(why, why_bytes, "%s ended with %s %d", command->arguments[0],
                 WIFEXITED(wait_status) ? "status" : "signal",
                 WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
                                        : WTERMSIG(wait_status));
        free(output);
        output = NULL;
    }
    return output;
}

bool peer_parse(struct peer *peer, const char *output, int64_t iterations)
{
    int64_t wrong;
    int header_bytes = 0;
    int64_t samples = 0;

    if (sscanf(output, "library %127[^\n] wrong %" SCNd64 " samples_ns%n",
               peer->library, &wrong, &header_bytes) != 2 ||
        header_bytes == 0)
        return false;
    output += header_bytes;
    for (char *end; samples < iterations; samples++) {
        long long ns = strtoll(output, &end, 10);
        if (end == output)
            return false;
        samples_add(&peer->samples, ns);
        output = end;
    }
    peer->wrong += wrong;
    return strcmp(output, "\n") == 0;
}

bool peer_run(struct peer *peer, const struct peer_round *round, char *why,
              size_t why_bytes)
{
    struct command command = {.count = 0};
    bool parsed = false;

    write_arguments(peer, round, &command);
    if (!write_environment(&command)) {
        snprintf(why, why_bytes, "no memory");
        return false;
    }
    char *output = capture(&command, why, why_bytes);
    if (output != NULL) {
        parsed = peer_parse(peer, output, round->iterations);
        if (!parsed)
            snprintf(why, why_bytes,
                     "%s printed something else than its figures",
                     peer->program);
    }
    free(output);
    free(command.environment);
    return parsed;
}
