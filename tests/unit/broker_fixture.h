/* broker_fixture.h - a whole broker in a temporary folder, in the test's own thread, and raw clients.
 *
 * Everything runs by turns: fixture_turn() gives each reactor one. A client's socket is real (loopback);
 * client_receive() turns the reactors until the response is there, so tests have no other threads.
 * VARVE_TEST_IO=blocking chooses the I/O; otherwise io_uring where it works. */
#ifndef TESTS_UNIT_BROKER_FIXTURE_H
#define TESTS_UNIT_BROKER_FIXTURE_H
#include "proto/kafka_messages.h"
#include "proto/record_batch.h"
#include "server/broker.h"

enum { FIXTURE_REACTORS = 2, FIXTURE_ID = 7 };

struct fixture {
    struct broker b;
    struct io *ios[FIXTURE_REACTORS];
    struct log_recovery recovery;
    char dir[64];
    uint16_t port;
    bool ready;
    const char *settings;       /* properties text, or NULL */
};
/* `settings`: more lines of properties. Failures end the test. */
void fixture_start(struct fixture *f, const char *settings);
void fixture_stop(struct fixture *f);    /* clean stop; the folder is removed */
void fixture_restart(struct fixture *f); /* clean stop, start on the same folder */
void fixture_turn(struct fixture *f);

struct client {
    struct fixture *f;
    int fd;
    int32_t correlation;
    int16_t key, version;
    struct wire_writer out;
    struct arena arena;
    uint8_t *in;                /* the last response */
};
void client_open(struct client *c, struct fixture *f);
void client_close(struct client *c);
/* Then encode the body into the writer and client_send(). */
struct wire_writer *client_begin(struct client *c, int16_t key, int16_t version);
void client_send(struct client *c);
/* The response's body, in order of requests; false: the broker closed the connection. */
bool client_receive(struct client *c, struct wire_reader *r);
/* Whether the broker has nothing to say after many turns. */
bool client_waits(struct client *c);
bool client_is_closed(struct client *c);

/* Encode, send, receive, decode; the whole response must be understood. */
#define CALL(c, api_key, api_version, name, request, response)                                         \
    do {                                                                                               \
        struct wire_reader call_r;                                                                     \
        k_##name##_request_encode(&(request), client_begin((c), (api_key), (api_version)), (api_version)); \
        client_send(c);                                                                                \
        ck_assert_msg(client_receive((c), &call_r), "connection closed");                              \
        ck_assert_int_eq(k_##name##_response_decode(&(response), &call_r, (api_version)), OK);         \
        ck_assert_uint_eq(wire_left(&call_r), 0);                                                      \
    } while (0)

enum { KEY_PRODUCE = 0, KEY_FETCH = 1, KEY_LIST_OFFSETS = 2, KEY_METADATA = 3, KEY_FIND_COORDINATOR = 10,
      KEY_API_VERSIONS = 18,
       KEY_CREATE_TOPICS = 19, KEY_DELETE_TOPICS = 20, KEY_INIT_PRODUCER_ID = 22, KEY_EPOCH_END = 23,
           KEY_DESCRIBE_CONFIGS = 32,
       KEY_ALTER_CONFIGS = 33, KEY_CREATE_PARTITIONS = 37, KEY_INCREMENTAL_ALTER = 44, KEY_DESCRIBE_CLUSTER = 60 };

/* ---- short forms of common calls ---- */
int16_t create_topic(struct client *c, const char *name, int32_t partitions);                    /* error code */
int16_t create_topic_with(struct client *c, const char *name, int32_t partitions, const char *config,
                          const char *value);
struct uuid topic_id(struct client *c, const char *name);
/* A batch of `count` records "key", value_bytes of 'v', stamped `timestamp`; malloc'ed. */
struct bytes make_batch(enum batch_codec codec, int32_t count, int32_t value_bytes, int64_t timestamp);
struct produced { int16_t error; int64_t offset, log_append_time,
                 log_start; struct str message; int32_t record_errors; };
/* Newest version by name. `records` is borrowed. */
struct produced produce(struct client *c, const char *topic, int32_t partition, struct bytes records);
void produce_send(struct client *c, const char *topic, int32_t partition, struct bytes records, int16_t acks,
                  int16_t version);
struct produced produce_receive(struct client *c, int16_t version);
struct fetched { int16_t error; int64_t high_watermark, log_start; struct bytes records; };
void fetch_send(struct client *c, const char *topic, int32_t partition, int64_t offset, int32_t min_bytes,
                int32_t max_wait_ms);
struct fetched fetch_receive(struct client *c);
struct fetched fetch(struct client *c, const char *topic, int32_t partition, int64_t offset);
int64_t now_ms(void);
#endif
