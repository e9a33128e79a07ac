/* Scanning HTTP/1.1 text, eight bytes at a time where that pays.
 *
 * RFC 9110 5.6.2 (token), 5.5 (field value: HTAB, SP, VCHAR, obs-text), RFC 9112 3 (target).
 * A field value ends at the first byte below 0x20 other than HTAB, or at 0x7f; the caller decides
 * whether that byte is the CR it hoped for.
 */
#ifndef FASTLB_SCAN_H
#define FASTLB_SCAN_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define SCAN_ONES 0x0101010101010101ULL
#define SCAN_SPACES (SCAN_ONES * 0x20)
#define SCAN_HIGHS 0x8080808080808080ULL

/* 1 for the tchar of RFC 9110 5.6.2: ! # $ % & ' * + - . ^ _ ` | ~ digits and letters. */
static const uint8_t SCAN_TOKEN[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1,
    ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1,
    ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1,
    ['8'] = 1, ['9'] = 1,
    ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1, ['H'] = 1,
    ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1,
    ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1, ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1,
    ['Y'] = 1, ['Z'] = 1,
    ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1, ['h'] = 1,
    ['i'] = 1, ['j'] = 1, ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1, ['o'] = 1, ['p'] = 1,
    ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1, ['u'] = 1, ['v'] = 1, ['w'] = 1, ['x'] = 1,
    ['y'] = 1, ['z'] = 1,
};

static inline const uint8_t *scan_token(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 4) {
        if (!SCAN_TOKEN[at[0]])
            return at;
        if (!SCAN_TOKEN[at[1]])
            return at + 1;
        if (!SCAN_TOKEN[at[2]])
            return at + 2;
        if (!SCAN_TOKEN[at[3]])
            return at + 3;
        at += 4;
    }
    while (at < end && SCAN_TOKEN[*at])
        at++;
    return at;
}

/* First byte that a field value or a reason phrase may not hold, or `end`. */
static inline const uint8_t *scan_text(const uint8_t *at, const uint8_t *end) {
#if defined(__SSE2__)
    const __m128i low = _mm_set1_epi8(0x1f), del = _mm_set1_epi8(0x7f), tab = _mm_set1_epi8('\t');
    while (end - at >= 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)at);
        /* unsigned block <= 0x1f is min(block, 0x1f) == block */
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(block, low), block);
        control = _mm_andnot_si128(_mm_cmpeq_epi8(block, tab), control);
        unsigned found = (unsigned)_mm_movemask_epi8(_mm_or_si128(control, _mm_cmpeq_epi8(block, del)));
        if (found)
            return at + __builtin_ctz(found);
        at += 16;
    }
#else
    while (end - at >= 8) {
        uint64_t block;
        memcpy(&block, at, 8);
        uint64_t del = block ^ (SCAN_ONES * 0x7f);
        uint64_t found = ((block - SCAN_ONES * 0x20) & ~block) | ((del - SCAN_ONES) & ~del);
        if (found & SCAN_HIGHS)
            break; /* a control character or HTAB is near: look at single bytes */
        at += 8;
    }
#endif
    while (at < end && ((*at >= 0x20 && *at != 0x7f) || *at == '\t'))
        at++;
    return at;
}

/* First byte that a request target may not hold, or `end`. Only 0x21 to 0x7e may be in one, but
 * no '#': a fragment is not sent, and some servers cut it off while others take it for the path. */
static inline const uint8_t *scan_target(const uint8_t *at, const uint8_t *end) {
#if defined(__SSE2__)
    const __m128i space = _mm_set1_epi8(0x20), del = _mm_set1_epi8(0x7f), hash = _mm_set1_epi8('#');
    while (end - at >= 16) {
        __m128i block = _mm_loadu_si128((const __m128i *)at);
        __m128i not = _mm_or_si128(_mm_cmpeq_epi8(block, del), _mm_cmpeq_epi8(block, hash));
        /* signed: bytes from 0x80 on are below the space */
        __m128i may = _mm_andnot_si128(not, _mm_cmpgt_epi8(block, space));
        unsigned found = (unsigned)_mm_movemask_epi8(may) ^ 0xffff;
        if (found)
            return at + __builtin_ctz(found);
        at += 16;
    }
#endif
    while (at < end && *at > 0x20 && *at < 0x7f && *at != '#')
        at++;
    return at;
}

static inline uint64_t scan_word(const void *text) {
    uint64_t word;
    memcpy(&word, text, 8);
    return word;
}

static inline uint32_t scan_half_word(const void *text) {
    uint32_t word;
    memcpy(&word, text, 4);
    return word;
}

/* True if `text` is `lower`, which holds no capital letters, in any case.
 *
 * Bit 0x20 is what tells small letters from capitals, and it is set in digits and punctuation; only
 * control characters could be taken for those, and a token or field value holds none but HTAB, which
 * would be taken for ')'. So `lower` may hold letters, digits and - . / : here. Words overlap where
 * the length is no multiple of theirs.
 */
static inline int scan_equal(const uint8_t *text, const char *lower, uint32_t len) {
    if (len >= 8) {
        for (uint32_t at = 0; at + 8 < len; at += 8)
            if ((scan_word(text + at) | SCAN_SPACES) != scan_word(lower + at))
                return 0;
        return (scan_word(text + len - 8) | SCAN_SPACES) == scan_word(lower + len - 8);
    }
    if (len >= 4)
        return (scan_half_word(text) | (uint32_t)SCAN_SPACES) == scan_half_word(lower) &&
               (scan_half_word(text + len - 4) | (uint32_t)SCAN_SPACES) == scan_half_word(lower + len - 4);
    for (uint32_t at = 0; at < len; at++)
        if ((text[at] | 0x20) != (uint8_t)lower[at])
            return 0;
    return 1;
}

/* As scan_equal(), with `_` in `text` for any `-` of `lower`. For names that are not equal. */
static inline int scan_folds(const uint8_t *text, const char *lower, uint32_t len) {
    for (uint32_t at = 0; at < len; at++) {
        uint8_t byte = text[at] == '_' ? '-' : text[at] | 0x20;
        if (byte != (uint8_t)lower[at])
            return 0;
    }
    return 1;
}

#endif
