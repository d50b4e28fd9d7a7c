//! Parses `--mount` with the grammar of docker and ctr: keys and values separated by commas.

use std::path::{Path, PathBuf, absolute};

use oci_spec::runtime::Mount;

/// Parses a mount. Source paths may be relative to the working directory.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    let mut typ = "bind";
    let mut source = None;
    let mut destination = None;
    let mut options = Vec::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match (key, value) {
            ("type", value @ ("bind" | "tmpfs")) => typ = value,
            ("type", other) => {
                return Err(format!("cannot mount type {other:?}; use bind or tmpfs"));
            }
            ("src" | "source", path) if !path.is_empty() => source = Some(PathBuf::from(path)),
            ("dst" | "destination" | "target", path) if !path.is_empty() => {
                destination = Some(PathBuf::from(path));
            }
            ("ro" | "readonly", "" | "true") => options.push("ro".to_owned()),
            ("rw", "") => options.push("rw".to_owned()),
            ("options", list) => options.extend(list.split(':').map(str::to_owned)),
            ("size", size) if !size.is_empty() => {
                options.push(format!("size={}", tmpfs_size(size)?));
            }
            _ => {
                return Err(format!(
                    "cannot use {part:?}: it is no known key; use type, src, dst, ro, size, options"
                ));
            }
        }
    }
    let destination = destination.filter(|path| path.is_absolute());
    let destination =
        destination.ok_or("cannot mount without an absolute path in the container; add dst=/…")?;
    let mut mount = Mount::default();
    if typ == "bind" {
        let source = source.ok_or("cannot mount without a source; add src=PATH")?;
        let source =
            absolute(&source).map_err(|error| format!("cannot use src={source:?}: {error}"))?;
        if !options
            .iter()
            .any(|option| option == "bind" || option == "rbind")
        {
            options.push("rbind".to_owned());
        }
        mount.set_source(Some(source));
    } else {
        mount.set_source(Some(Path::new(typ).to_owned()));
    }
    mount
        .set_destination(destination)
        .set_typ(Some(typ.to_owned()))
        .set_options(Some(options));
    Ok(mount)
}

/// A size as the kernel takes it: bytes, or a share of the memory, for example 50%.
fn tmpfs_size(text: &str) -> Result<String, String> {
    let share = text.strip_suffix('%').map(str::parse::<u8>);
    if let Some(Ok(1..=100)) = share {
        return Ok(text.to_owned());
    }
    wasm_interp_workload::parse_size(text)
        .map(|bytes| bytes.to_string())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_and_ctr_spellings_give_the_same_mount() {
        let docker = parse("type=bind,source=/srv,target=/data,readonly").unwrap();
        let ctr = parse("type=bind,src=/srv,dst=/data,options=ro:rbind").unwrap();
        for mount in [docker, ctr] {
            assert_eq!(mount.destination(), Path::new("/data"));
            assert_eq!(mount.source().as_deref(), Some(Path::new("/srv")));
            let options = mount.options().clone().unwrap();
            assert!(options.contains(&"ro".to_owned()) && options.contains(&"rbind".to_owned()));
        }
    }

    #[test]
    fn relative_source_starts_at_the_working_directory() {
        let mount = parse("src=here,dst=/data").unwrap();
        let expected = std::env::current_dir().unwrap().join("here");
        assert_eq!(mount.source().as_ref(), Some(&expected));
    }

    #[test]
    fn tmpfs_needs_no_source() {
        for (size, option) in [
            ("1m", "size=1048576"),
            ("500MiB", "size=524288000"),
            ("50%", "size=50%"),
        ] {
            let mount = parse(&format!("type=tmpfs,dst=/scratch,size={size}")).unwrap();
            assert_eq!(mount.options().clone().unwrap(), [option]);
        }
    }

    #[test]
    fn mistakes_say_the_way_out() {
        for (text, way_out) in [
            ("src=/a", "add dst=/"),
            ("src=/a,dst=relative", "add dst=/"),
            ("dst=/a", "add src=PATH"),
            ("type=nfs,dst=/a", "bind or tmpfs"),
            ("src=/a,dst=/b,rong", "use type, src, dst"),
            ("type=tmpfs,dst=/b,size=1.5G", "64MiB"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(way_out), "{text}: {error}");
        }
    }
}
