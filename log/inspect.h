/* inspect.h - what a start looks at in the folder of every log, besides the journal's part: whose it is, and whether its
 * files are as long as they were synced. No batch is read, except to tell where a file that is too short ends. Blocks. */
#ifndef LOG_INSPECT_H
#define LOG_INSPECT_H
#include "log/store.h"

enum folder_state { FOLDER_OWN, FOLDER_OTHERS, FOLDER_MISSING, FOLDER_UNKNOWN /* its manifest is missing or damaged */, FOLDER_UNREADABLE };
/* `*plid`: whose it is, for FOLDER_OTHERS; `*neg_errno` for FOLDER_UNREADABLE. */
enum folder_state inspect_folder(struct log_store *s, const struct log_impl *l, uint64_t *plid, int *neg_errno);
/* The file of the segment has only `size` of the bytes that were synced: what is not wholly in it becomes a faulty range. */
void inspect_short(struct log_impl *l, const struct segment *s, uint64_t size, bool missing);
/* A segment whose files were complete: lengths of the three. Indexes that are missing or too short are marked to be made again.
 * 0 or negative errno. */
MUST_CHECK int inspect_segment(struct log_impl *l, struct segment *s);
#endif
