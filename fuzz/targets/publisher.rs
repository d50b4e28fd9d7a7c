//! The wire between a client of the store and its publisher, over a real socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use wasm_interp_artifact::fuzzing::{read_request, read_response};
use wasm_interp_fuzz::planted;

#[derive(Debug, arbitrary::Arbitrary)]
enum Input<'a> {
    /// What a broken peer may send.
    Packet(&'a [u8]),
    Request {
        digest: [u8; 32],
        recipe: u64,
        name: &'a str,
        memory: Option<&'a str>,
        level: u8,
        policy: [u64; 2],
        /// Something that no request has.
        extra: Option<&'a str>,
    },
    Response {
        kind: u8,
        seconds: f64,
        text: &'a str,
        level: u8,
    },
}

const LEVELS: &[&str] = &["OFF", "ERROR", "WARN", "info", "DEBUG", "TRACE", "LOUD"];
const MEMBERS: &[&str] = &["key", "name", "policy", "destination", "log_level"];

fn level(level: u8) -> &'static str {
    LEVELS[usize::from(level) % LEVELS.len()]
}

/// Equal, but for the last digit of a number of seconds.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let both = a.iter().zip(b);
            a.len() == b.len() && both.into_iter().all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let [a, b] = [a, b].map(|number| number.as_f64().expect("a number"));
            (a - b).abs() <= a.abs() * 1e-12
        }
        (a, b) => a == b,
    }
}

fn check(read: std::io::Result<[String; 2]>) -> Option<String> {
    match read {
        Ok([first, again]) => {
            let read = |text: &str| serde_json::from_str(text).expect("JSON");
            let is_same = same(&read(&first), &read(&again));
            assert!(is_same, "what is sent is what arrives: {first} {again}");
            Some(first)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Packet(packet) => {
        check(read_request(packet));
        check(read_response(packet));
    }
    Input::Request {
        digest,
        recipe,
        name,
        memory,
        level: at,
        policy,
        extra,
    } => {
        let destination = match memory {
            Some(reason) => json!({ "to": "memory", "reason": reason }),
            None => json!({ "to": "store", "path": "/var/lib/wasm-interp/cache" }),
        };
        let mut request = json!({
            "key": format!("{}-{recipe:016x}", hex::encode(digest)), "name": name,
            "policy": { "max_bytes": policy[0], "max_module_bytes": policy[1] },
            "destination": destination, "log_level": level(at),
        });
        let is_unknown = extra.is_some_and(|extra| !MEMBERS.contains(&extra));
        if let Some(extra) = extra {
            request[extra] = json!(1);
        }
        let read = check(read_request(request.to_string().as_bytes()));
        let Some(read) = read else {
            assert!(
                extra.is_some()
                    || level(at) == "LOUD"
                    || name.len() + memory.map_or(0, str::len) > 10_000,
                "{request}"
            );
            return;
        };
        assert!(!is_unknown, "{request}");
        let read: serde_json::Value = serde_json::from_str(&read).expect("JSON");
        assert_eq!(
            (&read["key"], &read["name"]),
            (&request["key"], &request["name"])
        );
        assert_eq!(read["destination"], request["destination"]);
        planted(
            memory.is_some_and(|reason| !reason.is_empty()) && !name.is_empty() && policy[0] == 0,
        );
    }
    Input::Response {
        kind,
        seconds,
        text,
        level: at,
    } => {
        let response = match kind % 7 {
            0 => json!({ "response": "compiling" }),
            1 => json!({ "response": "log", "level": level(at), "message": text }),
            2 => json!({ "response": "published", "seconds": seconds }),
            3 => json!({ "response": "in-memory", "seconds": seconds, "reason": text }),
            4 => json!({ "response": "failed", "failure": { "failure": "crashed", "how": text } }),
            5 => {
                let refusal = json!({ "refusal": "invalid", "reason": text });
                let failure = json!({ "failure": "refused", "refusal": refusal });
                json!({ "response": "failed", "failure": failure })
            }
            _ => json!({ "response": text }),
        };
        check(read_response(response.to_string().as_bytes()));
    }
});
