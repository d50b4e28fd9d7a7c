/* Arbitrary native code in a guest's process, as a guest has it that has broken out of its sandbox:
   makes the system calls of a table that the test appends, and prints what each returns. */
typedef long word;

struct call {
    word number;
    word arguments[6];
    /* Bit i: argument i is an offset from the table's start. */
    word pointers;
    /* Bit i: argument i is what the call before returned. */
    word previous;
};

extern const char table[] __attribute__((visibility("hidden")));

static word make(word number, word a, word b, word c, word d, word e, word f) {
#if defined(__x86_64__)
    word result;
    register word r10 __asm__("r10") = d;
    register word r8 __asm__("r8") = e;
    register word r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register word x8 __asm__("x8") = number;
    register word x0 __asm__("x0") = a;
    register word x1 __asm__("x1") = b;
    register word x2 __asm__("x2") = c;
    register word x3 __asm__("x3") = d;
    register word x4 __asm__("x4") = e;
    register word x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#endif
}

#if defined(__x86_64__)
enum { WRITE = 1, EXIT_GROUP = 231 };
#elif defined(__aarch64__)
enum { WRITE = 64, EXIT_GROUP = 94 };
#endif

static void print(word value) {
    char text[24];
    int at = sizeof text;
    unsigned long rest = value < 0 ? -(unsigned long)value : (unsigned long)value;
    text[--at] = '\n';
    do text[--at] = '0' + rest % 10; while (rest /= 10);
    if (value < 0) text[--at] = '-';
    make(WRITE, 1, (word)(text + at), sizeof text - at, 0, 0, 0);
}

__attribute__((section(".text.first"))) void first(void) {
    const word count = *(const word *)table;
    const struct call *calls = (const struct call *)(table + sizeof(word));
    word result = 0;
    for (word i = 0; i < count; i++) {
        word a[6];
        for (int j = 0; j < 6; j++) {
            a[j] = calls[i].arguments[j];
            if (calls[i].pointers >> j & 1) a[j] += (word)table;
            if (calls[i].previous >> j & 1) a[j] = result;
        }
        result = make(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
        print(result);
    }
    make(EXIT_GROUP, 0, 0, 0, 0, 0, 0);
}
