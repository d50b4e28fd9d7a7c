// Writes what LLVM's counters have counted when the program ends, to the file that LLVM_PROFILE_FILE names.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "InstrProfiling.h"
#include "InstrProfilingInternal.h"

// That this is there says that the runtime is linked in.
int __llvm_profile_runtime;

// What minicov's changes to the runtime ask for.
void *minicov_alloc_zeroed(size_t size, size_t alignment) {
    (void)alignment;
    return calloc(1, size);
}

void minicov_dealloc(void *pointer, size_t size, size_t alignment) {
    (void)size;
    (void)alignment;
    free(pointer);
}

static uint32_t write_to_file(ProfDataWriter *writer, ProfDataIOVec *parts, uint32_t count) {
    FILE *file = writer->WriterCtx;
    for (uint32_t part = 0; part < count; part++) {
        size_t length = parts[part].ElmSize * parts[part].NumElm;
        if (parts[part].Data != NULL) {
            if (fwrite(parts[part].Data, 1, length, file) != length) {
                return 1;
            }
            continue;
        }
        while (length-- > 0) {
            if (fputc(0, file) == EOF) {
                return 1;
            }
        }
    }
    return 0;
}

__attribute__((destructor)) static void write_counters(void) {
    const char *name = getenv("LLVM_PROFILE_FILE");
    if (name == NULL) {
        return;
    }
    FILE *file = fopen(name, "wb");
    if (file == NULL) {
        perror(name);
        abort();
    }
    ProfDataWriter writer = {write_to_file, file};
    if (lprofWriteData(&writer, lprofGetVPDataReader(), 0) != 0 || fclose(file) != 0) {
        perror(name);
        abort();
    }
}
