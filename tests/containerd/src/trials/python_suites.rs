//! CPython's own tests, as far as they are soon done: `scripts/test-python library` runs all of them.

use super::python::holds;
use crate::Outcome;
use crate::guests::PYTHON;
use crate::world::World;

/// Files without a failure, of every part of the interpreter and its library, that take some seconds together.
const FILES: &[&str] = &[
    "test_array",
    "test_ast",
    "test_bz2",
    "test_collections",
    "test_contextlib",
    "test_coroutines",
    "test_csv",
    "test_dataclasses",
    "test_datetime",
    "test_descr",
    "test_dict",
    "test_exceptions",
    "test_fcntl",
    "test_float",
    "test_functools",
    "test_generators",
    "test_grammar",
    "test_grp",
    "test_hashlib",
    "test_hmac",
    "test_int",
    "test_json",
    "test_list",
    "test_lzma",
    "test_pwd",
    "test_pydoc",
    "test_re",
    "test_shutil",
    "test_sqlite3",
    "test_struct",
    "test_syntax",
    "test_tempfile",
    "test_typing",
];

pub(super) fn own_tests_of_the_library_pass(world: &World) -> Outcome {
    // As `python -m test` starts itself again where there are child processes.
    let arguments = ["python", "-u", "-W", "default", "-bb", "-E", "-m", "test"];
    let container = world
        .container(PYTHON)
        .arguments(&[&arguments[..], &["--tempdir", "/tmp"], FILES].concat())
        .mount(
            world.python_tests(),
            "/usr/local/lib/python3.13/test",
            "rbind:ro",
        );
    holds(container).map(drop)
}
