/* The main program of CPython, in place of Programs/python.c, and the two functions that wasm-interp-preinit wants.

   preinit() runs while the image is built: it initializes CPython, and imports what most programs import. The memory
   that it leaves is the one that every container begins with. resume() goes on from there: it reads the arguments and
   variables of the container, gives every string another hash, and runs what Py_RunMain() runs. If the container
   wants what cannot be changed any more, resume() says so, and the program starts from the beginning.
   docs/internals/decisions/0046-python-begins-initialized.md has the reasons. */

#include "Python.h"
#include "pycore_code.h"
#include "pycore_dict.h"
#include "pycore_gc.h"
#include "pycore_hashtable.h"
#include "pycore_import.h"
#include "pycore_initconfig.h"
#include "pycore_interp.h"
#include "pycore_object.h"
#include "pycore_obmalloc.h"
#include "pycore_pathconfig.h"
#include "pycore_pyerrors.h"
#include "pycore_pyhash.h"
#include "pycore_pylifecycle.h"
#include "pycore_pymem.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"
#include "pycore_setobject.h"
#include "pycore_typeobject.h"
#include "datetime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wasi/libc-environ.h>

// Of the linker and of libc's own start.
extern char __global_base, __heap_base;
extern void __wasm_call_ctors(void);
extern int __main_void(void);

// Added to CPython by patches/preinit.patch.
extern PyStatus _Py_HashRandomization_Renew(const PyConfig *config);
extern PyStatus _Py_ResumeConfig(const PyConfig *config);
extern PyStatus _Py_ResumeMain(void);
extern int _PyTime_InitTimezone(PyObject *time);

static enum { PLAIN, INITIALIZE, RESUME } phase;

// What __main_void() returns if the program has to start from the beginning. No exit status is negative.
#define FROM_THE_BEGINNING (-1)

// Ends the build of the image; in a container, the program.
static _Noreturn void
fail(const char *reason)
{
    if (PyErr_Occurred()) {
        PyErr_Print();
    }
    fprintf(stderr, "preinit: %s\n", reason);
    fflush(stderr);
    abort();
}

static void
check(PyStatus status)
{
    if (PyStatus_Exception(status)) {
        fail(status.err_msg ? status.err_msg : "an exit");
    }
}

static void *
allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (memory == NULL) {
        fail("out of memory");
    }
    return memory;
}

static uintptr_t
memory_end(void)
{
    return __builtin_wasm_memory_size(0) << 16;
}

/* One bit for each word of memory. */
typedef struct {
    uint8_t *bits;
    size_t size;
} word_set;

static word_set
word_set_new(void)
{
    size_t size = memory_end() / 32;
    return (word_set){allocate(size, 1), size};
}

// Leaves no trace in the image.
static void
word_set_free(word_set *set)
{
    memset(set->bits, 0, set->size);
    free(set->bits);
}

static int
word_set_has(const word_set *set, const void *word)
{
    size_t index = (uintptr_t)word / 4;
    return (uintptr_t)word % 4 == 0 && index / 8 < set->size && set->bits[index / 8] >> index % 8 & 1;
}

// Whether it was not there before.
static int
word_set_add(word_set *set, const void *word)
{
    size_t index = (uintptr_t)word / 4;
    if (word_set_has(set, word) || index / 8 >= set->size) {
        return 0;
    }
    set->bits[index / 8] |= 1 << index % 8;
    return 1;
}


/* Hashes of strings and bytes depend on a secret. With another secret, every table that has such keys has to be made
   again, and every object forgets the hash that it keeps. To do this at each start would be slow, and would write to
   every page. So preinit() lists all of it once, and leaves no hash of the old secret in any object: renew() writes
   to tables alone. A string that is a key has a number; with it CPython finds the string's hash in one more table. */

// How the hash of a key is found: the number of a string in strings[], or one of these.
enum { KEEPS = 0xfffd, ASKS = 0xfffe, NO_KEY = 0xffff };

typedef struct {
    PyDictKeysObject *keys;
    uint32_t first; // in ids[]: one for each entry
} dict_table;

typedef struct {
    PySetObject *set;
    uint32_t first; // in ids[]: one for each key, in the order of the table
} set_table;

static struct {
    // Strings that are keys. Each is hashed once.
    PyObject **strings;
    uint32_t strings_len;
    uint16_t *ids;
    uint32_t ids_len;
    // Tables that need no hash but those of strings come first.
    dict_table *dicts;
    uint32_t dicts_len;
    uint32_t dicts_of_strings;
    set_table *sets;
    uint32_t sets_len;
    uint32_t sets_of_strings;
} tables;

#define PERTURB_SHIFT 5
#define LINEAR_PROBES 9

static Py_ssize_t
get_index(const PyDictKeysObject *keys, size_t i)
{
    if (keys->dk_log2_size < 8) {
        return ((const int8_t *)keys->dk_indices)[i];
    }
    if (keys->dk_log2_size < 16) {
        return ((const int16_t *)keys->dk_indices)[i];
    }
    return ((const int32_t *)keys->dk_indices)[i];
}

static void
set_index(PyDictKeysObject *keys, size_t i, Py_ssize_t ix)
{
    if (keys->dk_log2_size < 8) {
        ((int8_t *)keys->dk_indices)[i] = (int8_t)ix;
    }
    else if (keys->dk_log2_size < 16) {
        ((int16_t *)keys->dk_indices)[i] = (int16_t)ix;
    }
    else {
        ((int32_t *)keys->dk_indices)[i] = (int32_t)ix;
    }
}

static PyObject *
key_of(PyDictKeysObject *keys, Py_ssize_t ix)
{
    return keys->dk_kind == DICT_KEYS_GENERAL ? DK_ENTRIES(keys)[ix].me_key : DK_UNICODE_ENTRIES(keys)[ix].me_key;
}

static Py_hash_t
hash_of(uint16_t id, PyObject *key, Py_hash_t before, const Py_hash_t *hashes)
{
    if (id == KEEPS) {
        return before;
    }
    if (id == ASKS) {
        Py_hash_t hash = PyObject_Hash(key);
        if (hash == -1) {
            fail("a key of a table has no hash any more");
        }
        return hash;
    }
    return hashes[id];
}

static void
renew_dict(const dict_table *table, const Py_hash_t *hashes)
{
    PyDictKeysObject *keys = table->keys;
    const uint16_t *ids = tables.ids + table->first;
    size_t mask = ((size_t)1 << keys->dk_log2_size) - 1;
    memset(keys->dk_indices, 0xff, (size_t)1 << keys->dk_log2_index_bytes);
    for (Py_ssize_t ix = 0; ix < keys->dk_nentries; ix++) {
        if (ids[ix] == NO_KEY) {
            continue;
        }
        Py_hash_t hash;
        if (keys->dk_kind == DICT_KEYS_GENERAL) {
            PyDictKeyEntry *entry = &DK_ENTRIES(keys)[ix];
            hash = hash_of(ids[ix], entry->me_key, entry->me_hash, hashes);
            entry->me_hash = hash;
        }
        else {
            hash = hashes[ids[ix]];
        }
        size_t perturb = hash;
        size_t i = (size_t)hash & mask;
        while (get_index(keys, i) != DKIX_EMPTY) {
            perturb >>= PERTURB_SHIFT;
            i = mask & (i * 5 + perturb + 1);
        }
        set_index(keys, i, ix);
    }
}

static int
is_key(const setentry *entry)
{
    return entry->key != NULL && entry->hash != -1;
}

static void
renew_set(const set_table *table, const Py_hash_t *hashes)
{
    PySetObject *set = table->set;
    const uint16_t *id = tables.ids + table->first;
    size_t mask = set->mask;
    setentry small[64];
    setentry *before = set->used <= 64 ? small : allocate(set->used, sizeof(setentry));
    Py_ssize_t used = 0;
    for (size_t i = 0; i <= mask; i++) {
        setentry *entry = &set->table[i];
        if (is_key(entry)) {
            before[used++] = (setentry){entry->key, hash_of(*id++, entry->key, entry->hash, hashes)};
        }
    }
    memset(set->table, 0, (mask + 1) * sizeof(setentry));
    for (Py_ssize_t k = 0; k < used; k++) {
        size_t perturb = before[k].hash;
        size_t i = (size_t)before[k].hash & mask;
        setentry *entry;
        for (;;) {
            entry = &set->table[i];
            size_t last = i + LINEAR_PROBES <= mask ? i + LINEAR_PROBES : i;
            while (entry->key != NULL && entry < &set->table[last]) {
                entry++;
            }
            if (entry->key == NULL) {
                break;
            }
            perturb >>= PERTURB_SHIFT;
            i = (i * 5 + 1 + perturb) & mask;
        }
        *entry = before[k];
    }
    // Deleted keys are gone.
    set->fill = used;
    if (before != small) {
        free(before);
    }
}

static Py_hash_t
hash_of_string(PyObject *string)
{
    // Not kept in the string.
    return _Py_HashBytes(PyUnicode_DATA(string), PyUnicode_GET_LENGTH(string) * PyUnicode_KIND(string));
}

static Py_uhash_t
hash_of_static_string(const void *string)
{
    return hash_of_string((PyObject *)string);
}

// Tables of C.
static void
renew_hashtable(_Py_hashtable_t *table, _Py_hashtable_hash_func hash)
{
    _Py_slist_item_t *all = NULL;
    for (size_t i = 0; i < table->nbuckets; i++) {
        _Py_slist_item_t *next;
        for (_Py_slist_item_t *item = table->buckets[i].head; item; item = next) {
            next = item->next;
            item->next = all;
            all = item;
        }
        table->buckets[i].head = NULL;
    }
    while (all) {
        _Py_hashtable_entry_t *entry = (_Py_hashtable_entry_t *)all;
        all = all->next;
        entry->key_hash = hash(entry->key);
        _Py_slist_t *bucket = &table->buckets[entry->key_hash & (table->nbuckets - 1)];
        entry->_Py_slist_item.next = bucket->head;
        bucket->head = &entry->_Py_slist_item;
    }
}

#define STATIC_STRINGS (_PyRuntime.cached_objects.interned_strings)
#define EXTENSIONS (_PyRuntime.imports.extensions.hashtable)

// Makes every table again, with the hashes that the secret of now gives.
static void
renew(void)
{
    Py_hash_t *hashes = _Py_ImageHashes + 1;
    for (uint32_t i = 0; i < tables.strings_len; i++) {
        hashes[i] = hash_of_string(tables.strings[i]);
    }
    for (uint32_t i = 0; i < tables.dicts_of_strings; i++) {
        renew_dict(&tables.dicts[i], hashes);
    }
    for (uint32_t i = 0; i < tables.sets_of_strings; i++) {
        renew_set(&tables.sets[i], hashes);
    }
    renew_hashtable(STATIC_STRINGS, hash_of_static_string);
    if (EXTENSIONS) {
        renew_hashtable(EXTENSIONS, EXTENSIONS->hash_func);
    }
    // These may call methods of Python, and ask a frozenset for the hash that its own keys give it.
    for (uint32_t i = tables.sets_of_strings; i < tables.sets_len; i++) {
        renew_set(&tables.sets[i], hashes);
    }
    for (uint32_t i = tables.dicts_of_strings; i < tables.dicts_len; i++) {
        renew_dict(&tables.dicts[i], hashes);
    }
}


/* Finding all of it. What the garbage collector knows leads to every object but some strings. These are found by their
   type in every word of memory, and known by their hash. */

typedef struct finder {
    // Every object that was found.
    PyObject **objects;
    size_t objects_len, objects_room;
    word_set found;
    // Keys of dictionaries that are in the lists, which several share.
    word_set listed;
    // The types of strings and bytes, and of dictionaries and sets.
    word_set types, table_types;
    size_t dicts_room, sets_room, ids_room, strings_room;
} finder;

#define GROW(array, room, wanted) \
    do { \
        if ((wanted) > (room)) { \
            (room) = (wanted) * 2; \
            (array) = realloc((array), (room) * sizeof(*(array))); \
            if ((array) == NULL) fail("out of memory"); \
        } \
    } while (0)

static int
reach(PyObject *object, void *argument)
{
    finder *finder = argument;
    if (object && word_set_add(&finder->found, object)) {
        GROW(finder->objects, finder->objects_room, finder->objects_len + 1);
        finder->objects[finder->objects_len++] = object;
    }
    return 0;
}

static void
reach_generation(finder *finder, PyGC_Head *head)
{
    for (PyGC_Head *gc = _PyGCHead_NEXT(head); gc != head; gc = _PyGCHead_NEXT(gc)) {
        reach(_Py_FROM_GC(gc), finder);
    }
}

static void
reach_from(finder *finder, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    reach((PyObject *)type, finder);
    if (PyType_Check(object)) {
        PyTypeObject *of = (PyTypeObject *)object;
        if (PyType_HasFeature(of, Py_TPFLAGS_UNICODE_SUBCLASS | Py_TPFLAGS_BYTES_SUBCLASS)) {
            word_set_add(&finder->types, of);
        }
        if (PyType_HasFeature(of, Py_TPFLAGS_DICT_SUBCLASS) || PyType_IsSubtype(of, &PySet_Type)
            || PyType_IsSubtype(of, &PyFrozenSet_Type))
        {
            word_set_add(&finder->table_types, of);
        }
        if (!PyType_HasFeature(of, Py_TPFLAGS_HEAPTYPE)) {
            reach(_PyType_GetDict(of), finder);
            reach(of->tp_bases, finder);
            reach(of->tp_mro, finder);
            return;
        }
    }
    if (PyCode_Check(object)) {
        PyCodeObject *code = (PyCodeObject *)object;
        PyObject *parts[] = {
            code->co_consts, code->co_names, code->co_exceptiontable, code->co_localsplusnames,
            code->co_localspluskinds, code->co_filename, code->co_name, code->co_qualname, code->co_linetable,
        };
        for (size_t i = 0; i < Py_ARRAY_LENGTH(parts); i++) {
            reach(parts[i], finder);
        }
    }
    if (PyObject_IS_GC(object) && type->tp_traverse) {
        type->tp_traverse(object, reach, finder);
    }
}

static void
reach_all(finder *finder)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    for (int i = 0; i < NUM_GENERATIONS; i++) {
        reach_generation(finder, &interp->gc.generations[i].head);
    }
    reach_generation(finder, &interp->gc.permanent_generation.head);
    reach(_Py_INTERP_CACHED_OBJECT(interp, interned_strings), finder);
    PyObject *of_c[] = {
        interp->builtins_copy, interp->exc_state.errnomap, interp->codecs.search_path, interp->codecs.search_cache,
        interp->codecs.error_registry, interp->warnings.filters, interp->warnings.once_registry,
        interp->warnings.default_action, interp->dict, interp->imports.modules,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(of_c); i++) {
        reach(of_c[i], finder);
    }
    // Types that C alone knows.
    for (size_t i = 0; i < Py_ARRAY_LENGTH(interp->types.builtins.initialized); i++) {
        reach((PyObject *)interp->types.builtins.initialized[i].type, finder);
        reach(interp->types.builtins.initialized[i].tp_subclasses, finder);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(interp->types.for_extensions.initialized); i++) {
        reach((PyObject *)interp->types.for_extensions.initialized[i].type, finder);
        reach(interp->types.for_extensions.initialized[i].tp_subclasses, finder);
    }
    for (size_t i = 0; i < finder->objects_len; i++) {
        reach_from(finder, finder->objects[i]);
    }
}

// Whether its hash does not depend on the secret.
static int
keeps_hash(PyObject *key)
{
    hashfunc hash = Py_TYPE(key)->tp_hash;
    if (hash == (hashfunc)PyObject_GenericHash || hash == PyLong_Type.tp_hash || hash == PyFloat_Type.tp_hash
        || hash == PyComplex_Type.tp_hash || hash == _PyNone_Type.tp_hash || hash == PyCFunction_Type.tp_hash)
    {
        return 1;
    }
    if (PyTuple_CheckExact(key)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); i++) {
            if (!keeps_hash(PyTuple_GET_ITEM(key, i))) {
                return 0;
            }
        }
        return 1;
    }
    if (PyWeakref_Check(key)) {
        // Of an object that is gone the reference has the hash.
        PyObject *object = ((PyWeakReference *)key)->wr_object;
        return object == Py_None || keeps_hash(object);
    }
    return 0;
}

// The number of a string that is a key. As long as tables are listed, it is where the hash is kept.
static uint16_t
number_of(finder *finder, PyObject *string)
{
    PyASCIIObject *ascii = (PyASCIIObject *)string;
    if (ascii->hash == -1) {
        if (tables.strings_len >= KEEPS) {
            fail("more strings are keys than have numbers");
        }
        GROW(tables.strings, finder->strings_room, tables.strings_len + 1);
        tables.strings[tables.strings_len] = string;
        ascii->hash = tables.strings_len++;
    }
    else if ((size_t)ascii->hash >= tables.strings_len || tables.strings[ascii->hash] != string) {
        fail("a string keeps a hash of another secret");
    }
    return (uint16_t)ascii->hash;
}

static uint16_t
id_of(finder *finder, PyObject *key)
{
    if (key == NULL) {
        return NO_KEY;
    }
    if (PyUnicode_CheckExact(key)) {
        return number_of(finder, key);
    }
    return keeps_hash(key) ? KEEPS : ASKS;
}

static void
add_id(finder *finder, uint16_t id)
{
    GROW(tables.ids, finder->ids_room, tables.ids_len + 1);
    tables.ids[tables.ids_len++] = id;
}

// Which hashes a table needs: none of a secret, those of strings alone, or others too.
enum need { NONE, STRINGS, OTHERS };

static enum need
need_of(const uint16_t *ids, size_t len)
{
    enum need need = NONE;
    for (size_t i = 0; i < len; i++) {
        if (ids[i] == ASKS) {
            return OTHERS;
        }
        if (ids[i] < KEEPS) {
            need = STRINGS;
        }
    }
    return need;
}

static void
add_keys(finder *finder, PyDictKeysObject *keys, enum need wanted)
{
    if (keys == NULL || keys->dk_nentries == 0 || word_set_has(&finder->listed, keys)) {
        return;
    }
    uint32_t first = tables.ids_len;
    for (Py_ssize_t ix = 0; ix < keys->dk_nentries; ix++) {
        add_id(finder, id_of(finder, key_of(keys, ix)));
    }
    enum need need = need_of(tables.ids + first, keys->dk_nentries);
    if (need != wanted) {
        tables.ids_len = first;
        return;
    }
    word_set_add(&finder->listed, keys);
    GROW(tables.dicts, finder->dicts_room, tables.dicts_len + 1);
    tables.dicts[tables.dicts_len++] = (dict_table){keys, first};
}

static void
add_set(finder *finder, PySetObject *set, enum need wanted)
{
    if (set->used == 0) {
        return;
    }
    uint32_t first = tables.ids_len;
    for (Py_ssize_t i = 0; i <= set->mask; i++) {
        if (is_key(&set->table[i])) {
            add_id(finder, id_of(finder, set->table[i].key));
        }
    }
    enum need need = need_of(tables.ids + first, tables.ids_len - first);
    if (need != wanted) {
        tables.ids_len = first;
        return;
    }
    GROW(tables.sets, finder->sets_room, tables.sets_len + 1);
    tables.sets[tables.sets_len++] = (set_table){set, first};
}

static int
inside(const void *start, size_t len)
{
    uintptr_t at = (uintptr_t)start;
    return at >= (uintptr_t)&__global_base && at <= memory_end() && len <= memory_end() - at;
}

// An object's hash that the secret of now gives is forgotten. Another value is none: the memory is of something else.
static void
forget_hash(PyObject *object)
{
    if (PyUnicode_Check(object)) {
        PyASCIIObject *ascii = (PyASCIIObject *)object;
        if (ascii->hash == -1 || ascii->length < 0 || ascii->state.kind == 0 || ascii->state.kind > 4) {
            return;
        }
        if (!ascii->state.compact && !inside(((PyUnicodeObject *)object)->data.any, 0)) {
            return;
        }
        size_t size = (size_t)ascii->length * ascii->state.kind;
        const void *data = PyUnicode_DATA(object);
        if (inside(data, size) && ascii->hash == _Py_HashBytes(data, size)) {
            ascii->hash = -1;
        }
    }
    else {
        PyBytesObject *bytes = (PyBytesObject *)object;
_Py_COMP_DIAG_PUSH
_Py_COMP_DIAG_IGNORE_DEPR_DECLS
        if (bytes->ob_shash != -1 && Py_SIZE(bytes) >= 0 && inside(bytes->ob_sval, Py_SIZE(bytes))
            && bytes->ob_shash == _Py_HashBytes(bytes->ob_sval, Py_SIZE(bytes)))
        {
            bytes->ob_shash = -1;
        }
_Py_COMP_DIAG_POP
    }
}

// Forgets every hash that depends on the secret.
static void
forget_hashes(finder *finder)
{
    uintptr_t end = memory_end() - sizeof(PyUnicodeObject);
    for (uintptr_t at = (uintptr_t)&__global_base & -4; at < end; at += 4) {
        if (word_set_has(&finder->types, Py_TYPE((PyObject *)at))) {
            forget_hash((PyObject *)at);
        }
    }
    for (size_t i = 0; i < finder->objects_len; i++) {
        PyObject *object = finder->objects[i];
        if (PyAnySet_Check(object)) {
            ((PySetObject *)object)->hash = -1;
        }
        else if (PyMemoryView_Check(object)) {
            ((PyMemoryViewObject *)object)->hash = -1;
        }
        else if (PyDate_Check(object) || PyTime_Check(object)) {
            // Where each of them has it.
            ((PyDateTime_Date *)object)->hashcode = -1;
        }
        else if (PyWeakref_Check(object)) {
            // A set may have to find the reference when its object is gone.
            if (((PyWeakReference *)object)->hash != -1 && !keeps_hash(object)) {
                fail("the hash of a weak reference depends on the secret");
            }
        }
        else if (PyODict_Check(object) && PyODict_SIZE(object) > 0) {
            fail("an OrderedDict keeps hashes that depend on the secret");
        }
    }
}

static void
list_tables(finder *finder, enum need need)
{
    for (size_t i = 0; i < finder->objects_len; i++) {
        PyObject *object = finder->objects[i];
        if (PyDict_Check(object)) {
            add_keys(finder, ((PyDictObject *)object)->ma_keys, need);
        }
        else if (PyAnySet_Check(object)) {
            add_set(finder, (PySetObject *)object, need);
        }
        else if (PyType_Check(object) && PyType_HasFeature((PyTypeObject *)object, Py_TPFLAGS_HEAPTYPE)) {
            add_keys(finder, ((PyHeapTypeObject *)object)->ht_cached_keys, need);
        }
    }
}

static int
by_address(const void *one, const void *other)
{
    uintptr_t a = *(const uintptr_t *)one, b = *(const uintptr_t *)other;
    return (a > b) - (a < b);
}

// Numbers strings in the order in which they are in memory: to hash them all is to read once through it.
static void
sort_strings(void)
{
    qsort(tables.strings, tables.strings_len, sizeof(PyObject *), by_address);
    uint16_t *numbers = allocate(tables.strings_len, sizeof(uint16_t));
    for (uint32_t i = 0; i < tables.strings_len; i++) {
        numbers[((PyASCIIObject *)tables.strings[i])->hash] = (uint16_t)i;
    }
    for (uint32_t i = 0; i < tables.ids_len; i++) {
        if (tables.ids[i] < KEEPS) {
            tables.ids[i] = numbers[tables.ids[i]];
        }
    }
    memset(numbers, 0, tables.strings_len * sizeof(uint16_t));
    free(numbers);
}

// From now on the hash of a string that is a key is found by its number. None is known yet.
static void
number_strings(void)
{
    _Py_ImageHashes = allocate(tables.strings_len + 1, sizeof(Py_hash_t));
    memset(_Py_ImageHashes, 0xff, (tables.strings_len + 1) * sizeof(Py_hash_t));
    for (uint32_t i = 0; i < tables.strings_len; i++) {
        PyASCIIObject *string = (PyASCIIObject *)tables.strings[i];
        string->hash = -1;
        string->state.number = i + 1;
    }
}

static void
forget_numbers(void)
{
    for (uint32_t i = 0; i < tables.strings_len; i++) {
        ((PyASCIIObject *)tables.strings[i])->state.number = 0;
    }
    free(_Py_ImageHashes);
    _Py_ImageHashes = NULL;
}

static void
find(finder *finder)
{
    free(tables.strings);
    free(tables.ids);
    free(tables.dicts);
    free(tables.sets);
    memset(&tables, 0, sizeof tables);
    *finder = (struct finder){
        .found = word_set_new(), .listed = word_set_new(), .types = word_set_new(), .table_types = word_set_new(),
    };
    reach_all(finder);
    forget_hashes(finder);
    list_tables(finder, STRINGS);
    tables.dicts_of_strings = tables.dicts_len;
    tables.sets_of_strings = tables.sets_len;
    list_tables(finder, OTHERS);
    sort_strings();
    number_strings();
}

static void
find_end(finder *finder)
{
    word_set_free(&finder->found);
    word_set_free(&finder->listed);
    word_set_free(&finder->types);
    word_set_free(&finder->table_types);
    memset(finder->objects, 0, finder->objects_room * sizeof(*finder->objects));
    free(finder->objects);
}

// Fails unless every key of every table is found.
static void
check_tables(const finder *finder)
{
    for (size_t i = 0; i < finder->objects_len; i++) {
        PyObject *object = finder->objects[i];
        if (PyDict_Check(object)) {
            PyDictObject *dict = (PyDictObject *)object;
            for (Py_ssize_t ix = 0; ix < dict->ma_keys->dk_nentries; ix++) {
                PyObject *key = key_of(dict->ma_keys, ix), *value;
                if (key && _Py_dict_lookup(dict, key, PyObject_Hash(key), &value) != ix) {
                    fail("a key of a dictionary is not found any more");
                }
            }
        }
        else if (PyAnySet_Check(object)) {
            PySetObject *set = (PySetObject *)object;
            for (Py_ssize_t k = 0; k <= set->mask; k++) {
                if (is_key(&set->table[k]) && PySet_Contains(object, set->table[k].key) != 1) {
                    fail("a key of a set is not found any more");
                }
            }
        }
        else if (PyType_Check(object) && PyType_HasFeature((PyTypeObject *)object, Py_TPFLAGS_HEAPTYPE)) {
            PyDictKeysObject *keys = ((PyHeapTypeObject *)object)->ht_cached_keys;
            for (Py_ssize_t ix = 0; keys && ix < keys->dk_nentries; ix++) {
                PyObject *key = key_of(keys, ix);
                if (key && _PyDictKeys_StringLookup(keys, key) != ix) {
                    fail("a name of an attribute is not found any more");
                }
            }
        }
    }
    _Py_hashtable_t *of_c[] = {STATIC_STRINGS, EXTENSIONS};
    for (size_t t = 0; t < Py_ARRAY_LENGTH(of_c); t++) {
        for (size_t i = 0; of_c[t] && i < of_c[t]->nbuckets; i++) {
            for (_Py_slist_item_t *item = of_c[t]->buckets[i].head; item; item = item->next) {
                _Py_hashtable_entry_t *entry = (_Py_hashtable_entry_t *)item;
                if (_Py_hashtable_get_entry(of_c[t], entry->key) != entry) {
                    fail("a key of a table of C is not found any more");
                }
            }
        }
    }
}

// Fails if there is a dictionary or set that was not found: in use, with a key at least, and whole.
static void
check_found(const finder *finder)
{
    uintptr_t end = memory_end() - sizeof(PySetObject);
    for (uintptr_t at = (uintptr_t)&__global_base & -4; at < end; at += 4) {
        PyObject *object = (PyObject *)at;
        Py_ssize_t count = Py_REFCNT(object);
        if (!word_set_has(&finder->table_types, Py_TYPE(object)) || word_set_has(&finder->found, object)
            || count <= 0 || count > 1 << 20)
        {
            continue;
        }
        if (PyDict_Check(object)) {
            PyDictObject *dict = (PyDictObject *)object;
            PyDictKeysObject *keys = dict->ma_keys;
            if ((uintptr_t)keys % 4 == 0 && inside(keys, sizeof(*keys)) && keys->dk_refcnt > 0
                && keys->dk_refcnt < 1 << 20 && keys->dk_log2_size < 24 && keys->dk_kind <= DICT_KEYS_SPLIT
                && dict->ma_used > 0 && dict->ma_used <= keys->dk_nentries
                && keys->dk_nentries + keys->dk_usable == ((Py_ssize_t)2 << keys->dk_log2_size) / 3)
            {
                fprintf(stderr, "at %p, %d keys, %d references\n", object, (int)dict->ma_used, (int)count);
                fail("there is a dictionary that was not found");
            }
        }
        else {
            PySetObject *set = (PySetObject *)object;
            if (set->used > 0 && set->used <= set->fill && set->fill <= set->mask && set->mask < 1 << 24
                && inside(set->table, (set->mask + 1) * sizeof(setentry)))
            {
                fprintf(stderr, "at %p, %d keys, %d references\n", object, (int)set->used, (int)count);
                fail("there is a set that was not found");
            }
        }
    }
}

static void
set_secret(unsigned long seed)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.use_hash_seed = 1;
    config.hash_seed = seed;
    check(_Py_HashRandomization_Renew(&config));
    PyConfig_Clear(&config);
}


/* Objects of the image are immortal: no count of references is written, so their pages stay those of the file, which
   all containers share, and the end of the process does not free them one by one. */

static void
make_immortal(const finder *finder)
{
    for (size_t i = 0; i < finder->objects_len; i++) {
        finder->objects[i]->ob_refcnt = _Py_IMMORTAL_REFCNT;
    }
}


/* What was freed before now lies between what stays. A container that used it would write to a page here and a page
   there, each a page of its own. So all of it is taken and never given back: what a container allocates comes from
   fresh memory, and lies together. */

// Whether a block of the small allocator is the first one of its pool.
static int
begins_pool(void *block)
{
    return POOL_ADDR(block)->ref.count == 1;
}

static void
fill_pools(void)
{
    for (size_t size = ALIGNMENT; size <= SMALL_REQUEST_THRESHOLD; size += ALIGNMENT) {
        void *block;
        while ((block = PyObject_Malloc(size)) != NULL && !begins_pool(block)) {
            memset(block, 0, size);
        }
        PyObject_Free(block);
    }
}

// Pieces that are as large as this are few, and are left: what is put into one lies together.
#define LARGE_PIECE ((size_t)64 << 10)

static void
fill_gaps(void)
{
    fill_pools();
    // What malloc() takes from the end of the heap is behind this block.
    void *kept[256];
    size_t kept_len = 0;
    char *end = NULL;
    for (size_t size = (size_t)1 << 20; size >= LARGE_PIECE && kept_len < Py_ARRAY_LENGTH(kept); ) {
        char *block = malloc(size);
        if (block == NULL) {
            fail("out of memory");
        }
        int is_at_end = block + size + 2 * LARGE_PIECE >= (char *)sbrk(0);
        if (end == NULL && is_at_end) {
            end = block;
            size /= 2;
        }
        else if (end != NULL && block > end) {
            free(block);
            size /= 2;
            continue;
        }
        kept[kept_len++] = block;
    }
    for (size_t size = LARGE_PIECE; size > 0; size -= 8) {
        char *block;
        while ((block = malloc(size)) != NULL && block < end) {
            memset(block, 0, size);
        }
        free(block);
    }
    while (kept_len > 0) {
        free(kept[--kept_len]);
    }
}


/* Each start writes to every table that has strings as keys. So these are moved next to one another, into memory that
   lies together after fill_gaps(). What they leave is not given back. */

typedef struct {
    PyDictKeysObject *from, *to;
    Py_ssize_t users;
} moved_keys;

static int
by_first(const void *one, const void *other)
{
    return by_address(&((const moved_keys *)one)->from, &((const moved_keys *)other)->from);
}

static moved_keys *
moved_of(moved_keys *all, size_t len, PyDictKeysObject *keys)
{
    moved_keys wanted = {.from = keys};
    return bsearch(&wanted, all, len, sizeof(*all), by_first);
}

// Where an object has its table, or NULL.
static PyDictKeysObject **
keys_of(PyObject *object)
{
    if (PyDict_Check(object)) {
        return &((PyDictObject *)object)->ma_keys;
    }
    if (PyType_Check(object) && PyType_HasFeature((PyTypeObject *)object, Py_TPFLAGS_HEAPTYPE)) {
        return &((PyHeapTypeObject *)object)->ht_cached_keys;
    }
    return NULL;
}

static size_t
size_of_keys(const PyDictKeysObject *keys)
{
    // As many as CPython makes room for. Fewer may be left to use, after popitem().
    Py_ssize_t entries = ((Py_ssize_t)2 << keys->dk_log2_size) / 3;
    size_t entry = keys->dk_kind == DICT_KEYS_GENERAL ? sizeof(PyDictKeyEntry) : sizeof(PyDictUnicodeEntry);
    return sizeof(*keys) + ((size_t)1 << keys->dk_log2_index_bytes) + entries * entry;
}

static void *
moved(void *block, size_t size)
{
    void *to = PyMem_Malloc(size);
    if (to == NULL) {
        fail("out of memory");
    }
    memcpy(to, block, size);
    memset(block, 0, size);
    return to;
}

static void
move_tables(const finder *finder)
{
    moved_keys *all = allocate(tables.dicts_len, sizeof(*all));
    for (uint32_t i = 0; i < tables.dicts_len; i++) {
        all[i].from = tables.dicts[i].keys;
    }
    qsort(all, tables.dicts_len, sizeof(*all), by_first);
    for (size_t i = 0; i < finder->objects_len; i++) {
        PyDictKeysObject **keys = keys_of(finder->objects[i]);
        moved_keys *move = keys && *keys ? moved_of(all, tables.dicts_len, *keys) : NULL;
        if (move) {
            move->users++;
        }
    }
    for (uint32_t i = 0; i < tables.dicts_len; i++) {
        moved_keys *move = moved_of(all, tables.dicts_len, tables.dicts[i].keys);
        if (move->users != move->from->dk_refcnt) {
            fail("a table has users that were not found");
        }
        tables.dicts[i].keys = move->to = moved(move->from, size_of_keys(move->from));
    }
    for (size_t i = 0; i < finder->objects_len; i++) {
        PyDictKeysObject **keys = keys_of(finder->objects[i]);
        moved_keys *move = keys && *keys ? moved_of(all, tables.dicts_len, *keys) : NULL;
        if (move) {
            *keys = move->to;
        }
    }
    memset(all, 0, tables.dicts_len * sizeof(*all));
    free(all);
    for (uint32_t i = 0; i < tables.sets_len; i++) {
        PySetObject *set = tables.sets[i].set;
        if (set->table != set->smalltable) {
            set->table = moved(set->table, (set->mask + 1) * sizeof(setentry));
        }
    }
}


/* What is imported, and how a container gets it. A program whose own folder has a json.py imports this file. So modules
   that a new process would not have in sys.modules are put aside, and importlib takes one of them where it would
   have loaded the same file. */

static const char put_aside[] =
    "import sys, builtins, _frozen_importlib as bootstrap\n"
    "base = set(sys.modules)\n"
    "import gc\n"
    "def put_aside(names):\n"
    "    needs = {}\n"
    "    real = builtins.__import__\n"
    "    def record(name, globals=None, locals=None, fromlist=(), level=0):\n"
    "        module = real(name, globals, locals, fromlist, level)\n"
    "        spec = globals and globals.get('__spec__')\n"
    "        if spec:\n"
    "            if level:\n"
    "                name = bootstrap._resolve_name(name, bootstrap._calc___package__(globals), level)\n"
    "            parts = name.split('.')\n"
    "            found = ['.'.join(parts[:i + 1]) for i in range(len(parts))]\n"
    "            found += [f'{name}.{each}' for each in fromlist or () if each != '*']\n"
    "            needs.setdefault(spec.name, {}).update(dict.fromkeys(found))\n"
    "        return module\n"
    "    builtins.__import__ = record\n"
    "    for name in names:\n"
    "        __import__(name)\n"
    "    builtins.__import__ = real\n"
    "    more = {name: module for name, module in sys.modules.items() if name not in base}\n"
    "    for name, module in more.items():\n"
    "        if module.__spec__.name != name:\n"
    "            needs.setdefault(name.rpartition('.')[0], {})[name] = None\n"
    "    def all_of(name, found):\n"
    "        for each in needs.get(name, ()):\n"
    "            if each in more and each not in found:\n"
    "                found.add(each)\n"
    "                all_of(each, found)\n"
    "        return found\n"
    "    for name, module in more.items():\n"
    "        found = all_of(name, {name})\n"
    "        order = tuple(each for each in more if each in found)\n"
    "        bootstrap._preloaded[name] = module, order, resumed.get(name)\n"
    "    global datetime_api\n"
    "    datetime_api = more['datetime'].datetime_CAPI\n"
    "    for name in more:\n"
    "        del sys.modules[name]\n"
    "        parent, _, child = name.rpartition('.')\n"
    "        if (parent in more and name not in all_of(parent, set())\n"
    "                and vars(more[parent]).get(child) is more[name]):\n"
    "            delattr(more[parent], child)\n"
    "    for name in list(sys.path_importer_cache):\n"
    "        del sys.path_importer_cache[name]\n"
    "    for each in gc.get_objects():\n"
    "        if type(each).__name__ == '_lru_cache_wrapper':\n"
    "            each.cache_clear()\n"
    "def resume_site(module):\n"
    "    if not sys.flags.no_site:\n"
    "        module.main()\n"
    "def resume_warnings(module):\n"
    "    module._processoptions(sys.warnoptions)\n"
    "resumed = {'site': resume_site, 'warnings': resume_warnings}\n"
    "put_aside([\n"
    "    'site', 'warnings', 'traceback', 'linecache', 'tokenize', 'ast', 'contextlib', 'importlib.util',\n"
    "    'collections.abc', 'functools', 'enum', 'types', 'typing', 'dataclasses', 'copy', 'weakref', 'inspect',\n"
    "    're', 'json', 'datetime', 'string', 'struct', 'math', 'itertools', 'operator', 'textwrap', 'errno',\n"
    "    'pathlib', 'argparse', 'runpy', 'threading',\n"
    "])\n";

// What preinit() compares with what a container wants.
static PyConfig initial;

static void
initialize(int argc, char **argv)
{
    PyPreConfig preconfig;
    PyPreConfig_InitPythonConfig(&preconfig);
    preconfig.use_environment = 0;
    check(Py_PreInitialize(&preconfig));
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.use_environment = 0;
    config.parse_argv = 0;
    config.configure_c_stdio = 0;
    config.install_signal_handlers = 0;
    config.site_import = 0;
    config.use_hash_seed = 1;
    config.hash_seed = 0;
    check(PyConfig_SetBytesArgv(&config, argc, argv));
    check(PyConfig_SetBytesString(&config, &config.program_name, argv[0]));
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    PyInterpreterState *interp = PyInterpreterState_Get();
    PyConfig_InitPythonConfig(&initial);
    check(_PyConfig_Copy(&initial, &interp->config));

    PyObject *globals = PyDict_New();
    if (globals == NULL || PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins()) < 0) {
        fail("out of memory");
    }
    PyObject *result = PyRun_String(put_aside, Py_file_input, globals, globals);
    if (result == NULL) {
        fail("cannot import what programs import");
    }
    Py_DECREF(result);
    PyDateTimeAPI = PyCapsule_GetPointer(PyDict_GetItemString(globals, "datetime_api"), PyDateTime_CAPSULE_NAME);
    if (PyDateTimeAPI == NULL) {
        fail("there is no datetime");
    }
    // In use as long as functions of it are.
    Py_DECREF(globals);
    const char *streams[] = {"stdin", "stdout", "stderr", "__stdin__", "__stdout__"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(streams); i++) {
        if (PySys_SetObject(streams[i], Py_None) < 0) {
            fail("cannot drop the streams");
        }
    }
    PyGC_Collect();
    finder finder;
    find(&finder);
    set_secret(1);
    renew();
    check_tables(&finder);
    forget_numbers();
    find_end(&finder);
    // The last stream is kept for errors until now.
    if (PySys_SetObject("__stderr__", Py_None) < 0) {
        fail("cannot drop the streams");
    }
    find(&finder);
    set_secret(0);
    renew();
    check_tables(&finder);
    forget_numbers();
    find_end(&finder);
    find(&finder);
    check_found(&finder);
    make_immortal(&finder);
    // The collector never looks at them.
    _PyGC_Freeze(interp);
    // Where the library is, each container finds out.
    _PyPathConfig_ClearGlobal();
    // Objects that were freed are kept for others of their type, wherever they are.
    PyGC_Collect();
    fill_gaps();
    move_tables(&finder);
    find_end(&finder);
}


/* In a container. */

static int
same_text(const wchar_t *one, const wchar_t *other)
{
    return one == other || (one && other && wcscmp(one, other) == 0);
}

static const char *
variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

// Whether strings are encoded as they were in preinit(). Of other locales, a new process decides itself.
static int
locale_is_initial(void)
{
    const char *locale = variable("LC_ALL");
    if (locale == NULL) {
        locale = variable("LC_CTYPE");
    }
    if (locale == NULL) {
        locale = variable("LANG");
    }
    return locale == NULL || strcmp(locale, "C.UTF-8") == 0;
}

// Variables that are read before the configuration, or beside it.
static int
variables_are_initial(void)
{
    static const char *const names[] = {
        "PYTHONHOME", "PYTHONUTF8", "PYTHONMALLOC", "PYTHONDEVMODE", "PYTHONCOERCECLOCALE", "PYTHONPLATLIBDIR",
        "PYTHONEXECUTABLE", "PYTHON_FROZEN_MODULES", "PYTHON_GIL", "PYTHONWARNDEFAULTENCODING",
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (variable(names[i])) {
            return 0;
        }
    }
    return 1;
}

// Whether what the container wants can still be had.
static int
can_be_resumed(const PyConfig *config)
{
    return config->dev_mode == initial.dev_mode && config->faulthandler == initial.faulthandler
        && config->tracemalloc == initial.tracemalloc && config->import_time == initial.import_time
        && config->parser_debug == initial.parser_debug && config->verbose == initial.verbose
        && config->optimization_level == initial.optimization_level
        && config->code_debug_ranges == initial.code_debug_ranges
        && config->perf_profiling == initial.perf_profiling && config->cpu_count == initial.cpu_count
        && config->int_max_str_digits == initial.int_max_str_digits && config->malloc_stats == initial.malloc_stats
        && config->dump_refs == initial.dump_refs && config->show_ref_count == initial.show_ref_count
        && config->warn_default_encoding == initial.warn_default_encoding
        && same_text(config->pycache_prefix, initial.pycache_prefix)
        && same_text(config->check_hash_pycs_mode, initial.check_hash_pycs_mode)
        && same_text(config->filesystem_encoding, L"UTF-8")
        && same_text(config->filesystem_errors, initial.filesystem_errors) && config->xoptions.length == 0;
}

// Whether this is the Python of the image: a virtual environment has its library too.
static int
library_is_initial(const PyConfig *config)
{
    return same_text(config->stdlib_dir, initial.stdlib_dir) && same_text(config->base_prefix, initial.base_prefix)
        && same_text(config->base_exec_prefix, initial.base_exec_prefix)
        && same_text(config->platlibdir, initial.platlibdir)
        && config->use_frozen_modules == initial.use_frozen_modules;
}

// os.environ is a view of this dictionary.
static void
renew_environment(void)
{
    PyObject *posix = PyImport_ImportModule("posix");
    PyObject *environment = posix ? PyObject_GetAttrString(posix, "environ") : NULL;
    if (environment == NULL) {
        fail("there is no environment");
    }
    PyDict_Clear(environment);
    for (char **each = environ; each && *each; each++) {
        const char *equals = strchr(*each, '=');
        if (equals == NULL) {
            continue;
        }
        PyObject *name = PyBytes_FromStringAndSize(*each, equals - *each);
        PyObject *value = PyBytes_FromString(equals + 1);
        // The first of a name is the one that counts.
        if (name == NULL || value == NULL || PyDict_SetDefault(environment, name, value) == NULL) {
            fail("out of memory");
        }
        Py_DECREF(name);
        Py_DECREF(value);
    }
    Py_DECREF(environment);
    Py_DECREF(posix);
}

// The zone of TZ or of /etc/localtime.
static void
renew_zone(void)
{
    PyObject *time = PyImport_ImportModule("time");
    if (time == NULL) {
        fail("there is no time");
    }
    tzset();
    if (_PyTime_InitTimezone(time) < 0) {
        fail("cannot find out the time zone");
    }
    Py_DECREF(time);
}

static int
run(int argc, char **argv)
{
    if (!locale_is_initial()) {
        return FROM_THE_BEGINNING;
    }
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyStatus status = PyConfig_SetBytesArgv(&config, argc, argv);
    if (!PyStatus_Exception(status)) {
        status = PyConfig_Read(&config);
    }
    // Also for --help and --version.
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    if (!can_be_resumed(&config) || (config.use_environment && !variables_are_initial())) {
        return FROM_THE_BEGINNING;
    }
    status = _Py_HashRandomization_Renew(&config);
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    renew();
    status = _Py_ResumeConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    if (!library_is_initial(_PyInterpreterState_GetConfig(PyInterpreterState_Get()))) {
        return FROM_THE_BEGINNING;
    }
    renew_environment();
    renew_zone();
    status = _Py_ResumeMain();
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    return Py_RunMain();
}

int
main(int argc, char **argv)
{
    switch (phase) {
    case INITIALIZE:
        initialize(argc, argv);
        return 0;
    case RESUME:
        return run(argc, argv);
    default:
        return Py_BytesMain(argc, argv);
    }
}

// Programs begin in PWD: the SDK's C library does this before main() of a new process.
static void
enter_directory(void)
{
    const char *directory = getenv("PWD");
    if (directory && *directory == '/' && directory[1]) {
        // Where a user may not enter it, the process is in / as any other.
        (void)chdir(directory);
        errno = 0;
    }
}

__attribute__((export_name("preinit"))) void
preinit(void)
{
    phase = INITIALIZE;
    __wasm_call_ctors();
    __main_void();
    __wasilibc_deinitialize_environ();
    phase = RESUME;
    // What is left on the stack beneath this frame.
    memset((void *)1024, 0, (size_t)__builtin_frame_address(0) - 4096 - 1024);
}

__attribute__((export_name("resume"))) int
resume(void)
{
    __wasilibc_initialize_environ();
    enter_directory();
    int status = __main_void();
    if (status == FROM_THE_BEGINNING) {
        return (int)&__heap_base;
    }
    exit(status);
}
