#include "server/api_errors.h"

int16_t api_error(enum err err) {
    switch (err) {
    case OK: return KERR_NONE;
    case ERR_IO:
    case ERR_NOSPACE:
    case ERR_NOMEM: return KERR_KAFKA_STORAGE_ERROR;
    case ERR_RANGE: return KERR_OFFSET_OUT_OF_RANGE;
    case ERR_CORRUPT:
    case ERR_TRUNCATED: return KERR_CORRUPT_MESSAGE;
    case ERR_INVALID: return KERR_INVALID_REQUEST;
    case ERR_UNSUPPORTED: return KERR_UNSUPPORTED_VERSION;
    case ERR_TOO_LARGE: return KERR_RECORD_LIST_TOO_LARGE;
    case ERR_FULL:
    case ERR_BUSY:
    case ERR_AGAIN: return KERR_THROTTLING_QUOTA_EXCEEDED;
    case ERR_EXISTS: return KERR_TOPIC_ALREADY_EXISTS;
    case ERR_NOT_FOUND: return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    case ERR_CLOSED: return KERR_NOT_LEADER_OR_FOLLOWER;
    case ERR_TIMEOUT: return KERR_REQUEST_TIMED_OUT;
    case ERR_DUPLICATE: return KERR_NONE;
    case ERR_SEQUENCE: return KERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    case ERR_FENCED: return KERR_INVALID_PRODUCER_EPOCH;
    case ERR_NOT_CONTROLLER: return KERR_NOT_CONTROLLER;
    case ERR_COUNT: break;
    }
    return KERR_UNKNOWN_SERVER_ERROR;
}
