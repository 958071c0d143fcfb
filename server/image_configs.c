/* image_configs.c - what is set for topics, brokers and groups, and what is in force. */
#include <stdio.h>
#include "server/image_impl.h"

static uint32_t config_position(const struct image_configs *c, const char *name, bool *found) {
    uint32_t low = 0, high = c->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (strcmp(c->list[mid].name, name) < 0) low = mid + 1;
        else high = mid;
    }
    *found = low < c->count && strcmp(c->list[low].name, name) == 0;
    return low;
}

const char *image_config_get(const struct image_configs *c, const char *name) {
    bool found;
    uint32_t at = config_position(c, name, &found);
    return found ? c->list[at].value : NULL;
}

void image_configs_free(struct image_configs *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        free(c->list[i].name);
        free(c->list[i].value);
    }
    free(c->list);
    *c = (struct image_configs){0};
}

/* Sets or, with a NULL value, removes. */
static enum err configs_set(struct image_configs *c, const char *name, const char *value) {
    bool found;
    uint32_t at = config_position(c, name, &found);
    if (!value) {
        if (!found) return OK;
        free(c->list[at].name);
        free(c->list[at].value);
        memmove(&c->list[at], &c->list[at + 1], (c->count - at - 1) * sizeof *c->list);
        c->count--;
        return OK;
    }
    char *copy = strdup(value);
    if (!copy) return ERR_NOMEM;
    if (found) {
        free(c->list[at].value);
        c->list[at].value = copy;
        return OK;
    }
    char *key = strdup(name);
    struct image_config *grown = key ? realloc(c->list, (c->count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(key);
        free(copy);
        return ERR_NOMEM;
    }
    c->list = grown;
    memmove(&grown[at + 1], &grown[at], (c->count - at) * sizeof *grown);
    grown[at] = (struct image_config){key, copy};
    c->count++;
    return OK;
}

enum err image_configs_copy(struct image_configs *to, const struct image_configs *from) {
    for (uint32_t i = 0; i < from->count; i++) {
        enum err err = configs_set(to, from->list[i].name, from->list[i].value);
        if (err) return err;
    }
    return OK;
}

/* ---- topics ----------------------------------------------------------------------------------------------- */

/* What is in force for the topic: its overrides over the broker's defaults. */
enum err image_resolve_config(struct image_edit *e, const struct image_topic *t, struct topic_config *out) {
    struct topic_override *overrides = malloc(MAX(t->configs.count, 1u) * sizeof *overrides);
    if (!overrides) return ERR_NOMEM;
    for (uint32_t i = 0; i < t->configs.count; i++)
        overrides[i] = (struct topic_override){str_from(t->configs.list[i].name), str_from(t->configs.list[i].value)};
    topic_config_resolve(out, image_config(e->next, e->broker), overrides, t->configs.count);
    out->log.internal = t->internal;
    free(overrides);
    return OK;
}

static enum err apply_topic_config(struct image_edit *e, const Varve__Metadata__Config *m) {
    struct image_topic *t = image_find_topic(e->next, str_from(m->resource_name));
    if (!t) return ERR_CORRUPT;
    t = image_topic_own(e, t);
    if (!t || configs_set(&t->configs, m->key, m->removed ? NULL : m->value) != OK) return ERR_NOMEM;
    if (image_resolve_config(e, t, &t->config) != OK) return ERR_NOMEM;
    return image_add_change(e, (struct image_change){.kind = IMAGE_TOPIC_CONFIGURED, .topic = t, .partition = -1});
}

/* ---- brokers ---------------------------------------------------------------------------------------------- */

static void overlays_free(struct image_broker *b) {
    config_overlay_free(&b->config);
    config_overlay_free(&b->with_defaults);
}

void image_broker_free(struct image_broker *b) {
    if (!b) return;
    overlays_free(b);
    image_configs_free(&b->defaults);
    image_configs_free(&b->own);
    free(b);
}

/* As this edit may change it: a copy unless the edit made it. NULL: memory. */
static struct image_broker *broker_own(struct image_edit *e) {
    struct image *im = e->next;
    if (im->broker && im->broker->edition == im->edition) return im->broker;
    struct image_broker *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->edition = im->edition;
    b->node = e->broker->config.node_id;
    if (im->broker && (image_configs_copy(&b->defaults, &im->broker->defaults) != OK || image_configs_copy(&b->own, &im->broker->own) != OK)) {
        image_broker_free(b);
        return NULL;
    }
    im->broker_garbage = im->broker;
    im->broker = b;
    return b;
}

static enum err overlay_make(struct config *out, const struct config *below, enum config_source source, const struct image_configs *configs) {
    struct config_override *overrides = malloc(MAX(configs->count, 1u) * sizeof *overrides);
    if (!overrides) return ERR_NOMEM;
    for (uint32_t i = 0; i < configs->count; i++) overrides[i] = (struct config_override){configs->list[i].name, configs->list[i].value};
    enum err err = config_overlay(out, below, source, overrides, configs->count);
    free(overrides);
    return err;
}

/* A topic follows the broker in what it does not set itself. */
enum err image_topics_follow(struct image_edit *e) {
    struct image *im = e->next;
    struct topic_config plain; /* of all that set nothing */
    topic_config_resolve(&plain, image_config(im, e->broker), NULL, 0);
    for (uint32_t i = 0; i < im->topic_count; i++) {
        struct image_topic *t = im->by_name[i];
        struct topic_config config = plain;
        config.log.internal = t->internal;
        enum err err = t->configs.count > 0 ? image_resolve_config(e, t, &config) : OK;
        if (err) return err;
        if (memcmp(&config, &t->config, sizeof config) == 0) continue;
        t = image_topic_own(e, t);
        if (!t) return ERR_NOMEM;
        t->config = config;
        err = image_add_change(e, (struct image_change){.kind = IMAGE_TOPIC_CONFIGURED, .topic = t, .partition = -1});
        if (err) return err;
    }
    return OK;
}

/* ---- groups ----------------------------------------------------------------------------------------------- */

void image_groups_free(struct image_groups *s) {
    for (uint32_t i = 0; s && i < s->count; i++) {
        free(s->list[i].name);
        image_configs_free(&s->list[i].configs);
    }
    if (s) free(s->list);
    free(s);
}

static int compare_text(struct str a, const char *b) {
    size_t len = strlen(b);
    int c = memcmp(a.p, b, MIN((size_t)a.len, len));
    return c ? c : ((size_t)a.len > len) - ((size_t)a.len < len);
}

static uint32_t group_position(const struct image_groups *s, struct str name, bool *found) {
    uint32_t low = 0, high = s ? s->count : 0;
    *found = false;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int c = compare_text(name, s->list[mid].name);
        if (c == 0) *found = true;
        if (c == 0) return mid;
        if (c < 0) high = mid;
        else low = mid + 1;
    }
    return low;
}

static const struct image_configs *configs_of(const struct image_groups *s, struct str name) {
    bool found;
    uint32_t at = group_position(s, name, &found);
    return found ? &s->list[at].configs : NULL;
}
const struct image_configs *image_group_configs(const struct image *im, struct str group) { return configs_of(im->groups, group); }

const struct image_configs *image_broker_configs(const struct image *im, const struct broker *b, int32_t node) {
    char name[16];
    if (node == b->config.node_id) return im->broker ? &im->broker->own : NULL;
    snprintf(name, sizeof name, "%d", node);
    return configs_of(im->other_brokers, str_from(name));
}

/* `*list` as this edit may change it, with room for one more. NULL: memory. */
static struct image_groups *groups_own(struct image_edit *e, struct image_groups **list) {
    const struct image_groups *from = *list;
    uint32_t count = from ? from->count : 0;
    if (from && from->edition == e->next->edition) {
        struct image_group *grown = realloc((*list)->list, (count + 1) * sizeof *grown);
        if (grown) (*list)->list = grown;
        return grown ? *list : NULL;
    }
    struct image_groups *s = calloc(1, sizeof *s);
    if (s) s->list = calloc(count + 1, sizeof *s->list);
    bool whole = s && s->list;
    for (uint32_t i = 0; whole && i < count; i++) {
        s->list[i].name = strdup(from->list[i].name);
        s->count = i + 1;
        whole = s->list[i].name && image_configs_copy(&s->list[i].configs, &from->list[i].configs) == OK;
    }
    if (!whole) {
        image_groups_free(s);
        return NULL;
    }
    s->edition = e->next->edition;
    return *list = s;
}

/* One value of a named one in `*list`; who has no values any more leaves it. */
static enum err apply_named(struct image_edit *e, struct image_groups **list, const Varve__Metadata__Config *m) {
    bool found;
    if (m->resource_name[0] == 0) return ERR_CORRUPT;
    struct image_groups *s = groups_own(e, list);
    if (!s) return ERR_NOMEM;
    uint32_t at = group_position(s, str_from(m->resource_name), &found);
    if (!found) {
        char *name = strdup(m->resource_name);
        if (!name) return ERR_NOMEM;
        memmove(&s->list[at + 1], &s->list[at], (s->count - at) * sizeof *s->list);
        s->list[at] = (struct image_group){.name = name};
        s->count++;
    }
    struct image_group *g = &s->list[at];
    if (configs_set(&g->configs, m->key, m->removed ? NULL : m->value) != OK) return ERR_NOMEM;
    if (g->configs.count > 0) return OK;
    free(g->name);
    image_configs_free(&g->configs);
    s->count--;
    memmove(g, g + 1, (s->count - at) * sizeof *g);
    return OK;
}

/* ---- records ---------------------------------------------------------------------------------------------- */

static enum err apply_broker_config(struct image_edit *e, const Varve__Metadata__Config *m) {
    char self[16];
    snprintf(self, sizeof self, "%d", e->broker->config.node_id);
    bool all = m->resource_name[0] == 0;
    if (!all && strcmp(m->resource_name, self) != 0) return apply_named(e, &e->next->other_brokers, m);
    struct image_broker *b = broker_own(e);
    if (!b || configs_set(all ? &b->defaults : &b->own, m->key, m->removed ? NULL : m->value) != OK) return ERR_NOMEM;
    overlays_free(b);
    enum err err = overlay_make(&b->with_defaults, &e->broker->config, CONFIG_DYNAMIC_DEFAULT, &b->defaults);
    if (!err) err = overlay_make(&b->config, &b->with_defaults, CONFIG_DYNAMIC_BROKER, &b->own);
    e->broker_configured = true;
    return err;
}

enum { RESOURCE_TOPIC = 2, RESOURCE_BROKER = 4, RESOURCE_GROUP = 32 }; /* Kafka's numbers */

enum err image_apply_config(struct image_edit *e, const Varve__Metadata__Config *m) {
    switch (m->resource_type) {
    case RESOURCE_TOPIC: return apply_topic_config(e, m);
    case RESOURCE_BROKER: return apply_broker_config(e, m);
    case RESOURCE_GROUP: return apply_named(e, &e->next->groups, m);
    default: return ERR_UNSUPPORTED;
    }
}
