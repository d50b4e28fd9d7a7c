//! The options about the network, and the network of a container that has some of them.

use std::fs;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use wasm_interp_network::{parse_connect, parse_listen, parse_mode};
use wasm_interp_workload::{CONNECT_ANNOTATION, LISTEN_ANNOTATION, NETWORK_ANNOTATION};

use super::spec::{annotate, mount};

/// The files of this machine that a resolver reads, as a pod's are mounted.
const RESOLVER_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// What a container is granted of the network, as annotations would say it.
#[derive(clap::Args)]
pub(crate) struct NetworkArgs {
    /// What a Wasm guest may listen on, as tcp:8080 or unix:/run/app.sock.
    #[arg(long, value_name = "RULES", value_parser = listen)]
    listen: Vec<String>,

    /// What a Wasm guest may connect and send to, as tcp:db.prod:5432, udp:*:53 or dns.
    #[arg(long, value_name = "RULES", value_parser = connect)]
    connect: Vec<String>,

    /// The network of a Wasm guest: none, or pod for all that rules could name but special addresses.
    #[arg(long, value_name = "none|pod", value_parser = mode)]
    network: Option<String>,
}

impl NetworkArgs {
    /// Whether there is no option.
    pub(crate) fn is_empty(&self) -> bool {
        self.listen.is_empty() && self.connect.is_empty() && self.network.is_none()
    }

    /// Whether they grant something.
    pub(crate) fn is_some(&self) -> bool {
        let rules = self.listen.iter().chain(&self.connect);
        self.network.as_deref().map(str::trim) == Some("pod")
            || rules.into_iter().any(|rules| !rules.trim().is_empty())
    }

    /// An option that takes the network away, beside one that grants some of it.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let none = self.network.as_deref().map(str::trim) == Some("none");
        let (option, rules) = [("--listen", &self.listen), ("--connect", &self.connect)]
            .into_iter()
            .map(|(option, rules)| (option, joined(rules)))
            .find(|(_, rules)| none && !rules.is_empty())?;
        Some(format!(
            "cannot use --network none: it contradicts {option} {rules}, which grants a part of \
             the network; remove one of them"
        ))
    }

    /// Sets the annotations.
    pub(crate) fn annotate(&self, spec: &mut Spec) {
        for (key, rules) in [
            (LISTEN_ANNOTATION, &self.listen),
            (CONNECT_ANNOTATION, &self.connect),
        ] {
            if !rules.is_empty() {
                annotate(spec, key, &joined(rules));
            }
        }
        if let Some(mode) = &self.network {
            annotate(spec, NETWORK_ANNOTATION, mode);
        }
    }
}

/// Several options are one list.
fn joined(rules: &[String]) -> String {
    let rules = rules.iter().map(|rules| rules.trim());
    let rules: Vec<&str> = rules.filter(|rules| !rules.is_empty()).collect();
    rules.join(", ")
}

fn listen(text: &str) -> Result<String, String> {
    parse_listen(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn connect(text: &str) -> Result<String, String> {
    parse_connect(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn mode(text: &str) -> Result<String, String> {
    parse_mode(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Gives the container this machine's network and resolver instead of a network of its own.
pub(crate) fn share_network(spec: &mut Spec) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for file in RESOLVER_FILES {
        // resolv.conf often is a symlink. A machine without these files resolves no names.
        let Ok(source) = fs::canonicalize(file) else {
            continue;
        };
        if mounts
            .iter()
            .any(|mount| mount.destination() == Path::new(file))
        {
            continue;
        }
        let mut bind = mount("bind", file, &["bind", "ro"]);
        bind.set_source(Some(source));
        mounts.push(bind);
    }
    spec.set_mounts(Some(mounts));
}

/// Gives the container an empty network of its own.
pub(crate) fn separate_network(spec: &mut Spec) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let has_one = |namespace: &LinuxNamespace| namespace.typ() == LinuxNamespaceType::Network;
    if !namespaces.iter().any(has_one) {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(LinuxNamespaceType::Network);
        namespaces.push(namespace);
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_options_are_one_list() {
        let args = NetworkArgs {
            listen: vec!["tcp:80".to_owned(), " udp:53, tcp:81 ".to_owned()],
            connect: vec![String::new()],
            network: None,
        };
        let mut spec = Spec::default();
        args.annotate(&mut spec);
        let annotations = spec.annotations().clone().unwrap_or_default();
        assert_eq!(annotations[LISTEN_ANNOTATION], "tcp:80, udp:53, tcp:81");
        assert_eq!(
            annotations[CONNECT_ANNOTATION], "",
            "nothing, and no default"
        );
        assert!(args.is_some() && !args.is_empty());
    }

    #[test]
    fn only_what_grants_something_shares_the_network() {
        let none = NetworkArgs {
            listen: vec![],
            connect: vec![String::new()],
            network: Some("none".to_owned()),
        };
        assert!(!none.is_some() && !none.is_empty());
        assert_eq!(none.contradiction(), None);
    }

    #[test]
    fn none_contradicts_options_that_grant_something() {
        let args = |network: Option<&str>, listen: &[&str], connect: &[&str]| NetworkArgs {
            listen: listen.iter().map(|&rules| rules.to_owned()).collect(),
            connect: connect.iter().map(|&rules| rules.to_owned()).collect(),
            network: network.map(str::to_owned),
        };
        for (args, option) in [
            (
                args(Some("none"), &["", "tcp:1"], &["dns"]),
                "--listen tcp:1,",
            ),
            (args(Some(" none "), &[], &["dns"]), "--connect dns,"),
        ] {
            let error = args.contradiction().expect(option);
            let expected = format!("cannot use --network none: it contradicts {option}");
            assert!(error.starts_with(&expected), "{error}");
        }
        for args in [
            args(Some("pod"), &["tcp:1"], &["dns"]),
            args(None, &["tcp:1"], &[]),
            args(Some("none"), &[" "], &[""]),
        ] {
            assert_eq!(args.contradiction(), None);
        }
    }
}
