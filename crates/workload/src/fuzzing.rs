//! What the fuzz targets (`fuzz/targets`) reach of this crate's private functions. Built only with
//! `--cfg fuzzing`, which `scripts/fuzz` sets.

use std::io::{self, Cursor};

use oci_spec::runtime::Spec;

use crate::program::magic::{self, FileFormat};
use crate::program::shebang::Shebang;
use crate::view::fake::{FakeImage, FakeView};
use crate::{PlanError, Planned, Policy};

/// [`crate::decide()`] on the files of `image`, which is an `image.json` of the golden tests.
///
/// # Errors
/// Those of the view and of [`crate::decide()`].
///
/// # Panics
/// If `image` is not such a document.
pub fn decide_on_image(
    spec: &Spec,
    policy: &Policy,
    image: &str,
) -> Result<Planned<Cursor<Vec<u8>>>, PlanError> {
    let image: FakeImage = serde_json::from_str(image).expect("an image.json");
    let view = FakeView::new(&image, spec)?;
    crate::decide(spec, policy, &view)
}

/// The first line of a file without `#!`, if the file is a script whose first line can be followed.
///
/// # Errors
/// Those of reading, which memory never gives.
pub fn first_line(file: &[u8]) -> io::Result<Option<String>> {
    Ok(match magic::read(&mut Cursor::new(file))? {
        FileFormat::Script(line) => Some(line),
        _ => None,
    })
}

/// A `#!` line taken apart: the interpreter, its arguments, the variables that `env -S` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShebangParts {
    /// The interpreter as the line names it.
    pub interpreter: String,
    /// Arguments between the interpreter and the script.
    pub args: Vec<String>,
    /// Variables that `env -S` sets.
    pub env: Vec<(String, String)>,
}

/// Takes apart a `#!` line, which is without `#!`.
///
/// # Errors
/// What is wrong with the line.
pub fn shebang(line: &str) -> Result<ShebangParts, &'static str> {
    Shebang::parse(line).map(|shebang| ShebangParts {
        interpreter: shebang.interpreter,
        args: shebang.args,
        env: shebang.env,
    })
}
