// The words of the signals. They are apart from the functions of <signal.h>, which most programs have no use for.
#include "internal.h"

struct wasm_interp_signals __wasm_interp_signals;
_Bool (*__posix_run_handlers)(void);
_Bool (*__posix_has_timeout)(int fd, int option);
