/* partition_produce.h - writes to a partition, between server/partition.c and partition_produce.c. */
#ifndef SERVER_PARTITION_PRODUCE_H
#define SERVER_PARTITION_PRODUCE_H
#include "server/partition_impl.h"

/* partition_replica.c: the core decides whether a new epoch begins first. ERR_AGAIN: no room for its marker. */
MUST_CHECK enum err partition_before_append(struct partition *p);
void partition_after_append(struct partition *p);
/* partition.c */
void partition_unref_work(struct partition *p);

/* partition_produce.c */
void partition_pump(struct partition *p);              /* appends what waits, in order of arrival */
void partition_complete_produces(struct partition *p); /* the high watermark moved, or acknowledgements came */
void partition_complete_durable(struct partition *p);  /* the durable end moved */
void partition_fail_produces(struct partition *p, int16_t error);
#endif
