#include "server/api_errors.h"

int16_t api_error(enum err err) {
    switch (err) {
    case OK: return KE_NONE;
    case ERR_IO:
    case ERR_NOSPACE:
    case ERR_NOMEM: return KE_KAFKA_STORAGE_ERROR;
    case ERR_RANGE: return KE_OFFSET_OUT_OF_RANGE;
    case ERR_CORRUPT:
    case ERR_TRUNCATED: return KE_CORRUPT_MESSAGE;
    case ERR_INVALID: return KE_INVALID_REQUEST;
    case ERR_UNSUPPORTED: return KE_UNSUPPORTED_VERSION;
    case ERR_TOO_LARGE: return KE_RECORD_LIST_TOO_LARGE;
    case ERR_FULL:
    case ERR_BUSY:
    case ERR_AGAIN: return KE_THROTTLING_QUOTA_EXCEEDED;
    case ERR_EXISTS: return KE_TOPIC_ALREADY_EXISTS;
    case ERR_NOT_FOUND: return KE_UNKNOWN_TOPIC_OR_PARTITION;
    case ERR_CLOSED: return KE_NOT_LEADER_OR_FOLLOWER;
    case ERR_TIMEOUT: return KE_REQUEST_TIMED_OUT;
    case ERR_DUPLICATE: return KE_NONE;
    case ERR_SEQUENCE: return KE_OUT_OF_ORDER_SEQUENCE_NUMBER;
    case ERR_FENCED: return KE_INVALID_PRODUCER_EPOCH;
    case ERR_COUNT: break;
    }
    return KE_UNKNOWN_SERVER_ERROR;
}
