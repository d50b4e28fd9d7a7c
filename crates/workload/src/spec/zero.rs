//! Removes the values that Go's `encoding/json` treats like an absent field: `null`, and the empty
//! string, which is the zero value of a string. Called by [`super::parse_spec`].

use serde_json::{Map, Value};

/// Objects whose member names are free, not fields of the spec. An empty string is a value there.
const MAPS: [&[&str]; 3] = [
    &["annotations"],
    &["linux", "sysctl"],
    &["linux", "resources", "unified"],
];

/// Removes these values everywhere but in lists, where the number of entries matters.
pub(super) fn remove(value: &mut Value) {
    remove_in(value, &mut Vec::new());
}

fn remove_in(value: &mut Value, path: &mut Vec<String>) {
    match value {
        Value::Object(object) if is_map(path) => set_null_to_empty(object),
        Value::Object(object) => {
            object.retain(|_, member| !is_zero(member));
            for (name, member) in object {
                path.push(name.clone());
                remove_in(member, path);
                path.pop();
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                path.push("[]".to_owned());
                remove_in(entry, path);
                path.pop();
            }
        }
        _ => {}
    }
}

fn is_zero(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn is_map(path: &[String]) -> bool {
    MAPS.iter().any(|map| path == *map)
}

/// What Go makes of `null` in a map of strings.
fn set_null_to_empty(map: &mut Map<String, Value>) {
    for value in map.values_mut().filter(|value| value.is_null()) {
        *value = Value::String(String::new());
    }
}
