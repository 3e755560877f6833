//! Name-value lists: the self-describing records of labels, configurations, SA xattrs and streams.
//!
//! Packed in XDR (on disk) or native form (stream headers of the kernel). `decode` reads both, `encode` writes XDR,
//! including the in-memory sizes that OpenZFS checks.

mod decode;
mod encode;

use alloc::string::String;
use alloc::vec::Vec;

/// Nesting deeper than this is refused; a pool configuration needs about six levels.
pub const MAX_DEPTH: usize = 20;

/// The value of one pair. The names are those of the format's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A name that is there, without a value.
    Boolean,
    /// True or false.
    BooleanValue(bool),
    /// One byte.
    Byte(u8),
    /// Signed 8 bits.
    Int8(i8),
    /// Unsigned 8 bits.
    Uint8(u8),
    /// Signed 16 bits.
    Int16(i16),
    /// Unsigned 16 bits.
    Uint16(u16),
    /// Signed 32 bits.
    Int32(i32),
    /// Unsigned 32 bits.
    Uint32(u32),
    /// Signed 64 bits.
    Int64(i64),
    /// Unsigned 64 bits.
    Uint64(u64),
    /// A time in nanoseconds.
    Hrtime(i64),
    /// A double, as its bits.
    Double(u64),
    /// Text; bytes that are not UTF-8 were replaced.
    String(String),
    /// A nested list.
    List(Nvlist),
    /// Raw bytes.
    ByteArray(Vec<u8>),
    /// Booleans.
    BooleanArray(Vec<bool>),
    /// Signed 8 bits each.
    Int8Array(Vec<i8>),
    /// Unsigned 8 bits each.
    Uint8Array(Vec<u8>),
    /// Signed 16 bits each.
    Int16Array(Vec<i16>),
    /// Unsigned 16 bits each.
    Uint16Array(Vec<u16>),
    /// Signed 32 bits each.
    Int32Array(Vec<i32>),
    /// Unsigned 32 bits each.
    Uint32Array(Vec<u32>),
    /// Signed 64 bits each.
    Int64Array(Vec<i64>),
    /// Unsigned 64 bits each.
    Uint64Array(Vec<u64>),
    /// Texts.
    StringArray(Vec<String>),
    /// Nested lists.
    ListArray(Vec<Nvlist>),
}

/// An ordered list of named values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nvlist {
    pairs: Vec<(String, Value)>,
}

impl Nvlist {
    /// An empty list.
    pub fn new() -> Self {
        Nvlist::default()
    }

    /// The pairs in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.pairs
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// The unsigned 64-bit value of a name.
    pub fn u64(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Uint64(value) => Some(*value),
            _ => None,
        }
    }

    /// The text of a name.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::String(value) => Some(value),
            _ => None,
        }
    }

    /// The nested list of a name.
    pub fn list(&self, name: &str) -> Option<&Nvlist> {
        match self.get(name)? {
            Value::List(value) => Some(value),
            _ => None,
        }
    }

    /// The nested lists of a name; none when it is not there.
    pub fn lists(&self, name: &str) -> &[Nvlist] {
        match self.get(name) {
            Some(Value::ListArray(lists)) => lists,
            _ => &[],
        }
    }

    /// The raw bytes of a name, of either byte-array type.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.get(name)? {
            Value::ByteArray(bytes) | Value::Uint8Array(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Adds a pair, or replaces the value of the name where it stands.
    pub fn set(&mut self, name: &str, value: Value) {
        match self.pairs.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((name.into(), value)),
        }
    }

    /// [`Nvlist::set`] of an unsigned 64-bit value.
    pub fn set_u64(&mut self, name: &str, value: u64) {
        self.set(name, Value::Uint64(value));
    }

    /// [`Nvlist::set`] of a text.
    pub fn set_string(&mut self, name: &str, value: &str) {
        self.set(name, Value::String(value.into()));
    }

    /// Takes a name out; `None` when it was not there.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.pairs.iter().position(|(found, _)| found == name)?;
        Some(self.pairs.remove(at).1)
    }
}

/// Type numbers of the packed forms.
mod kind {
    pub const BOOLEAN: i32 = 1;
    pub const BYTE: i32 = 2;
    pub const INT16: i32 = 3;
    pub const UINT16: i32 = 4;
    pub const INT32: i32 = 5;
    pub const UINT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const UINT64: i32 = 8;
    pub const STRING: i32 = 9;
    pub const BYTE_ARRAY: i32 = 10;
    pub const INT16_ARRAY: i32 = 11;
    pub const UINT16_ARRAY: i32 = 12;
    pub const INT32_ARRAY: i32 = 13;
    pub const UINT32_ARRAY: i32 = 14;
    pub const INT64_ARRAY: i32 = 15;
    pub const UINT64_ARRAY: i32 = 16;
    pub const STRING_ARRAY: i32 = 17;
    pub const HRTIME: i32 = 18;
    pub const NVLIST: i32 = 19;
    pub const NVLIST_ARRAY: i32 = 20;
    pub const BOOLEAN_VALUE: i32 = 21;
    pub const INT8: i32 = 22;
    pub const UINT8: i32 = 23;
    pub const BOOLEAN_ARRAY: i32 = 24;
    pub const INT8_ARRAY: i32 = 25;
    pub const UINT8_ARRAY: i32 = 26;
    pub const DOUBLE: i32 = 27;
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn every_type() -> Nvlist {
        let mut inner = Nvlist::new();
        inner.set_string("name", "inner");
        let mut list = Nvlist::new();
        for (name, value) in [
            ("boolean", Value::Boolean),
            ("flag", Value::BooleanValue(true)),
            ("byte", Value::Byte(7)),
            ("int8", Value::Int8(-8)),
            ("uint16", Value::Uint16(65000)),
            ("int32", Value::Int32(-5)),
            ("uint64", Value::Uint64(u64::MAX)),
            ("hrtime", Value::Hrtime(-1)),
            ("double", Value::Double(0x3ff0_0000_0000_0000)),
            ("string", Value::String("h\u{e9}llo".into())),
            ("list", Value::List(inner.clone())),
            (
                "lists",
                Value::ListArray(vec![inner.clone(), Nvlist::new(), inner]),
            ),
            ("bytes", Value::ByteArray(vec![1, 2, 3, 4, 5])),
            ("uint8s", Value::Uint8Array(vec![9, 8])),
            ("int16s", Value::Int16Array(vec![-1, 2])),
            ("uint64s", Value::Uint64Array(vec![1, 2, 3])),
            (
                "strings",
                Value::StringArray(vec!["a".into(), "bcd".into()]),
            ),
            ("booleans", Value::BooleanArray(vec![true, false])),
        ] {
            list.set(name, value);
        }
        list
    }

    #[test]
    fn every_type_survives_packing() {
        let list = every_type();
        assert_eq!(Nvlist::decode(&list.encode()), Ok(list));
    }

    #[test]
    fn setting_a_name_again_replaces_its_value() {
        let mut list = every_type();
        let count = list.len();
        list.set_u64("uint64", 3);
        assert_eq!((list.len(), list.u64("uint64")), (count, Some(3)));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut list = Nvlist::new();
        for _ in 0..MAX_DEPTH + 1 {
            let mut outer = Nvlist::new();
            outer.set("inner", Value::List(list));
            list = outer;
        }
        assert!(Nvlist::decode(&list.encode()).is_err());
    }

    proptest! {
        #[test]
        fn damaged_lists_never_panic(flips in proptest::collection::vec((0usize..600, any::<u8>()), 1..8)) {
            let mut bytes = every_type().encode();
            for (at, value) in flips {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let _ = Nvlist::decode(&bytes);
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), encoding in 0u8..2) {
            if bytes.len() > 2 {
                bytes[0] = encoding;
                bytes[1] = 1;
            }
            let _ = Nvlist::decode(&bytes);
        }
    }
}
