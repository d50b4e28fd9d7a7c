//! Look-ups of names, of an `/etc/hosts` of the test's.

use std::net::IpAddr;

use wasmtime::component::Resource;

use super::{code, guest, lend};
use crate::{
    limits,
    p2::{
        bindings::wasi::sockets::{
            instance_network::Host as _,
            ip_name_lookup::{Host as _, HostResolveAddressStream},
            network::{ErrorCode, IpAddress},
        },
        failure::SocketResult,
        guest::ComponentGuest,
        handles::FoundAddresses,
    },
};

fn look_up(guest: &mut ComponentGuest, name: &str) -> SocketResult<Resource<FoundAddresses>> {
    let network = guest.instance_network().expect("a handle");
    let found = guest.resolve_addresses(lend(&network), name.to_owned());
    guest.table.delete(network).expect("there");
    found
}

fn addresses(guest: &mut ComponentGuest, name: &str) -> Vec<IpAddress> {
    let found = look_up(guest, name).expect(name);
    let mut all = Vec::new();
    while let Some(address) = guest.resolve_next_address(lend(&found)).expect("found") {
        all.push(address);
    }
    HostResolveAddressStream::drop(guest, found).expect("there");
    all
}

fn expected(texts: &[&str]) -> Vec<IpAddress> {
    let parsed = texts.iter().map(|text| text.parse::<IpAddr>().expect(text));
    parsed.map(IpAddress::from).collect()
}

#[test]
fn ipv4_address_is_never_given_in_the_guise_of_ipv6() {
    let guest = &mut guest();
    guest.resolver.know_only(
        "::ffff:10.1.2.3 mapped\n\
         10.1.2.3 mapped\n\
         ::ffff:10.1.2.4 mapped\n\
         fd00::1 mapped\n",
    );
    for (name, found) in [
        ("::ffff:1.2.3.4", &["1.2.3.4"][..]),
        ("[::ffff:102:304]", &["1.2.3.4"]),
        ("::1", &["::1"]),
        ("1.2.3.4", &["1.2.3.4"]),
        ("mapped", &["10.1.2.3", "10.1.2.4", "fd00::1"]),
    ] {
        let found = format!("{:?}", expected(found));
        assert_eq!(format!("{:?}", addresses(guest, name)), found, "{name}");
    }
}

#[test]
fn name_that_is_not_of_a_host_is_not_resolvable() {
    let guest = &mut guest();
    guest.resolver.know_only("");
    let failure = look_up(guest, "bücher.example").expect_err("no IDNA");
    assert_eq!(code(guest, failure), ErrorCode::NameUnresolvable);
}

/// They are memory of the process, which the guest's ceiling does not count.
#[test]
fn results_of_look_ups_are_bounded_and_others_follow_when_one_is_dropped() {
    let guest = &mut guest();
    guest.resolver.know_only("10.1.2.3 known");
    let mut all = Vec::new();
    let failure = loop {
        match look_up(guest, "known") {
            Ok(found) => all.push(found),
            Err(failure) => break failure,
        }
    };
    assert_eq!(all.len(), limits::LOOK_UPS);
    assert_eq!(code(guest, failure), ErrorCode::OutOfMemory);
    let one = all.pop().expect("many");
    HostResolveAddressStream::drop(guest, one).expect("there");
    look_up(guest, "10.1.2.3").expect("room for one");
}
