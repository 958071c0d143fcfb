/* Records of __consumer_offsets, as loading meets them: any bytes are state, are passed over, or are refused; what became of them can be
 * asked about and deleted again, record by record.
 * Input: records, each as length of the key (u16), key, length of the value (u16; 65535: a tombstone), value. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/group_api.h"
#include "server/group_coordinator_impl.h"
#include "server/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes take(const uint8_t **data, size_t *size) {
    if (*size < 2) return BYTES_NULL;
    size_t len = load_be16(*data);
    *data += 2;
    *size -= 2;
    if (len == UINT16_MAX) return BYTES_NULL;
    len = MIN(len, *size);
    struct bytes b = {*data, (int32_t)len};
    *data += len;
    *size -= len;
    return b;
}

/* Everything that is known of the group goes. */
static void delete_group(struct coordinator *c, struct group *g) {
    struct group_records records;
    struct group_summary sum = group_summary(g);
    ASSERT(sum.state && sum.type);
    (void)group_subscribes(g, STR_LIT("t"));
    g->pins++;
    for (int i = 0; i < 10000 && group_recorded(g); i++) {
        group_records_begin(&records);
        group_put_tombstones(g, &records);
        ASSERT(records.err == OK && records.count > 0);
        for (uint32_t k = 0; k < records.count; k++)
            ASSERT(coordinator_replay(c, group_records_key(&records, k), group_records_value(&records, k)) == OK);
        group_records_free(&records);
        if (!group_is_empty(g)) break; /* a coordinator does this to groups without members only */
    }
    ASSERT(!group_recorded(g) || group_has_consumer(g));
    g->pins--;
    group_settle(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct broker broker;
    static struct reactor reactor;
    if (!reactor.broker) {
        ASSERT(config_defaults(&broker.config) == OK);
        broker.reactors = &reactor;
        broker.reactor_count = 1;
        reactor.broker = &broker;
        reactor.image = image_new_empty();
        timers_init(&reactor.timers);
    }
    reactor.groups = group_set_new(&reactor);
    struct coordinator *c = calloc(1, sizeof *c);
    ASSERT(reactor.groups && c);
    c->set = reactor.groups;
    list_push_back(&reactor.groups->all, &c->link);
    list_init(&c->work);
    list_init(&c->commits);
    list_init(&c->parked);
    while (size >= 2) {
        struct bytes key = take(&data, &size), value = take(&data, &size);
        enum err err = coordinator_replay(c, key, value);
        if (err == ERR_INVALID) break; /* loading stops */
    }
    struct group *g, *next;
    HASH_ITER(hh, c->groups, g, next) delete_group(c, g);
    group_set_free(reactor.groups);
    ASSERT(atomic_load(&broker.group_bytes) == 0);
    return 0;
}
