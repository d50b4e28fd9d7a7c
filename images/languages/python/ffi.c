/* What ctypes needs of a machine: calls, functions made at run time, and libraries. libffi's own port to WebAssembly
 * does it by JavaScript. Here a function is called through a type that is compiled in, for words of 32 bits: those are all
 * calls that ctypes makes by itself, as in cast and memmove. There are no libraries, and no code is made at run time. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

#include <ffi.h>
#include <ffi_common.h>

#define MOST_ARGUMENTS 8

typedef uint32_t W;

static int is_word(const ffi_type *type)
{
	switch (type->type) {
	case FFI_TYPE_INT:
	case FFI_TYPE_UINT8:
	case FFI_TYPE_SINT8:
	case FFI_TYPE_UINT16:
	case FFI_TYPE_SINT16:
	case FFI_TYPE_UINT32:
	case FFI_TYPE_SINT32:
	case FFI_TYPE_POINTER:
		return 1;
	default:
		return 0;
	}
}

static W word_at(const ffi_type *type, const void *value)
{
	switch (type->type) {
	case FFI_TYPE_UINT8:
		return *(const uint8_t *)value;
	case FFI_TYPE_SINT8:
		return (W) * (const int8_t *)value;
	case FFI_TYPE_UINT16:
		return *(const uint16_t *)value;
	case FFI_TYPE_SINT16:
		return (W) * (const int16_t *)value;
	default:
		return *(const W *)value;
	}
}

ffi_status FFI_HIDDEN ffi_prep_cif_machdep(ffi_cif *cif)
{
	unsigned number;

	if (cif->nargs > MOST_ARGUMENTS || (cif->rtype->type != FFI_TYPE_VOID && !is_word(cif->rtype)))
		return FFI_BAD_ARGTYPE;
	for (number = 0; number < cif->nargs; number++)
		if (!is_word(cif->arg_types[number]))
			return FFI_BAD_ARGTYPE;
	return FFI_OK;
}

/* In WebAssembly the further arguments are in memory. */
ffi_status FFI_HIDDEN ffi_prep_cif_machdep_var(ffi_cif *cif, unsigned fixed, unsigned all)
{
	(void)cif, (void)fixed, (void)all;
	return FFI_BAD_ARGTYPE;
}

/* All functions that ctypes calls by itself return a word; a call by another type than the function's traps. */
static W call(const ffi_cif *cif, void (*function)(void), const W *a)
{
#define AS(...) ((W (*)(__VA_ARGS__))function)
	switch (cif->nargs) {
	case 0: return AS(void)();
	case 1: return AS(W)(a[0]);
	case 2: return AS(W, W)(a[0], a[1]);
	case 3: return AS(W, W, W)(a[0], a[1], a[2]);
	case 4: return AS(W, W, W, W)(a[0], a[1], a[2], a[3]);
	case 5: return AS(W, W, W, W, W)(a[0], a[1], a[2], a[3], a[4]);
	case 6: return AS(W, W, W, W, W, W)(a[0], a[1], a[2], a[3], a[4], a[5]);
	case 7: return AS(W, W, W, W, W, W, W)(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
	case 8: return AS(W, W, W, W, W, W, W, W)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
	default: abort();
	}
#undef AS
}

void ffi_call(ffi_cif *cif, void (*function)(void), void *result, void **values)
{
	W words[MOST_ARGUMENTS], word;
	unsigned number;

	for (number = 0; number < cif->nargs; number++)
		words[number] = word_at(cif->arg_types[number], values[number]);
	word = call(cif, function, words);
	if (cif->rtype->type != FFI_TYPE_VOID)
		*(W *)result = word;
}

void *ffi_closure_alloc(size_t size, void **code)
{
	return *code = malloc(size);
}

void ffi_closure_free(void *closure)
{
	free(closure);
}

ffi_status ffi_prep_closure_loc(ffi_closure *closure, ffi_cif *cif, void (*function)(ffi_cif *, void *, void **, void *),
				void *data, void *code)
{
	(void)closure, (void)cif, (void)function, (void)data, (void)code;
	return FFI_BAD_ABI;
}

/* The program itself, whose functions have no names. */
static char program;
static const char *error;

void *dlopen(const char *name, int mode)
{
	(void)mode;
	if (!name)
		return &program;
	error = "a guest of wasm-interp cannot load native libraries; take a package in pure Python";
	return NULL;
}

int dlclose(void *library)
{
	(void)library;
	return 0;
}

void *dlsym(void *library, const char *name)
{
	(void)library, (void)name;
	error = "a guest of wasm-interp has no C functions that can be called by name";
	return NULL;
}

char *dlerror(void)
{
	const char *last = error;

	error = NULL;
	return (char *)last;
}
