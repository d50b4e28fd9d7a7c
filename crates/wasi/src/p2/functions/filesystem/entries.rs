//! The preopened directory, listings, and what an error of a file's stream was.
#![forbid(unsafe_code)]

use rustix::io::Errno as Kernel;
use wasmtime::component::Resource;

use super::values::kind;
use crate::p2::{
    bindings::wasi::filesystem::{
        preopens,
        types::{self, DirectoryEntry, ErrorCode},
    },
    convert::{file_code, of_file},
    failure::{FileFailure, FileResult, IoError},
    guest::ComponentGuest,
    handles::{DirectoryEntries, FileHandle},
};

impl preopens::Host for ComponentGuest {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<FileHandle>, String)>> {
        let root = self.push(FileHandle::root(self.paths.shared_root()))?;
        Ok(vec![(root, "/".to_owned())])
    }
}

impl types::Host for ComponentGuest {
    fn convert_error_code(&mut self, failure: FileFailure) -> wasmtime::Result<ErrorCode> {
        of_file(failure)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<IoError>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let IoError(error) = self.table.get(&error)?;
        Ok(Some(file_code(*error)))
    }
}

impl types::HostDirectoryEntryStream for ComponentGuest {
    fn read_directory_entry(
        &mut self,
        entries: Resource<DirectoryEntries>,
    ) -> FileResult<Option<DirectoryEntry>> {
        let Some((file_type, name)) = self.table.get_mut(&entries)?.next()? else {
            return Ok(None);
        };
        let name = std::str::from_utf8(name).map_err(|_| Kernel::ILSEQ)?;
        Ok(Some(DirectoryEntry {
            type_: kind(file_type),
            name: name.to_owned(),
        }))
    }

    fn drop(&mut self, entries: Resource<DirectoryEntries>) -> wasmtime::Result<()> {
        self.table.delete(entries)?;
        Ok(())
    }
}
