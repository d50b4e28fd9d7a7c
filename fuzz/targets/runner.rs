//! The wire between the shim and the runner: requests with whole plans, and answers.
#![no_main]

use std::borrow::Cow;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_interp_fuzz::container::Container;
use wasm_interp_fuzz::planted;
use wasm_interp_runner_client::{Lifetime, Request, Response, SessionKeyring, Workload};
use wasm_interp_workload::{Planned, fuzzing::decide_on_image};

#[derive(Debug, arbitrary::Arbitrary)]
enum Input<'a> {
    /// What a broken peer may send.
    Text(&'a [u8]),
    /// What the shim sends.
    Create {
        id: &'a str,
        bundle: &'a str,
        container: Box<Container>,
    },
}

/// What is read is written as it was read.
fn text<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else {
        return false;
    };
    let written = serde_json::to_vec(&read).expect("what was read is written");
    let again: T = serde_json::from_slice(&written).expect("what was written is read");
    assert_eq!(serde_json::to_vec(&again).expect("written"), written);
    true
}

fn create(id: &str, bundle: &Path, container: Container) {
    let spec: Spec = serde_json::from_value(container.spec).expect("a spec");
    let decided = decide_on_image(&spec, &container.policy, &container.image.to_string());
    let workload = match decided {
        Ok(Planned::Wasm(plan, _)) => Workload::Wasm { plan },
        Ok(Planned::Native(native)) => Workload::Native {
            native: Box::new(native),
        },
        Err(_) => Workload::Pause,
    };
    let sent = serde_json::to_vec(&Request::Create {
        id: id.into(),
        bundle: bundle.into(),
        state: bundle.into(),
        workload: Cow::Borrowed(&workload),
        lifetime: Lifetime::Own,
        keyring: SessionKeyring::default(),
    })
    .expect("a request is written");
    let received = serde_json::from_slice(&sent).expect("a written request is read");
    let Request::Create {
        id: received_id,
        bundle: received_bundle,
        workload: received,
        ..
    } = received
    else {
        panic!("another request arrives");
    };
    assert_eq!((&*received_id, &*received_bundle), (id, bundle));
    match (&workload, &*received) {
        (Workload::Wasm { plan }, Workload::Wasm { plan: arrived }) => assert_eq!(plan, arrived),
        (Workload::Native { native }, Workload::Native { native: arrived }) => {
            assert_eq!(native, arrived);
            planted(!native.argv.is_empty());
        }
        (Workload::Pause, Workload::Pause) => {}
        _ => panic!("another workload arrives"),
    }
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Text(bytes) => {
        text::<Request<'_>>(bytes);
        text::<Response>(bytes);
    }
    Input::Create {
        id,
        bundle,
        container,
    } => create(id, Path::new(bundle), *container),
});
