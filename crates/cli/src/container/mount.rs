//! The grammar of `--mount`, docker's and ctr's: keys and values separated by commas.

use std::path::{Path, PathBuf, absolute};

use oci_spec::runtime::Mount;

/// Reads one mount. Paths of this machine may be relative to the working directory.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    let mut typ = "bind";
    let mut source = None;
    let mut destination = None;
    let mut options = Vec::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match (key, value) {
            ("type", value @ ("bind" | "tmpfs")) => typ = value,
            ("type", other) => return Err(format!("type {other:?} is not bind or tmpfs")),
            ("src" | "source", path) if !path.is_empty() => source = Some(PathBuf::from(path)),
            ("dst" | "destination" | "target", path) if !path.is_empty() => {
                destination = Some(PathBuf::from(path));
            }
            ("ro" | "readonly", "" | "true") => options.push("ro".to_owned()),
            ("rw", "") => options.push("rw".to_owned()),
            ("options", list) => options.extend(list.split(':').map(str::to_owned)),
            ("size", size) if !size.is_empty() => options.push(format!("size={size}")),
            _ => {
                return Err(format!(
                    "{part:?} is not understood: use type, src, dst, ro, size, options"
                ));
            }
        }
    }
    let destination = destination.filter(|path| path.is_absolute());
    let destination = destination.ok_or("dst is the absolute path in the container: add dst=/…")?;
    let mut mount = Mount::default();
    if typ == "bind" {
        let source = source.ok_or("src is what to mount: add src=PATH")?;
        let source = absolute(&source).map_err(|error| format!("src={source:?}: {error}"))?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dockers_and_ctrs_ways_mean_the_same() {
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
    fn a_relative_source_is_this_directorys() {
        let mount = parse("src=here,dst=/data").unwrap();
        let expected = std::env::current_dir().unwrap().join("here");
        assert_eq!(mount.source().as_ref(), Some(&expected));
    }

    #[test]
    fn memory_needs_no_source() {
        let mount = parse("type=tmpfs,dst=/scratch,size=1m").unwrap();
        assert_eq!(mount.options().clone().unwrap(), ["size=1m"]);
    }

    #[test]
    fn mistakes_say_the_way_out() {
        for (text, way_out) in [
            ("src=/a", "add dst=/"),
            ("src=/a,dst=relative", "add dst=/"),
            ("dst=/a", "add src=PATH"),
            ("type=nfs,dst=/a", "bind or tmpfs"),
            ("src=/a,dst=/b,rong", "use type, src, dst"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(way_out), "{text}: {error}");
        }
    }
}
