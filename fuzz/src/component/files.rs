//! Calls of `wasi:filesystem`.

use wasm_interp_wasi::p2::fuzzing::wasi::filesystem::types::{
    DescriptorType, HostDescriptor as _, HostDirectoryEntryStream as _,
};

use super::calls::{FileCall, PathCall};
use super::{Component, inside};

impl Component {
    pub(super) fn call_file(&mut self, pick: u8, call: &FileCall) -> Option<()> {
        let file = || self.handles.files.lend(pick);
        let guest = &mut self.guest;
        match call {
            FileCall::ReadViaStream(offset) => {
                let stream = guest.read_via_stream(file()?, offset.0);
                let stream = self.file(stream)?;
                self.handles.inputs.put(stream);
            }
            FileCall::WriteViaStream(offset) => {
                let stream = guest.write_via_stream(file()?, offset.0);
                let stream = self.file(stream)?;
                self.handles.outputs.put(stream);
            }
            FileCall::AppendViaStream => {
                let stream = guest.append_via_stream(file()?);
                let stream = self.file(stream)?;
                self.handles.outputs.put(stream);
            }
            FileCall::Advise(offset, length, advice) => {
                let advised = guest.advise(file()?, offset.0, length.0, advice.advice());
                self.file(advised)?;
            }
            FileCall::SyncData => {
                let synced = guest.sync_data(file()?);
                self.file(synced)?;
            }
            FileCall::Sync => {
                let synced = guest.sync(file()?);
                self.file(synced)?;
            }
            FileCall::GetFlags => {
                let flags = guest.get_flags(file()?);
                self.file(flags)?;
            }
            FileCall::GetType => {
                let kind = guest.get_type(file()?);
                self.file(kind)?;
            }
            FileCall::SetSize(size) => {
                let set = guest.set_size(file()?, size.0);
                self.file(set)?;
            }
            FileCall::SetTimes(access, modification) => {
                let set = guest.set_times(file()?, access.get(), modification.get());
                self.file(set)?;
            }
            FileCall::Read(length, offset) => {
                // Of a pipe it waits.
                if guest.get_type(file()?).ok()? == DescriptorType::Fifo {
                    return None;
                }
                let read = guest.read(file()?, length.0, offset.0);
                let (bytes, _) = self.file(read)?;
                assert!(
                    bytes.len() as u64 <= length.0,
                    "{length:?}: {}",
                    bytes.len()
                );
                inside(&bytes);
            }
            FileCall::Write(length, offset) => {
                let bytes = length.bytes();
                let most = bytes.len() as u64;
                let written = guest.write(file()?, bytes, offset.0);
                assert!(self.file(written)? <= most);
            }
            FileCall::ReadDirectory => {
                let entries = guest.read_directory(file()?);
                let entries = self.file(entries)?;
                self.handles.entries.put(entries);
            }
            FileCall::ReadEntry => {
                let entry = guest.read_directory_entry(self.handles.entries.lend(pick)?);
                let entry = self.file(entry)??;
                let name = entry.name.as_str();
                assert!(!["", ".", "..", "secret"].contains(&name), "{name:?}");
                assert!(!name.contains(['/', '\0']), "{name:?}");
                self.deep = true;
            }
            FileCall::Stat => {
                let stat = guest.stat(file()?);
                self.file(stat)?;
            }
            FileCall::MetadataHash => {
                let hash = guest.metadata_hash(file()?);
                self.file(hash)?;
            }
            FileCall::IsSame(other) => {
                let (file, other) = (file()?, self.handles.files.lend(*other)?);
                let itself = file.rep() == other.rep();
                let same = guest.is_same_object(file, other);
                assert!(self.plain(same)? || !itself);
            }
        }
        Some(())
    }

    pub(super) fn call_path(&mut self, pick: u8, call: &PathCall) -> Option<()> {
        let directory = self.handles.files.lend(pick)?;
        let guest = &mut self.guest;
        let text = |path: &super::values::Path| path.0.to_owned();
        match call {
            PathCall::Open(follow, path, open, flags) => {
                let (open, flags) = (open.open(), flags.descriptor());
                let opened = guest.open_at(directory, follow.follow(), text(path), open, flags);
                let opened = self.file(opened)?;
                self.handles.files.put(opened);
            }
            PathCall::CreateDirectory(path) => {
                let made = guest.create_directory_at(directory, text(path));
                self.file(made)?;
            }
            PathCall::Stat(follow, path) => {
                let stat = guest.stat_at(directory, follow.follow(), text(path));
                self.file(stat)?;
            }
            PathCall::SetTimes(follow, path, access, modification) => {
                let (access, modification) = (access.get(), modification.get());
                let set = guest.set_times_at(
                    directory,
                    follow.follow(),
                    text(path),
                    access,
                    modification,
                );
                self.file(set)?;
            }
            PathCall::Link(follow, old, to, new) => {
                let to = self.handles.files.lend(*to)?;
                let linked = guest.link_at(directory, follow.follow(), text(old), to, text(new));
                self.file(linked)?;
            }
            PathCall::ReadLink(path) => {
                let target = guest.readlink_at(directory, text(path));
                self.file(target)?;
            }
            PathCall::RemoveDirectory(path) => {
                let removed = guest.remove_directory_at(directory, text(path));
                self.file(removed)?;
            }
            PathCall::Rename(old, to, new) => {
                let to = self.handles.files.lend(*to)?;
                let renamed = guest.rename_at(directory, text(old), to, text(new));
                self.file(renamed)?;
            }
            PathCall::SymbolicLink(target, path) => {
                let linked = guest.symlink_at(directory, text(target), text(path));
                self.file(linked)?;
            }
            PathCall::Unlink(path) => {
                let removed = guest.unlink_file_at(directory, text(path));
                self.file(removed)?;
            }
            PathCall::MetadataHash(follow, path) => {
                let hash = guest.metadata_hash_at(directory, follow.follow(), text(path));
                self.file(hash)?;
            }
        }
        Some(())
    }
}
