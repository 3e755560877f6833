//! Choosing VMs and their properties by name: `k=v`, `k=~regex`, nested keys, sort orders.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;

use regex::bytes::Regex;
use serde_json::Value;

use super::properties;
use crate::failure::Failure;
use crate::filter::{Case, pattern_of};

/// A condition on one property.
#[derive(Debug)]
pub enum Condition {
    /// `key=value`.
    Equal(String, String),
    /// `key=~pattern`.
    Match(String, Regex),
}

/// The first part of a key is a property's name.
///
/// # Errors
/// There is no such property.
pub fn check_key(key: &str) -> Result<(), Failure> {
    let name = key.split('.').next().unwrap_or_default();
    match properties::find(name) {
        Some(_) => Ok(()),
        None => Err(Failure::Usage(format!("Invalid property: {key}"))),
    }
}

impl Condition {
    /// Reads `key=value` or `key=~pattern`.
    ///
    /// # Errors
    /// It is neither, the property does not exist, or the pattern is none.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("Not a filter (key=value): {text}")))?;
        check_key(key)?;
        match value.strip_prefix('~') {
            Some(pattern) => Ok(Self::Match(key.into(), pattern_of(pattern, Case::Kept)?)),
            None => Ok(Self::Equal(key.into(), value.into())),
        }
    }

    /// Whether any value that the key names fulfils it.
    pub fn holds(&self, object: &Value) -> bool {
        match self {
            Self::Equal(key, wanted) => values(object, key).iter().any(|value| value == wanted),
            Self::Match(key, pattern) => values(object, key)
                .iter()
                .any(|value| pattern.is_match(value.as_bytes())),
        }
    }
}

/// The values that `key` names in `object`, as text. A key is made of names, indices and `*`, joined by
/// dots; a name may have dots itself, as tags do.
pub fn values(object: &Value, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(object, key, &mut found);
    found
}

fn collect(value: &Value, key: &str, found: &mut Vec<String>) {
    // The whole rest of the key as a name, then ever shorter beginnings of it.
    let dots = key.match_indices('.').map(|(at, _)| at);
    let splits = core::iter::once(key.len()).chain(dots.rev());
    for at in splits {
        let (name, rest) = (&key[..at], key.get(at + 1..));
        let children: Vec<&Value> = match value {
            Value::Object(object) if name == "*" => object.values().collect(),
            Value::Object(object) => object.get(name).into_iter().collect(),
            Value::Array(array) if name == "*" => array.iter().collect(),
            Value::Array(array) => name
                .parse::<usize>()
                .ok()
                .and_then(|index| array.get(index))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        };
        for child in &children {
            match rest {
                Some(rest) => collect(child, rest, found),
                None => found.push(text(child)),
            }
        }
        if !children.is_empty() {
            return;
        }
    }
}

/// A value as a table shows it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// One part of a sort order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    key: String,
    descending: bool,
}

impl SortKey {
    /// Reads `name,-name,...`.
    ///
    /// # Errors
    /// A property that does not exist.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Failure> {
        text.split(',')
            .map(|part| {
                let key = part.strip_prefix('-').unwrap_or(part);
                let key = key.strip_prefix('+').unwrap_or(key);
                check_key(key)?;
                Ok(Self {
                    key: key.into(),
                    descending: part.starts_with('-'),
                })
            })
            .collect()
    }
}

/// Compares two objects by a sort order: numbers by size, everything else as text.
pub fn compare(left: &Value, right: &Value, order: &[SortKey]) -> Ordering {
    for part in order {
        let (left, right) = (values(left, &part.key), values(right, &part.key));
        let ordering = match (number(&left), number(&right)) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => left.cmp(&right),
        };
        if ordering != Ordering::Equal {
            return if part.descending {
                ordering.reverse()
            } else {
                ordering
            };
        }
    }
    Ordering::Equal
}

fn number(values: &[String]) -> Option<i128> {
    values.first()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn vm() -> Value {
        json!({
            "alias": "web", "ram": 1024, "autoboot": true,
            "tags": {"role": "front", "a.b": "dotted"},
            "customer_metadata": {"list": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]},
        })
    }

    fn holds(filter: &str) -> bool {
        Condition::parse(filter).unwrap().holds(&vm())
    }

    #[test]
    fn properties_are_compared_as_text() {
        assert!(holds("alias=web") && !holds("alias=we"));
        assert!(holds("ram=1024") && holds("autoboot=true"));
        assert!(!holds("hostname=web"), "what is not there equals nothing");
    }

    #[test]
    fn patterns_match_anywhere_unless_anchored() {
        assert!(holds("alias=~^w") && holds("alias=~e") && !holds("alias=~^e"));
        assert!(holds("ram=~^1[0-9]+$"));
    }

    #[test]
    fn keys_reach_into_objects_and_lists() {
        assert!(holds("tags.role=front") && holds("tags.*=front"));
        assert!(holds("tags.a.b=dotted"));
        assert!(holds("customer_metadata.list.*.ip=10.0.0.2"));
        assert!(holds("customer_metadata.list.0.ip=10.0.0.1"));
        assert!(!holds("customer_metadata.list.1.ip=10.0.0.1"));
        assert!(!holds("customer_metadata.list.7.ip=10.0.0.1"));
    }

    #[test]
    fn wrong_filters_are_refused() {
        for filter in ["alias", "nothing=1", "alias=~(", "=x"] {
            assert!(
                matches!(Condition::parse(filter), Err(Failure::Usage(_))),
                "{filter}"
            );
        }
    }

    #[test]
    fn numbers_sort_by_size_and_names_as_text() {
        let small = json!({"ram": 128, "alias": "b"});
        let large = json!({"ram": 1024, "alias": "a"});
        let order = |text| SortKey::parse_list(text).unwrap();
        assert_eq!(compare(&small, &large, &order("ram")), Ordering::Less);
        assert_eq!(compare(&small, &large, &order("-ram")), Ordering::Greater);
        assert_eq!(
            compare(&small, &large, &order("alias,ram")),
            Ordering::Greater
        );
        assert_eq!(
            compare(&small, &small, &order("ram,alias")),
            Ordering::Equal
        );
        assert!(SortKey::parse_list("ram,x").is_err());
    }

    proptest! {
        #[test]
        fn any_key_names_something_or_nothing(key in "[a-z*.0-9_]{0,30}") {
            let found = values(&vm(), &key);
            prop_assert!(found.len() <= 8);
        }
    }
}
