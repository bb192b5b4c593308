// SPDX-License-Identifier: BSD-3-Clause
// What a transport backend implements: libtally-<name>.so exports the single
// symbol tallyTransport_query. Trainers do not need this header.
//
// Structs begin with {size, abi}, grow at the tail only, and are const after
// they were handed over. A backend keeps no mutable global state, never calls
// getenv or printf: it uses the host's operations.
//
// Thread contract: all calls on one tally_transport_t, and on what was made
// from it, come from one thread at a time (whoever holds Tally's progress
// lock). Errors are negative tally_status_t; the backend says why through
// host->fail, and the layer that decides logs it, once.
#ifndef TALLY_TRANSPORT_H
#define TALLY_TRANSPORT_H

#include <tally/tally.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TALLY_TRANSPORT_ABI 1u
#define TALLY_TRANSPORT_SYMBOL "tallyTransport_query"

typedef struct tally_transport tally_transport_t;
typedef struct tally_endpoint tally_endpoint_t;
// A communicator of stream collectives: the ranks of one group.
typedef struct tally_stream_group tally_stream_group_t;

typedef enum tally_transport_kind {
    // Collectives enqueued on the device stream.
    TALLY_STREAM_COLLECTIVE = 1,
    // Tagged messages between two ranks, from host memory.
    TALLY_TAGGED_P2P = 2
} tally_transport_kind_t;

// What Tally lends to a backend; lives as long as the backend is loaded.
typedef struct tally_transport_host {
    size_t size;
    uint32_t abi;
    void *context;
    void (*log)(void *context, tally_log_level_t level, const char *line);
    // Records the sentence that explains `status` for the calling thread, and
    // returns `status`.
    tally_status_t (*fail)(void *context, tally_status_t status,
                           const char *sentence);
    // The value in force of a TALLY_* row, e.g. "TALLY_UCX_TLS"; NULL if there
    // is no such row.
    const char *(*config)(void *context, const char *name);
    // Aligned to 64 bytes, zeroed; NULL if there is no memory.
    void *(*allocate)(void *context, size_t bytes);
    void (*release)(void *context, void *memory);
    // A hint that the peer behind an endpoint is gone. `peer` is what was given
    // to connect. From within progress.
    void (*peer_lost)(void *context, int32_t peer, const char *why);
} tally_transport_host_t;

// The state of one send or receive. The memory is the caller's and stays until
// the request is complete or the transport is closed.
typedef struct tally_request {
    // TALLY_NOT_YET until complete, then TALLY_OK or an error. Written by the
    // transport from within its calls; read by the holder of the lock.
    tally_status_t status;
    uint32_t bytes; // received
    void *handle;   // the backend's
    void *owner;    // the backend's
} tally_request_t;

typedef struct tally_transport_params {
    size_t size;
    uint32_t abi;
    int32_t rank; // world rank of this process
    int32_t world_size;
    // The interface that leads to the other ranks ("eth0"), and this rank's
    // numeric address on it, IPv4 or IPv6: a backend that is told opens there
    // and nowhere else. NULL: where it finds best; an operator's setting goes
    // before both.
    const char *interface;
    const char *address;
} tally_transport_params_t;

typedef struct tally_stream_group_params {
    size_t size;
    uint32_t abi;
    int32_t rank; // of the caller, in the group
    int32_t ranks;
    // What group_id gave to one of the ranks; not looked at with `adopted`.
    const void *id;
    size_t id_bytes;
    // A communicator of the host program (ncclComm_t) over the same ranks, in
    // the same order: used, never aborted nor destroyed. NULL: one of Tally's.
    void *adopted;
    // What a call may wait at most until the library has taken its work.
    int64_t timeout_us;
} tally_stream_group_params_t;

typedef struct tally_transport_ops {
    size_t size;
    uint32_t abi;
    tally_transport_kind_t kind;
    const char *name;    // "ucx"
    const char *version; // of the backend, e.g. "built against UCX 1.13"

    // Opens a worker with its own resources. Does not block on other ranks.
    tally_status_t (*open)(const tally_transport_host_t *host,
                           const tally_transport_params_t *params,
                           tally_transport_t **out);
    // Closes endpoints (flushing what was sent, bounded to a second), then the
    // worker. Memory of pending requests is free to reuse afterwards.
    void (*close)(tally_transport_t *transport);

    // --- TALLY_TAGGED_P2P
    // The address for others; *bytes is in: room, out: length. MEMORY if the
    // room is too small.
    tally_status_t (*address)(tally_transport_t *transport, void *address,
                              size_t *bytes);
    // An endpoint to a peer (world rank `peer`). Does not block.
    tally_status_t (*connect)(tally_transport_t *transport, int32_t peer,
                              const void *address, size_t bytes,
                              tally_endpoint_t **out);
    // Sends and receives of at most message_max bytes; a message matches a
    // receive with the same 64-bit tag on the destination, in order of
    // posting. tsend: the buffer is free again when the request is complete,
    // for which a large send may wait until its receive is posted.
    // Both may complete at once (request->status is set on return), and return
    // an error only if nothing was posted.
    tally_status_t (*tsend)(tally_endpoint_t *endpoint, uint64_t tag,
                            const void *buffer, size_t bytes,
                            tally_request_t *request);
    tally_status_t (*trecv)(tally_transport_t *transport, uint64_t tag,
                            void *buffer, size_t bytes,
                            tally_request_t *request);
    // Makes progress; returns the number of events seen, or an error.
    int (*progress)(tally_transport_t *transport);
    // Asks for an end of a pending request; it completes with an error, within
    // the call or from a later progress, or in full if it was too late. A send
    // that the library has taken may stay pending until close. The memory stays
    // quarantined until then.
    void (*cancel)(tally_transport_t *transport, tally_request_t *request);
    // A descriptor that becomes readable when progress is worth calling; the
    // call arms it. NOT_YET: there is something to do now. UNSUPPORTED: none.
    tally_status_t (*wait_fd)(tally_transport_t *transport, int *fd);
    size_t message_max;

    // --- TALLY_STREAM_COLLECTIVE
    // Sums `count` int64 lanes in place over the ranks of a
    // tally_stream_group_t that is open, device memory, in the order of the
    // stream, which may be in capture. All ranks enqueue in the same order. The
    // CUDA context of group_open is current. Returns once it is enqueued.
    // Errors: those of group_poll.
    tally_status_t (*allreduce)(tally_transport_t *transport, void *group,
                                int64_t *lanes, size_t count,
                                tally_stream_t stream);

    // --- both; these may be missing from a shorter table, and may be NULL
    // Writes the version of the library in use, e.g. "UCX 1.13.1". Before open,
    // too.
    void (*library_version)(char *text, size_t bytes);
    // As close, but at once: nothing that was sent needs to arrive, and no
    // progress is made. Without it, close is called.
    void (*abandon)(tally_transport_t *transport);
    // Writes a line for each device that a worker could use with the settings
    // in force, for people: "tcp eth0\n". What there is no room for is left
    // out. Before open, too; blocks while the library looks.
    tally_status_t (*devices)(const tally_transport_host_t *host, char *text,
                              size_t bytes);

    // --- TALLY_STREAM_COLLECTIVE, which needs all of these but allreduce_max
    // As allreduce, but the maximum of each lane.
    tally_status_t (*allreduce_max)(tally_transport_t *transport, void *group,
                                    int64_t *lanes, size_t count,
                                    tally_stream_t stream);
    // The identity of a communicator to be: one rank asks, all give it to
    // group_open. *bytes is in: room, out: length. MEMORY if the room is too
    // small.
    tally_status_t (*group_id)(tally_transport_t *transport, void *id,
                               size_t *bytes);
    // Begins a communicator on the device of the CUDA context that is current.
    // Does not wait for other ranks: group_poll says when it is open. After an
    // error there is none.
    tally_status_t (*group_open)(tally_transport_t *transport,
                                 const tally_stream_group_params_t *params,
                                 tally_stream_group_t **out);
    // How it fares: NOT_YET until it is open (one of Tally's own is, once all
    // ranks have done a reduction over it), OK, or an error, from then on
    // always. Does not block. Any thread that holds the lock.
    tally_status_t (*group_poll)(tally_transport_t *transport,
                                 tally_stream_group_t *group);
    // Ends what is under way on streams, at any time, for good: the reductions
    // complete, with anything in their lanes. Does nothing to one adopted,
    // which is its owner's to abort.
    void (*group_abort)(tally_transport_t *transport,
                        tally_stream_group_t *group);
    // Frees it; what is under way on streams is aborted. Blocks at most 3 s:
    // where the library does not end its communicator by then (a CUDA graph
    // holds it), that goes on by itself. NULL: nothing.
    void (*group_close)(tally_transport_t *transport,
                        tally_stream_group_t *group);
} tally_transport_ops_t;

// Hands out the backend's operations. Returns TALLY_ERR_ABI if the backend
// cannot serve host_abi, and TALLY_ERR_TRANSPORT if the library that it found
// does not fit the one it was built against (both versions named by fail).
typedef tally_status_t (*tally_transport_query_t)(
    uint32_t host_abi, const tally_transport_host_t *host,
    const tally_transport_ops_t **ops);

#ifdef __cplusplus
}
#endif

#endif
