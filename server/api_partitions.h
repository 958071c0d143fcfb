/* api_partitions.h - one answer about many partitions: their reactors are asked, each once.
 *
 * Everything lies in the request's memory; what comes from the image must have been copied before the
 * questions are sent. Thread: the request's reactor. */
#ifndef SERVER_API_PARTITIONS_H
#define SERVER_API_PARTITIONS_H
#include "server/api.h"
#include "server/partition.h"

struct partition_question;
struct partition_questions {
    struct request *rq;
    void (*answer)(void *target, const struct partition_fact *fact); /* once for each question */
    void (*done)(struct partition_questions *q);                    /* after all of them */
    /* private */
    struct partition_question *of;       /* one for each reactor */
    uint32_t waiting;
};
/* False, here and below: closing. */
MUST_CHECK bool partition_questions_init(struct partition_questions *q, struct request *rq);
MUST_CHECK bool partition_questions_add(struct partition_questions *q, uint32_t owner, uint64_t plid, void *target);
/* `done` runs later, or from this call when nothing was asked; never when there is no memory: closing. The same questions may be sent again. */
void partition_questions_send(struct partition_questions *q);
#endif
