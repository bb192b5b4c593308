// SPDX-License-Identifier: BSD-3-Clause
// See scene.h.
#include "quorum/scene.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/error.h"

#define SETTINGS_MAX 16

const struct scene_provider scene_providers[SCENE_PROVIDERS] = {
    [SCENE_FOLDER] = {"folder", false, true, false, false},
    [SCENE_STATIC] = {"static", true, false, true, false},
    [SCENE_CALLBACK] = {"callback", true, true, false, false},
    [SCENE_ETCD] = {"etcd", true, true, true, true},
};

static int provider;
static char folder[64];
static struct {
    char name[64];
    char value[512];
} settings[SETTINGS_MAX];
static int setting_count;
static uint16_t etcd_ports[2]; // for clients, for other members

// A trainer's membership: what all objects of this process have announced.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool there;
    tally_member_t member;
    uint8_t address[QUORUM_ADDRESS_MAX];
} store[SCENE_PEERS];

static tally_status_t store_announce(void *context, const tally_member_t *self)
{
    (void)context;
    pthread_mutex_lock(&lock);
    if (!store[self->peer].there ||
        store[self->peer].member.incarnation < self->incarnation) {
        store[self->peer].there = true;
        store[self->peer].member = *self;
        memcpy(store[self->peer].address, self->address, self->address_bytes);
        store[self->peer].member.address = store[self->peer].address;
    }
    pthread_mutex_unlock(&lock);
    return TALLY_OK;
}

static tally_status_t
store_look(void *context,
           void (*tell)(void *tally, const tally_member_t *member), void *tally)
{
    (void)context;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SCENE_PEERS; i++)
        if (store[i].there)
            tell(tally, &store[i].member);
    pthread_mutex_unlock(&lock);
    return TALLY_OK;
}

static void store_withdraw(void *context)
{
    const uint16_t *peer = context;

    pthread_mutex_lock(&lock);
    store[*peer].there = false;
    pthread_mutex_unlock(&lock);
}

const char *scene_setting(const char *name)
{
    for (int i = 0; i < setting_count; i++)
        if (strcmp(settings[i].name, name) == 0)
            return settings[i].value;
    return NULL;
}

static const char *setting(void *context, const char *name)
{
    enum config_key key = config_find(name);
    const char *value = scene_setting(name);

    (void)context;
    if (value != NULL)
        return value;
    return key == CONFIG_COUNT ? NULL : config_table[key].preset;
}

void scene_set(const char *name, const char *value)
{
    int i = 0;

    while (i < setting_count && strcmp(settings[i].name, name) != 0)
        i++;
    ck_assert_int_lt(i, SETTINGS_MAX);
    if (i == setting_count)
        setting_count++;
    snprintf(settings[i].name, sizeof(settings[i].name), "%s", name);
    snprintf(settings[i].value, sizeof(settings[i].value), "%s",
             value != NULL ? value : config_table[config_find(name)].preset);
}

// None that the kernel gives out by itself: it would to others, soon.
uint16_t scene_free_port(void)
{
    static int64_t tries;
    struct sockaddr_in place = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    do
        place.sin_port =
            htons((uint16_t)(10000 + (clock_now_us() + ++tries) % 19000));
    while (bind(fd, (struct sockaddr *)&place, sizeof(place)) != 0);
    close(fd);
    return ntohs(place.sin_port);
}

static bool start_etcd(void)
{
    char url[64];

    etcd_ports[0] = scene_free_port();
    etcd_ports[1] = scene_free_port();

    snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)etcd_ports[0]);
    scene_set("TALLY_ETCD_ENDPOINTS", url);
    scene_set("TALLY_ETCD_LEASE", "2");
    scene_set("TALLY_PLUGIN_PATH", BUILD_FOLDER "/.libs");
    return access(BUILD_FOLDER "/.libs/libtally-etcd.so", F_OK) == 0 &&
           etcd_server_start(etcd_ports[0], etcd_ports[1], folder);
}

void scene_etcd_restart(bool start)
{
    etcd_server_kill();
    if (start)
        ck_assert(etcd_server_start(etcd_ports[0], etcd_ports[1], folder));
}

static void list_ports(void)
{
    char list[256];
    unsigned ports[SCENE_PEERS];

    for (int i = 0; i < SCENE_PEERS; i++)
        ports[i] = scene_free_port();
    snprintf(list, sizeof(list), "127.0.0.1:%u,localhost:%u,127.0.0.1:%u",
             ports[0], ports[1], ports[2]);
    scene_set("TALLY_QUORUM_LIST", list);
}

bool scene_open(int number)
{
    provider = number;
    setting_count = 0;
    memset(store, 0, sizeof(store));
    strcpy(folder, "/tmp/tally-quorum.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    scene_set("TALLY_REPLICA_FOLDER", folder);
    if (provider == SCENE_STATIC)
        list_ports();
    return provider != SCENE_ETCD || start_etcd();
}

void scene_close(void)
{
    char command[128];

    etcd_server_kill();
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

tally_status_t scene_try(const char *job, uint16_t peer, struct quorum **out)
{
    static uint16_t numbers[SCENE_PEERS] = {0, 1, 2};
    tally_membership_t membership = TALLY_INIT(tally_membership_t);
    const struct quorum_params params = {
        .provider = scene_providers[provider].name,
        .job = job,
        .peer = peer,
        .peers = SCENE_PEERS,
        .setting = setting,
        .membership = provider == SCENE_CALLBACK ? &membership : NULL,
    };

    membership.context = &numbers[peer];
    membership.announce = store_announce;
    membership.look = store_look;
    membership.withdraw = store_withdraw;
    return quorum_open(&params, out);
}

struct quorum *scene_member(uint16_t peer, uint64_t *incarnation)
{
    struct quorum *quorum = NULL;

    ck_assert_msg(scene_try("job", peer, &quorum) == TALLY_OK, "%s",
                  core_error_text());
    ck_assert_msg(quorum_incarnation(quorum, SCENE_TIMEOUT_US, incarnation) ==
                      TALLY_OK,
                  "%s", core_error_text());
    ck_assert_uint_ne(*incarnation, 0);
    return quorum;
}

struct quorum *scene_announced(uint16_t peer, const void *address, size_t bytes,
                               uint64_t *incarnation)
{
    struct quorum *quorum = scene_member(peer, incarnation);

    ck_assert_int_eq(quorum_announce(quorum, address, bytes), TALLY_OK);
    return quorum;
}

struct quorum_event scene_await(struct quorum *quorum,
                                enum quorum_event_kind kind, uint16_t peer)
{
    const struct timespec nap = {0, 5000000};
    int64_t deadline_us = clock_now_us() + SCENE_TIMEOUT_US;
    struct quorum_event event;

    while (clock_now_us() < deadline_us) {
        while (quorum_next(quorum, &event))
            if (event.kind == kind && event.member.peer == peer)
                return event;
        nanosleep(&nap, NULL);
    }
    ck_abort_msg("no event %d about peer %u came", (int)kind, (unsigned)peer);
    return event;
}

tally_status_t scene_answer(struct quorum *quorum, uint64_t request,
                            char sentence[QUORUM_SENTENCE_BYTES])
{
    struct quorum_event event = scene_await(quorum, QUORUM_ANSWER, 0);

    ck_assert_uint_eq(event.request, request);
    snprintf(sentence, QUORUM_SENTENCE_BYTES, "%s", event.sentence);
    return event.status;
}
