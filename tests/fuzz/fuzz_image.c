/* Records of the metadata log: any bytes are applied or refused, and the image stays whole; and `varve dump` shows them.
 * Input: records, each behind its length (u16). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "server/broker.h"
#include "server/image.h"
#include "tests/sim/io_sim.h"
#include "tools/dump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each node once, lives below those that were given out, somebody who stays. */
static void check_partition(const struct image_partition *p) {
    int32_t staying = 0;
    ASSERT(p->replica_count >= 1 && p->replica_count <= IMAGE_REPLICAS_MAX);
    for (int32_t i = 0; i < p->replica_count; i++) {
        ASSERT(p->at[i].node == p->replicas[i] && image_replica_of(p, p->replicas[i]) == &p->at[i]);
        ASSERT(p->at[i].life < p->lives);
        staying += !p->at[i].removing;
    }
    ASSERT(staying >= 1);
}

static void show(const uint8_t *record, size_t len) {
    static FILE *nowhere;
    struct json_out out;
    struct record r = {.value = {record, (int32_t)len}};
    if (!nowhere) ASSERT((nowhere = fopen("/dev/null", "w")));
    json_init(&out, nowhere);
    json_object(&out, NULL);
    print_metadata_record(&out, false, &r);
    json_object_end(&out);
    json_line(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct broker broker;
    static struct reactor reactors[2];
    if (!broker.reactors) {
        ASSERT(config_defaults(&broker.config) == OK);
        broker.reactors = reactors;
        broker.reactor_count = 2;
        /* The store says which reactor a log belongs to. */
        struct log_store_config config = {.dir = "/var/data", .node_id = 1, .shards = 2, .journal_bytes = 8u << 20,
                                          .journal_piece_bytes = 1u << 20, .journal_depth = 2, .open_files_max = 64};
        struct log_recovery recovery;
        char why[256];
        ASSERT(log_store_open(sim_io_create(sim_world_new(7), 0), &config, &broker.store, &recovery, why, sizeof why) == OK);
    }
    struct image *empty = image_new_empty(), *image = NULL;
    struct image_edit *e = empty ? image_edit_begin_anew(&broker, empty, 0) : NULL;
    ASSERT(e);
    uint64_t offset = 0;
    enum err err = OK;
    while (err == OK && size >= 2) {
        size_t len = MIN((size_t)load_be16(data), size - 2);
        show(data + 2, len);
        err = image_edit_apply(e, offset++, data + 2, len);
        data += 2 + len;
        size -= 2 + len;
    }
    if (err == OK && image_edit_is_whole(e)) image = image_edit_finish(e, offset);
    else image_edit_drop(e);
    if (!image) {
        image_free_last(empty);
        return 0;
    }
    image_free_older(empty, image);
    for (uint32_t i = 0; i < image->topic_count; i++) {
        const struct image_topic *t = image->by_name[i];
        ASSERT(image_topic_by_name(image, (struct str){t->name, t->name_len}) == t);
        ASSERT(image_topic_by_id(image, &t->id) == t);
        for (int32_t k = 0; k < t->partition_count; k++) check_partition(&t->partitions[k]);
    }
    for (uint32_t i = 0; i < image->node_count; i++) {
        ASSERT(image_node(image, image->nodes[i].node) == &image->nodes[i]);
        ASSERT(i == 0 || image->nodes[i - 1].node < image->nodes[i].node);
    }
    image_free_last(image);
    return 0;
}
