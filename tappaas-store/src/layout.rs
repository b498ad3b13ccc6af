//! The tables of the file and the keys of their rows.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `revision` | a number |
//! | `meta` | `history.<Kind>` | two numbers: changes up to this revision are forgotten, bytes of the others |
//! | `objects.<Kind>` | the names of the scope and the object, separated by 0 | the object as JSON |
//! | `history.<Kind>` | the revision | `+` or `-`, then the object as JSON |
//! | `durable.<table>` | as given | as given |

use tappaas_core::{Event, Key, Kind, Object, Scope};

use crate::failure::Failure;

/// The version of this layout. Raised when an older program could not read it.
pub(crate) const FORMAT: u64 = 1;

pub(crate) const META: &str = "meta";
pub(crate) const META_FORMAT: &[u8] = b"format";
pub(crate) const META_REVISION: &[u8] = b"revision";

pub(crate) fn objects(kind: Kind) -> String {
    format!("objects.{kind}")
}

pub(crate) fn history(kind: Kind) -> String {
    format!("history.{kind}")
}

pub(crate) fn durable(table: &str) -> String {
    format!("durable.{table}")
}

/// Sorts as [`Key`] does, because 0 is less than any byte of a name.
pub(crate) fn object_key(key: &Key) -> Vec<u8> {
    let mut bytes = scope_prefix(&key.scope);
    bytes.extend_from_slice(key.name.as_bytes());
    bytes
}

/// What the keys of all objects in a scope or inside it begin with.
pub(crate) fn scope_prefix(scope: &Scope) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in scope.names() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.push(0);
    }
    bytes
}

pub(crate) fn encode_object(object: &Object) -> Result<Vec<u8>, Failure> {
    let key = object.key();
    serde_json::to_vec(object)
        .map_err(|error| Failure::Damaged(format!("{key} cannot be serialised: {error}")))
}

pub(crate) fn decode_object(table: &str, key: &[u8], json: &[u8]) -> Result<Object, Failure> {
    serde_json::from_slice(json)
        .map_err(|error| Failure::damaged_row(table, key, &format!("it is no object ({error})")))
}

pub(crate) fn encode_change(json: &[u8], gone: bool) -> Vec<u8> {
    let mut change = Vec::with_capacity(1 + json.len());
    change.push(if gone { b'-' } else { b'+' });
    change.extend_from_slice(json);
    change
}

pub(crate) fn decode_change(table: &str, key: &[u8], change: &[u8]) -> Result<Event, Failure> {
    match change.split_first() {
        Some((b'+', json)) => Ok(Event::Applied(decode_object(table, key, json)?)),
        Some((b'-', json)) => Ok(Event::Deleted(decode_object(table, key, json)?)),
        _ => Err(Failure::damaged_row(table, key, "it is no change")),
    }
}

pub(crate) fn encode_number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(crate) fn decode_number(table: &str, key: &[u8], bytes: &[u8]) -> Result<u64, Failure> {
    let bytes = bytes.try_into();
    let bytes = bytes.map_err(|_| Failure::damaged_row(table, key, "it is no number"))?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use tappaas_core::Name;

    use super::*;

    #[test]
    fn keys_sort_as_objects_do() {
        let name = |name: &str| Name::new(name).unwrap();
        let mut keys = Vec::new();
        for (tenant, environment, object) in [
            ("a", "b", "c"),
            ("a", "b", "c-0"),
            ("a", "b", "c0"),
            ("a", "b-", "c"),
            ("a", "b0", "a"),
            ("a-b", "a", "a"),
            ("ab", "a", "a"),
        ] {
            let environment = environment.trim_end_matches('-');
            let scope = Scope::environment(name(tenant), name("p"), name(environment));
            keys.push(Key::new(Kind::Application, scope, object));
        }
        let mut by_bytes = keys.clone();
        keys.sort();
        by_bytes.sort_by_key(object_key);
        assert_eq!(by_bytes, keys);
    }
}
