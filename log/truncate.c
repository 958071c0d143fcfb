/* truncate.c - cutting a log back in memory. */
#include "log/shard.h"

enum err impl_cut(struct log_impl *l, int64_t end, struct place place, int32_t epoch) {
    (void)l; (void)end; (void)place; (void)epoch;
    return ERR_UNSUPPORTED;
}
enum err log_truncate(struct log *l, int32_t epoch, int64_t offset) {
    (void)l; (void)epoch; (void)offset;
    return ERR_UNSUPPORTED;
}
