/* What a forward pass of Llama or Qwen2 does between its matrix products, on a CPU, and the drawing of tokens; called by cpu_kernels.py.
 *
 * A batched matrix product treats each row's one query as a matrix of its own, at a microsecond or two each, and every small
 * operation between passes over memory once more. Here each row's keys and values are read once, as far as the row is long.
 * No result depends on which other rows there are. Vectors of eight are GCC's and Clang's extension: AVX2, two NEON or SSE registers.
 * Numbers lie in memory as float32, or as bfloat16 where `bf16` is 1; sums are float32, but for those over blocks and within one that tokens are drawn by.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float f8 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32)));
typedef uint32_t u8 __attribute__((vector_size(32)));
typedef uint16_t h8 __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define UNROLL _Pragma("unroll")
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (i8){__VA_ARGS__})
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { WIDEST_HEAD = 128 };

INLINE long bytes(const int bf16) { return bf16 ? 2 : 4; }

/* Eight numbers from place `at` on. A bfloat16 is the upper half of a float32. */
INLINE f8 load_as(const void *from, long at, const int bf16) {
    f8 value;
    h8 upper;
    if (!bf16) {
        memcpy(&value, (const float *)from + at, sizeof value);
        return value;
    }
    memcpy(&upper, (const uint16_t *)from + at, sizeof upper);
    return (f8)(__builtin_convertvector(upper, u8) << 16);
}

/* Rounded to the nearest, of two to the even one, as torch rounds. */
INLINE void store_as(void *to, long at, f8 value, const int bf16) {
    if (bf16) {
        const u8 bits = (u8)value;
        const h8 upper = __builtin_convertvector((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, h8);
        memcpy((uint16_t *)to + at, &upper, sizeof upper);
    } else
        memcpy((float *)to + at, &value, sizeof value);
}

INLINE f8 load(const float *from) { return load_as(from, 0, 0); }

INLINE void store(float *to, f8 value) { store_as(to, 0, value, 0); }

INLINE f8 all(float value) { return (f8){value, value, value, value, value, value, value, value}; }

INLINE f8 larger(f8 a, f8 b) {
    const i8 first = a > b;
    return (f8)(((i8)a & first) | ((i8)b & ~first));
}

INLINE float sum(f8 a) { return ((a[0] + a[1]) + (a[2] + a[3])) + ((a[4] + a[5]) + (a[6] + a[7])); }

/* e^x for x <= 87, 0 up to -87 and for what is not a number; as 2^n 2^r with |r| <= 1/2, the polynomial is exp2f's of Cephes (Moshier). */
INLINE f8 exponential(f8 x) {
    const f8 turns = larger(x, all(-87.0f)) * 1.44269504f;
    const f8 shifted = turns + 12582912.0f; /* 1.5 * 2^23: rounds, and leaves n in the lowest bits */
    const f8 rest = turns - (shifted - 12582912.0f);
    const float factors[] = {1.339887440e-3f, 9.618437357e-3f, 5.550332471e-2f, 2.402264791e-1f, 6.931472028e-1f, 1.0f};
    f8 power = all(1.535336188e-4f);
    UNROLL
    for (int i = 0; i < 6; i++)
        power = power * rest + factors[i];
    const f8 value = power * (f8)(((i8)shifted - 0x4B400000 + 127) << 23);
    return (f8)((i8)value & (x > all(-87.0f)));
}

/* The sums of eight vectors, one in each place. */
INLINE f8 sums(const f8 a[8]) {
    f8 pair[4], four[2];
    UNROLL
    for (int i = 0; i < 4; i++)
        pair[i] = SHUFFLE(a[2 * i], a[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14) + SHUFFLE(a[2 * i], a[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    UNROLL
    for (int i = 0; i < 2; i++)
        four[i] = SHUFFLE(pair[2 * i], pair[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE(pair[2 * i], pair[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15);
    return SHUFFLE(four[0], four[1], 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(four[0], four[1], 4, 5, 6, 7, 12, 13, 14, 15);
}

/* One query over the first `length` keys and values of its head; the sums do not depend on where these lie. */
INLINE void attend_once(const float *query, const char *const *keys, const char *const *values, long length, float *weights, char *out,
                        const int size, const int bf16) {
    const int parts = size / 8;
    const f8 scale = all(1.0f / sqrtf((float)size));
    f8 asked[WIDEST_HEAD / 8], even[WIDEST_HEAD / 8], odd[WIDEST_HEAD / 8];
    UNROLL
    for (int i = 0; i < parts; i++)
        asked[i] = load(query + 8 * i) * scale;
    f8 top = all(-INFINITY);
    for (long at = 0; at < length; at += 8) {
        f8 products[8];
        UNROLL
        for (int j = 0; j < 8; j++) {
            const char *key = keys[at + j < length ? at + j : length - 1];
            products[j] = asked[0] * load_as(key, 0, bf16);
            UNROLL
            for (int i = 1; i < parts; i++)
                products[j] += asked[i] * load_as(key, 8 * i, bf16);
        }
        f8 scores = sums(products);
        for (long j = length - at; j < 8; j++)
            scores[j] = -INFINITY;
        top = larger(top, scores);
        store(weights + at, scores);
    }
    float most = top[0];
    for (int i = 1; i < 8; i++)
        most = top[i] > most ? top[i] : most;
    f8 total = all(0.0f);
    for (long at = 0; at < length; at += 8) {
        const f8 weight = exponential(load(weights + at) - most);
        total += weight;
        store(weights + at, weight);
    }
    UNROLL
    for (int i = 0; i < parts; i++)
        even[i] = odd[i] = all(0.0f);
    for (long at = 0; at < length; at += 2) { /* two sums, so that one need not wait for the other; weights beyond the last are 0 */
        const char *value = values[at], *next = values[at + 1 < length ? at + 1 : at];
        UNROLL
        for (int i = 0; i < parts; i++) {
            even[i] += weights[at] * load_as(value, 8 * i, bf16);
            odd[i] += weights[at + 1] * load_as(next, 8 * i, bf16);
        }
    }
    const float share = 1.0f / sum(total);
    UNROLL
    for (int i = 0; i < parts; i++)
        store_as(out, 8 * i, (even[i] + odd[i]) * share, bf16);
}

/* angles: cosines, then sines of which the first half are negated. */
INLINE void rotate(const char *head, const float *angles, void *out, const int size, const int bf16, const int bf16_out) {
    const int half = size / 2;
    UNROLL
    for (int i = 0; i < half; i += 8) {
        const f8 first = load_as(head, i, bf16), second = load_as(head, i + half, bf16);
        store_as(out, i, first * load(angles + i) + second * load(angles + size + i), bf16_out);
        store_as(out, i + half, second * load(angles + half + i) + first * load(angles + size + half + i), bf16_out);
    }
}

/* Neighbouring positions of a parked sequence: at `address` lies (layers, 2, kv_heads, held, size), of which the first is position `first`;
 * the sequence's positions from `stop` on are not read here. PART of slot_cache.py. */
typedef struct {
    const char *address;
    int64_t held, first, stop;
} Part;

/* What a row goes on from: parts, of which `length` positions are read, fewer than the row has. SHARED of slot_cache.py. */
typedef struct {
    const Part *parts;
    int64_t length;
} Shared;

typedef struct {
    const char *qkv;           /* (rows, new, heads + 2 kv_heads, size) */
    const float *angles;       /* (positions, 2, size) */
    const int64_t *positions;  /* (rows, new) */
    char *keys, *values;       /* (slots, kv_heads, capacity, size) */
    const Shared *shared;      /* (slots) */
    char *out;                 /* (rows, new, heads, size) */
    int64_t rows, layer, added, heads, kv_heads, capacity;
} Attention;

/* Where each of the first `length` keys and values of a row's head lies: in what was parked, which siblings share, then in the row. */
INLINE void find(const Attention *a, long row, long kv_head, long length, const char **keys, const char **values, const long head) {
    const long read = a->shared[row].length;
    long at = 0;
    for (const Part *part = a->shared[row].parts; at < read; part++) {
        const char *of_part = part->address + (2 * a->layer * a->kv_heads + kv_head) * part->held * head;
        for (; at < read && at < part->stop; at++) {
            keys[at] = of_part + (at - part->first) * head;
            values[at] = keys[at] + a->kv_heads * part->held * head;
        }
    }
    const long own = (row * a->kv_heads + kv_head) * a->capacity * head;
    for (; at < length; at++) {
        keys[at] = a->keys + own + at * head;
        values[at] = a->values + own + at * head;
    }
}

/* keys: room for the addresses of a row's keys and values, and for a weight of each. */
INLINE void attend_row(const Attention *a, long row, const char **keys, const int size, const int bf16) {
    const char **values = keys + a->capacity;
    float *weights = (float *)(values + a->capacity);
    const long group = a->heads / a->kv_heads, bytes_of_head = size * bytes(bf16), width = (a->heads + 2 * a->kv_heads) * bytes_of_head;
    float query[WIDEST_HEAD];
    const char *of_row = a->qkv + row * a->added * width;
    const int64_t *positions = a->positions + row * a->added;
    for (long token = 0; token < a->added; token++) {
        const char *key = of_row + token * width + a->heads * bytes_of_head, *value = key + a->kv_heads * bytes_of_head;
        for (long head = 0; head < a->kv_heads; head++) {
            const long place = ((row * a->kv_heads + head) * a->capacity + positions[token]) * bytes_of_head;
            rotate(key + head * bytes_of_head, a->angles + positions[token] * 2 * size, a->keys + place, size, bf16, bf16);
            memcpy(a->values + place, value + head * bytes_of_head, bytes_of_head);
        }
    }
    for (long head = 0; head < a->heads; head++) {
        if (head % group == 0)
            find(a, row, head / group, positions[a->added - 1] + 1, keys, values, bytes_of_head);
        for (long token = 0; token < a->added; token++) {
            const long at = positions[token];
            rotate(of_row + token * width + head * bytes_of_head, a->angles + at * 2 * size, query, size, bf16, 0);
            char *out = a->out + ((row * a->added + token) * a->heads + head) * bytes_of_head;
            attend_once(query, keys, values, at + 1, weights, out, size, bf16);
        }
    }
}

/* Each a copy of its own, with loops over a head unrolled. */
#define OF_SIZE(size) \
    case size: \
        if (bf16) \
            attend_row(a, row, keys, size, 1); \
        else \
            attend_row(a, row, keys, size, 0); \
        break;

/* Rotary embedding, writing new keys and values, causal attention; 1 where it cannot be done. Rows are shared out among threads, if the
 * compiler knows OpenMP. */
int attend(const Attention *a, int64_t size, int64_t bf16, int64_t threads) {
    int failed = 0;
    (void)threads;
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
    {
        const char **keys = malloc(2 * a->capacity * sizeof *keys + (a->capacity + 8) * sizeof(float));
        failed = !keys;
#pragma omp for schedule(dynamic)
        for (long row = 0; row < a->rows; row++) {
            if (failed)
                continue;
            switch (size) {
                OF_SIZE(16)
                OF_SIZE(32)
                OF_SIZE(64)
                OF_SIZE(96)
                OF_SIZE(128)
            default: failed = 1;
            }
        }
        free(keys);
    }
    return failed;
}

/* Root mean square norm of a vector of float32; `weight` and `out` are bfloat16 where `bf16` is 1. */
INLINE void norm_row(const float *hidden, const char *weight, char *out, long width, float epsilon, const int bf16) {
    f8 squares = all(0.0f);
    long i = 0;
    for (; i + 8 <= width; i += 8)
        squares += load(hidden + i) * load(hidden + i);
    float total = sum(squares);
    for (; i < width; i++)
        total += hidden[i] * hidden[i];
    const float scale = 1.0f / sqrtf(total / (float)width + epsilon);
    for (i = 0; i + 8 <= width; i += 8)
        store_as(out, i, load(hidden + i) * scale * load_as(weight, i, bf16), bf16);
    for (; !bf16 && i < width; i++)
        ((float *)out)[i] = hidden[i] * scale * ((const float *)weight)[i];
}

/* Rows are shared out among threads, here and below. */
void norm(const float *hidden, const char *weight, char *out, int64_t rows, int64_t width, float epsilon, int64_t bf16, int64_t threads) {
    (void)threads;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++)
        if (bf16)
            norm_row(hidden + row * width, weight, out + row * width * bytes(1), width, epsilon, 1);
        else
            norm_row(hidden + row * width, weight, out + row * width * bytes(0), width, epsilon, 0);
}

/* silu(gate) * up, where a row holds `width` numbers of gate, then as many of up. */
INLINE void gate_row(const char *gate_up, char *out, long width, const int bf16) {
    const char *up = gate_up + width * bytes(bf16);
    long i = 0;
    for (; i + 8 <= width; i += 8) {
        const f8 x = load_as(gate_up, i, bf16);
        store_as(out, i, x / (1.0f + exponential(-larger(x, all(-87.0f)))) * load_as(up, i, bf16), bf16);
    }
    for (; !bf16 && i < width; i++) {
        const float x = ((const float *)gate_up)[i];
        ((float *)out)[i] = x / (1.0f + expf(-x)) * ((const float *)up)[i];
    }
}

void gate(const char *gate_up, char *out, int64_t rows, int64_t width, int64_t bf16, int64_t threads) {
    (void)threads;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++)
        if (bf16)
            gate_row(gate_up + 2 * row * width * bytes(1), out + row * width * bytes(1), width, 1);
        else
            gate_row(gate_up + 2 * row * width * bytes(0), out + row * width * bytes(0), width, 0);
}

enum { BLOCK = 256 }; /* neighbouring tokens whose weights are summed as one */

/* Weights of eight logits, of which the largest of all has 1. */
INLINE f8 weights_of(const char *logits, long at, float top, float scale, const int bf16) {
    return exponential((load_as(logits, at, bf16) - top) * scale);
}

typedef struct {
    const char *logits;    /* (rows, vocabulary), of a multiple of eight */
    const int64_t *of;     /* each sample's row, (samples) */
    const double *uniform; /* each sample's number in [0, 1), (samples) */
    int64_t *places;       /* (samples) */
    int64_t rows, samples, vocabulary;
} Drawing;

/* Where the row's samples fall in its cumulative distribution; -1 where logits are NaN or infinite. sums: room for one of each block. */
INLINE void draw_row(const Drawing *d, long row, float scale, double *sums, const int bf16) {
    const char *logits = d->logits + row * d->vocabulary * bytes(bf16);
    f8 largest = all(-INFINITY);
    i8 odd = {0};
    for (long at = 0; at < d->vocabulary; at += 8) {
        const f8 x = load_as(logits, at, bf16);
        odd |= x != x;
        largest = larger(x, largest);
    }
    float top = -INFINITY;
    int sound = 1;
    for (int i = 0; i < 8; i++) {
        top = largest[i] > top ? largest[i] : top;
        sound &= !odd[i];
    }
    sound &= isfinite(top) != 0;
    double total = 0;
    for (long first = 0; sound && first < d->vocabulary; first += BLOCK) {
        f8 part = all(0.0f);
        for (long at = first; at < first + BLOCK && at < d->vocabulary; at += 8)
            part += weights_of(logits, at, top, scale, bf16);
        sums[first / BLOCK] = total += sum(part);
    }
    for (long sample = 0; sample < d->samples; sample++) {
        if (d->of[sample] != row)
            continue;
        d->places[sample] = -1;
        if (!sound)
            continue;
        /* Below 1, even the largest double times the sum rounds to less than the sum, so that there is such a block. */
        const double wanted = d->uniform[sample] * total;
        long block = 0;
        while (block < (d->vocabulary - 1) / BLOCK && sums[block] <= wanted)
            block++;
        /* Added up one by one, in doubles, a block's weights come to a little more or less. */
        const double before = block ? sums[block - 1] : 0;
        double inside = 0, passed = 0;
        float weights[BLOCK] = {0};
        for (long at = 0; at < BLOCK && block * BLOCK + at < d->vocabulary; at += 8)
            store(weights + at, weights_of(logits, block * BLOCK + at, top, scale, bf16));
        for (int i = 0; i < BLOCK; i++)
            inside += weights[i];
        const double rest = (wanted - before) / (sums[block] - before) * inside;
        for (int i = 0; i < BLOCK && passed <= rest; i++)
            if (weights[i] > 0) {
                passed += weights[i];
                d->places[sample] = block * BLOCK + i;
            }
    }
}

/* 1 where there is no memory. */
int draw(const Drawing *d, float scale, int64_t bf16, int64_t threads) {
    int failed = 0;
    (void)threads;
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
    {
        double *sums = malloc((d->vocabulary / BLOCK + 1) * sizeof *sums);
        failed = !sums;
#pragma omp for schedule(dynamic)
        for (long row = 0; row < d->rows; row++) {
            if (failed)
                continue;
            if (bf16)
                draw_row(d, row, scale, sums, 1);
            else
                draw_row(d, row, scale, sums, 0);
        }
        free(sums);
    }
    return failed;
}
