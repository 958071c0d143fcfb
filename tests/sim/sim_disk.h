/* sim_disk.h - files and directories of one simulated node, current and durable. The fault model
 * is at the top of io_sim.h; faults by request and counting are in io_sim.c. */
#ifndef SIM_DISK_H
#define SIM_DISK_H
#include "base/io.h"
#include "tests/sim/io_sim.h"
#include "tests/sim/prng.h"

/* Sparse: a chunk that is NULL is all zeros, so that pre-written journals cost nothing. */
struct sim_image {
    uint8_t **chunks;
    size_t chunk_count;
    uint64_t size;
};

/* A change of a file's content. The list begins with one that is not synced; synced ones behind it
 * keep their place, so that replaying the list in order is right whatever is left out. */
struct sim_change {
    struct list link;
    bool is_truncate, synced;
    uint64_t offset; /* truncation: the new size */
    size_t len;
    uint8_t bytes[];
};

struct sim_name { char *name; struct sim_inode *inode; };
struct sim_names { struct sim_name *items; size_t count, cap; }; /* sorted */

struct sim_inode {
    struct list link; /* sim_disk.inodes */
    uint64_t number;
    bool is_dir, locked, marked;
    uint32_t open_count, name_count; /* name_count: current names */
    uint64_t reserved_bytes;
    int64_t mtime_ms;
    struct sim_image now, durable;
    struct list changes;
    struct sim_names names, durable_names;
};

/* unset one name, set another, or both (rename). Directory NULL: not that half. */
struct sim_name_change {
    struct list link;
    struct sim_inode *unset_dir, *set_dir, *inode;
    char *unset_name, *set_name;
};

struct sim_disk {
    struct list inodes, name_changes;
    struct sim_inode *root;
    uint64_t next_number, capacity_bytes;
    bool names_lost; /* a failed sync has forgotten changes of names; until the machine goes down */
    int64_t *wall_ms; /* borrowed; stamps files */
};

void disk_init(struct sim_disk *d);
void disk_free(struct sim_disk *d);

/* NULL when there is none. `durable`: by durable names. */
struct sim_inode *disk_find(struct sim_disk *d, const char *path, bool durable);
struct sim_inode *disk_create(struct sim_disk *d, const char *path, bool is_dir, int64_t now_ms, int *error);
uint64_t disk_used(const struct sim_disk *d);
/* How many of `len` bytes fit at `offset` before the disk is full. */
size_t disk_room(const struct sim_disk *d, const struct sim_inode *n, uint64_t offset, size_t len);

void disk_write(struct sim_inode *n, uint64_t offset, const void *bytes, size_t len, bool synced, int64_t now_ms);
/* A change that the current image does not see: the write was in flight at the crash. */
void disk_write_lost(struct sim_inode *n, uint64_t offset, const void *bytes, size_t len);
void disk_truncate(struct sim_inode *n, uint64_t size, int64_t now_ms);
void disk_sync(struct sim_inode *n);
void disk_sync_failed(struct sim_inode *n);
/* All files, all directories. */
void disk_sync_all(struct sim_disk *d, bool failed);
void disk_sync_names(struct sim_disk *d, struct sim_inode *dir, bool failed);
int disk_rename(struct sim_disk *d, const char *from, const char *to);
int disk_remove(struct sim_disk *d, const char *path, bool is_dir);
/* Decides the fate of all changes and makes the current state equal to the durable one. */
void disk_crash(struct sim_disk *d, enum sim_crash_policy policy, struct prng *prng);
/* Frees what neither names, changes nor open files reach. */
void disk_sweep(struct sim_disk *d);

size_t image_read(const struct sim_image *m, uint64_t offset, void *buf, size_t len);
void image_write(struct sim_image *m, uint64_t offset, const void *bytes, size_t len);
void image_resize(struct sim_image *m, uint64_t size);
void image_copy(struct sim_image *to, const struct sim_image *from);
void image_free(struct sim_image *m);
#endif
