/* api_fetch_session.c - a Fetch and its session, which may live on another reactor.
 *
 * A session belongs to the reactor that made it, the one of the connection that asked for it, and its id tells which: each
 * reactor gives out ids of a range of its own. A request with an id of another reactor goes there by mail, twice: when it
 * arrives (the session takes its changes, the list of partitions comes back in the request's memory) and when all are
 * read (the session keeps what the answer says, and says what it must say). So a client may come back through another
 * connection, at the price of two mails for each Fetch. */
#include "base/assert.h"
#include "server/api_fetch_impl.h"

static struct fetch_session_cache *cache_of(struct reactor *r) { return r->fetch_sessions; }

/* ---- there and back ------------------------------------------------------------------------------------ */

static void mail_home(struct mail *m) {
    struct fetch_state *s = CONTAINER_OF(m, struct fetch_state, mail);
    s->rq->arena_away = false;
    s->session_next(s);
}
static void mail_there(struct mail *m) {
    struct fetch_state *s = CONTAINER_OF(m, struct fetch_state, mail);
    s->session_work(s);
    s->mail.deliver = mail_home;
    mailbox_post(&s->rq->reactor->mailbox, &s->mail);
}

/* Meanwhile the request is that reactor's: its frame is read there, its arena filled. */
static void on_owner(struct fetch_state *s, void (*work)(struct fetch_state *s), void (*next)(struct fetch_state *s)) {
    if (s->session_owner == s->rq->reactor) {
        work(s);
        next(s);
        return;
    }
    s->session_work = work;
    s->session_next = next;
    s->rq->arena_away = true;
    s->mail.deliver = mail_there;
    mailbox_post(&s->session_owner->mailbox, &s->mail);
}

static struct reactor *owner_of(const struct broker *b, int32_t id) {
    uint32_t range = (uint32_t)(INT32_MAX / (int32_t)b->reactor_count);
    uint32_t index = id > 0 ? ((uint32_t)id - 1) / range : 0;
    return &b->reactors[MIN(index, b->reactor_count - 1)];
}

/* ---- arrival --------------------------------------------------------------------------------------------- */

/* Where the session's partitions are: looked up again when the image has changed. */
static void resolve(struct fetch_session *session, struct reactor *r) {
    const struct image *im = reactor_image(r);
    const struct fetch_session_topic *last = NULL;
    const struct image_topic *t = NULL;
    if (session->edition == im->edition) return;
    for (uint32_t i = session->first; i != FETCH_SESSION_NO_PART; i = session->parts[i].next) {
        struct fetch_session_part *p = &session->parts[i];
        if (p->topic != last) {
            last = p->topic;
            t = session->by_id ? image_topic_by_id(im, &last->id)
                               : image_topic_by_name(im, (struct str){last->name, last->name_len});
        }
        const struct image_partition *where = t ? image_partition(t, p->want.partition) : NULL;
        p->error = where ? KERR_NONE : !t && session->by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
        p->plid = where ? where->plid : 0;
        p->owner = where ? where->owner : 0;
    }
    session->edition = im->edition;
}

static void list_items(struct fetch_state *s, struct fetch_session *session) {
    struct broker *b = request_broker(s->rq);
    s->items = arena_array(&s->rq->arena, session->part_count, sizeof *s->items);
    s->no_memory = s->items == NULL;
    if (s->no_memory) return;
    for (uint32_t i = session->first; i != FETCH_SESSION_NO_PART; i = session->parts[i].next) {
        const struct fetch_session_part *p = &session->parts[i];
        struct fetch_item *item = &s->items[s->item_count++];
        item->partition = p->want.partition;
        item->session_part = i;
        item->part = (struct fetch_part){
            .plid = p->plid, .offset = p->want.offset, .max_bytes = p->want.max_bytes,
            .current_leader_epoch = p->want.current_leader_epoch, .last_fetched_epoch = p->want.last_fetched_epoch,
            .diverging_epoch = -1, .leader_epoch = -1, .leader = -1, .preferred = -1, .error = p->error,
            .from_follower = request_version(s->rq) >= 11,
        };
        if (p->error) s->refused = true;
        else item->owner = &b->reactors[p->owner];
    }
}

static void open_work(struct fetch_state *s) {
    struct reactor *r = s->session_owner;
    struct fetch_session *session;
    s->out.error_code = fetch_session_begin(cache_of(r), &s->in, request_version(s->rq), r->now_ns / 1000000, &s->kind,
                                            &session);
    if (!session) return;
    s->session_id = session->id;
    s->session_serial = session->serial;
    resolve(session, r);
    list_items(s, session);
}

void fetch_session_open(struct fetch_state *s, void (*next)(struct fetch_state *s)) {
    s->session_owner = s->in.session_id ? owner_of(request_broker(s->rq), s->in.session_id) : s->rq->reactor;
    on_owner(s, open_work, next);
}

/* ---- the answer -------------------------------------------------------------------------------------------- */

static struct fetch_told told_of(const struct fetch_item *item) {
    const struct fetch_part *part = &item->part;
    if (part->error) return (struct fetch_told){.high_watermark = -1, .log_start = -1, .error = part->error};
    return (struct fetch_told){
        .high_watermark = part->high_watermark, .log_start = part->log_start,
        .diverging = part->diverging_epoch >= 0 || part->preferred >= 0, .records = part->read && part->read->bytes > 0,
    };
}

/* The topics of a session are its reactor's, so the answer gets copies. */
static void tell_item(struct fetch_state *s, const struct fetch_session_topic *t, struct fetch_item *item) {
    item->told = true;
    item->topic_id = t->id;
    item->topic = request_copy(s->rq, (struct str){t->name, t->name_len});
    if (!item->topic.p) s->no_memory = true;
}

static void close_work(struct fetch_state *s) {
    const struct fetch_session_topic *last = NULL;
    struct fetch_item *last_item = NULL;
    struct fetch_session *session = fetch_session_end(cache_of(s->session_owner), s->session_id, s->session_serial,
                                                      s->in.session_epoch, &s->out.error_code);
    /* Kafka's answer to a request that was overtaken names the session; one that is gone has no name. */
    s->out.session_id = s->out.error_code == KERR_FETCH_SESSION_ID_NOT_FOUND ? 0 : s->session_id;
    for (uint32_t i = 0; session && !s->throttled && i < s->item_count; i++) {
        struct fetch_item *item = &s->items[i];
        struct fetch_told told = told_of(item);
        const struct fetch_session_topic *t = session->parts[item->session_part].topic;
        if (!fetch_session_tell(session, item->session_part, &told)) continue;
        if (t != last) {
            tell_item(s, t, item);
        } else {
            item->told = true;
            item->topic_id = last_item->topic_id;
            item->topic = last_item->topic;
        }
        last = t;
        last_item = item;
    }
}

/* On this reactor. The session starts with what the answer says. */
static void make(struct fetch_state *s) {
    struct reactor *r = s->rq->reactor;
    struct fetch_session_topic *topic = NULL;
    uint32_t random, part;
    io_entropy(r->io, &random, sizeof random);
    struct fetch_session *session = fetch_session_make(cache_of(r), s->item_count, request_version(s->rq) >= 13, random,
                                                       r->now_ns / 1000000);
    if (!session) return;
    for (uint32_t i = 0; i < s->item_count; i++) {
        const struct fetch_item *item = &s->items[i];
        struct fetch_want want = {item->partition, item->part.max_bytes, item->part.current_leader_epoch,
                                  item->part.last_fetched_epoch, item->part.offset};
        struct fetch_told told = told_of(item);
        if (fetch_session_add(cache_of(r), session, &topic, item->topic, &item->topic_id, &want, &part) != OK) {
            fetch_session_remove(cache_of(r), session);
            return;
        }
        session->parts[part].high_watermark = told.high_watermark;
        session->parts[part].log_start = told.log_start;
    }
    s->out.session_id = session->id;
}

void fetch_session_close(struct fetch_state *s, void (*next)(struct fetch_state *s)) {
    if (s->kind == FETCH_CONTINUED) {
        on_owner(s, close_work, next);
        return;
    }
    for (uint32_t i = 0; i < s->item_count; i++) s->items[i].told = !s->throttled;
    if (s->kind == FETCH_NEW && !s->throttled) make(s);
    next(s);
}

struct fetch_session_cache *fetch_sessions_new(struct reactor *r) {
    const struct broker *b = r->broker;
    int32_t reactors = (int32_t)b->reactor_count, range = INT32_MAX / reactors;
    int32_t slots = b->config.fetch_session_slots;
    uint32_t share = (uint32_t)(slots / reactors) + ((int32_t)r->index < slots % reactors);
    struct fetch_session_limits limits = {
        .slots = MIN(share, FETCH_SESSIONS_MAX), .bytes_max = b->config.memory_max_bytes / 32 / reactors,
        .id_first = 1 + (int32_t)r->index * range, .id_count = range, .evict_ms = FETCH_SESSION_EVICT_MS,
    };
    return fetch_session_cache_new(&limits);
}
