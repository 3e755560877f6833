//! Writing lists in XDR form.

use alloc::vec::Vec;

use super::{Nvlist, Value, kind};

/// Size of a pair's header in memory, which the packed form states.
const MEMORY_PAIR: usize = 16;
/// Size of a list's header in memory.
const MEMORY_LIST: usize = 24;
/// Names in the list are unique.
const UNIQUE_NAMES: u32 = 1;

impl Nvlist {
    /// Packs the list in XDR form with its 4-byte header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from([1, 1, 0, 0]);
        self.encode_body(&mut out);
        out
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        word(out, 0);
        word(out, UNIQUE_NAMES);
        for (name, value) in self.iter() {
            let start = out.len();
            word(out, 0); // encoded size, set below
            let memory = (MEMORY_PAIR + name.len() + 1).next_multiple_of(8)
                + memory_size(value).next_multiple_of(8);
            word(out, memory as u32);
            string(out, name);
            let (kind, count) = describe(value);
            word(out, kind as u32);
            word(out, count as u32);
            encode_value(out, value);
            let size = (out.len() - start) as u32;
            out[start..start + 4].copy_from_slice(&size.to_be_bytes());
        }
        word(out, 0);
        word(out, 0);
    }
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

fn long(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_be_bytes());
}

fn opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn string(out: &mut Vec<u8>, text: &str) {
    word(out, text.len() as u32);
    opaque(out, text.as_bytes());
}

fn array<T: Copy>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, T)) {
    word(out, items.len() as u32);
    for &value in items {
        item(out, value);
    }
}

/// The type number and the element count of a value.
fn describe(value: &Value) -> (i32, usize) {
    match value {
        Value::Boolean => (kind::BOOLEAN, 0),
        Value::BooleanValue(_) => (kind::BOOLEAN_VALUE, 1),
        Value::Byte(_) => (kind::BYTE, 1),
        Value::Int8(_) => (kind::INT8, 1),
        Value::Uint8(_) => (kind::UINT8, 1),
        Value::Int16(_) => (kind::INT16, 1),
        Value::Uint16(_) => (kind::UINT16, 1),
        Value::Int32(_) => (kind::INT32, 1),
        Value::Uint32(_) => (kind::UINT32, 1),
        Value::Int64(_) => (kind::INT64, 1),
        Value::Uint64(_) => (kind::UINT64, 1),
        Value::Hrtime(_) => (kind::HRTIME, 1),
        Value::Double(_) => (kind::DOUBLE, 1),
        Value::String(_) => (kind::STRING, 1),
        Value::List(_) => (kind::NVLIST, 1),
        Value::ByteArray(items) => (kind::BYTE_ARRAY, items.len()),
        Value::BooleanArray(items) => (kind::BOOLEAN_ARRAY, items.len()),
        Value::Int8Array(items) => (kind::INT8_ARRAY, items.len()),
        Value::Uint8Array(items) => (kind::UINT8_ARRAY, items.len()),
        Value::Int16Array(items) => (kind::INT16_ARRAY, items.len()),
        Value::Uint16Array(items) => (kind::UINT16_ARRAY, items.len()),
        Value::Int32Array(items) => (kind::INT32_ARRAY, items.len()),
        Value::Uint32Array(items) => (kind::UINT32_ARRAY, items.len()),
        Value::Int64Array(items) => (kind::INT64_ARRAY, items.len()),
        Value::Uint64Array(items) => (kind::UINT64_ARRAY, items.len()),
        Value::StringArray(items) => (kind::STRING_ARRAY, items.len()),
        Value::ListArray(items) => (kind::NVLIST_ARRAY, items.len()),
    }
}

/// Bytes the value takes in the memory of OpenZFS, which the pair's header must state.
fn memory_size(value: &Value) -> usize {
    match value {
        Value::Boolean => 0,
        Value::Byte(_) | Value::Int8(_) | Value::Uint8(_) => 1,
        Value::Int16(_) | Value::Uint16(_) => 2,
        Value::BooleanValue(_) | Value::Int32(_) | Value::Uint32(_) => 4,
        Value::Int64(_) | Value::Uint64(_) | Value::Hrtime(_) | Value::Double(_) => 8,
        Value::String(text) => text.len() + 1,
        Value::List(_) => MEMORY_LIST,
        Value::ByteArray(items) | Value::Uint8Array(items) => items.len(),
        Value::Int8Array(items) => items.len(),
        Value::Int16Array(items) => 2 * items.len(),
        Value::Uint16Array(items) => 2 * items.len(),
        Value::BooleanArray(items) => 4 * items.len(),
        Value::Int32Array(items) => 4 * items.len(),
        Value::Uint32Array(items) => 4 * items.len(),
        Value::Int64Array(items) => 8 * items.len(),
        Value::Uint64Array(items) => 8 * items.len(),
        Value::StringArray(items) => items.iter().map(|text| 8 + text.len() + 1).sum(),
        Value::ListArray(items) => items.len() * (8 + MEMORY_LIST),
    }
}

fn encode_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Boolean => {}
        Value::BooleanValue(value) => word(out, u32::from(*value)),
        Value::Byte(value) | Value::Uint8(value) => word(out, u32::from(*value)),
        Value::Int8(value) => word(out, *value as u32),
        Value::Int16(value) => word(out, *value as u32),
        Value::Uint16(value) => word(out, u32::from(*value)),
        Value::Int32(value) => word(out, *value as u32),
        Value::Uint32(value) => word(out, *value),
        Value::Int64(value) | Value::Hrtime(value) => long(out, *value as u64),
        Value::Uint64(value) | Value::Double(value) => long(out, *value),
        Value::String(text) => string(out, text),
        Value::List(list) => list.encode_body(out),
        Value::ByteArray(bytes) => opaque(out, bytes),
        Value::BooleanArray(items) => array(out, items, |out, item| word(out, u32::from(item))),
        Value::Int8Array(items) => array(out, items, |out, item| word(out, item as u32)),
        Value::Uint8Array(items) => array(out, items, |out, item| word(out, u32::from(item))),
        Value::Int16Array(items) => array(out, items, |out, item| word(out, item as u32)),
        Value::Uint16Array(items) => array(out, items, |out, item| word(out, u32::from(item))),
        Value::Int32Array(items) => array(out, items, |out, item| word(out, item as u32)),
        Value::Uint32Array(items) => array(out, items, word),
        Value::Int64Array(items) => array(out, items, |out, item| long(out, item as u64)),
        Value::Uint64Array(items) => array(out, items, long),
        Value::StringArray(items) => items.iter().for_each(|text| string(out, text)),
        Value::ListArray(items) => items.iter().for_each(|list| list.encode_body(out)),
    }
}
