/* image_fixture.h - node 1 with a store, which says to which reactor a log belongs, and its image, from records. */
#ifndef TESTS_UNIT_IMAGE_FIXTURE_H
#define TESTS_UNIT_IMAGE_FIXTURE_H
#include <check.h>
#include "log/log.h"
#include "tests/sim/io_sim.h"
#include "tests/unit/image_records.h"

static struct broker broker;                       /* node 1 */
static struct sim_world *world;
static struct io *io;
static struct image *im;
static uint64_t offset;
static uint64_t kinds_made;                         /* kinds of records that were applied, as bits */

static inline void set_up(void) {
    memset(&broker, 0, sizeof broker);
    ck_assert_int_eq(config_defaults(&broker.config), OK);
    /* The store says which reactor a log belongs to. */
    struct log_store_config config = {.dir = "/var/data", .node_id = 1, .shards = 2, .journal_bytes = 8u << 20,
                                      .journal_piece_bytes = 1u << 20, .journal_depth = 2, .open_files_max = 64};
    struct log_recovery recovery;
    char why[256];
    world = sim_world_new(7);
    io = sim_io_create(world, 0);
    ck_assert_int_eq(log_store_open(io, &config, &broker.store, &recovery, why, sizeof why), OK);
    im = image_new_empty();
    offset = kinds_made = 0;
}
static inline void tear_down(void) {
    image_free_last(im);
    config_free(&broker.config);
    log_store_close(broker.store);
    io_destroy(io);
    sim_world_free(world);
}

static enum err apply(struct image_edit *e, const Varve__Metadata__Record *r) {
    kinds_made |= UINT64_C(1) << r->kind_case;
    uint8_t packed[2048];
    size_t len = varve__metadata__record__pack(r, packed);
    return image_edit_apply(e, offset++, packed, len);
}
static inline struct image_edit *begin(void) {
    struct image_edit *e = image_edit_begin(&broker, im);
    ck_assert_ptr_nonnull(e);
    return e;
}
static inline void end(struct image_edit *e) {
    struct image *next = image_edit_finish(e, offset);
    ck_assert_ptr_nonnull(next);
    image_free_older(im, next);
    im = next;
}
#endif
