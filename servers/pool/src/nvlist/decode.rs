//! Reading packed lists, XDR and native, from untrusted bytes.
//!
//! Nothing is allocated ahead by a count that the bytes claim: every element consumes input first.

use alloc::string::String;
use alloc::vec::Vec;

use super::{MAX_DEPTH, Nvlist, Value, kind};
use crate::error::{Error, Structure};
use crate::layout::Fields;

const CORRUPT: Error = Error::Corrupt(Structure::Nvlist);

/// First header byte: the encoding.
const ENCODING_NATIVE: u8 = 0;
const ENCODING_XDR: u8 = 1;
/// Second header byte of a little-endian writer; only native lists depend on it.
const LITTLE_ENDIAN: u8 = 1;

/// Bytes of a list's header structure inside a native pair.
const NATIVE_LIST: usize = 24;

impl Nvlist {
    /// Unpacks a list from the start of `bytes`; what follows its end is ignored.
    pub fn decode(bytes: &[u8]) -> Result<Nvlist, Error> {
        let [encoding, endian, _, _] = *bytes.first_chunk().ok_or(CORRUPT)?;
        let body = &bytes[4..];
        match (encoding, endian) {
            (ENCODING_XDR, _) => Xdr { rest: body }.list(0).ok_or(CORRUPT),
            (ENCODING_NATIVE, LITTLE_ENDIAN) => {
                let mut native = Native { rest: body };
                native.take(8).ok_or(CORRUPT)?;
                native.pairs(0).ok_or(CORRUPT)
            }
            _ => Err(CORRUPT),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A reader of the big-endian, 4-byte aligned XDR form.
struct Xdr<'a> {
    rest: &'a [u8],
}

impl<'a> Xdr<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        self.take(4)?
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn long(&mut self) -> Option<u64> {
        self.take(8)?
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn opaque(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.take(length)?;
        self.take(length.wrapping_neg() % 4)?;
        Some(bytes)
    }

    fn string(&mut self) -> Option<String> {
        let length = self.word()? as usize;
        self.opaque(length).map(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        self.word().map(|word| word != 0)
    }

    fn array<T>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.word()? as usize != count {
            return None;
        }
        self.items(count, &mut item)
    }

    fn items<T>(
        &mut self,
        count: usize,
        item: &mut impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut items = Vec::new();
        for _ in 0..count {
            // An element that consumes nothing would let a count alone allocate.
            if self.rest.is_empty() {
                return None;
            }
            items.push(item(self)?);
        }
        Some(items)
    }

    fn list(&mut self, depth: usize) -> Option<Nvlist> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.take(8)?; // version and flags
        let mut list = Nvlist::new();
        loop {
            let (encoded, decoded) = (self.word()?, self.word()?);
            if encoded == 0 && decoded == 0 {
                return Some(list);
            }
            let name = self.string()?;
            let kind = self.word()? as i32;
            let count = self.word()? as usize;
            let value = self.value(kind, count, depth)?;
            list.pairs.push((name, value));
        }
    }

    fn value(&mut self, kind: i32, count: usize, depth: usize) -> Option<Value> {
        Some(match kind {
            kind::BOOLEAN => Value::Boolean,
            kind::BOOLEAN_VALUE => Value::BooleanValue(self.boolean()?),
            kind::BYTE => Value::Byte(self.word()? as u8),
            kind::INT8 => Value::Int8(self.word()? as i8),
            kind::UINT8 => Value::Uint8(self.word()? as u8),
            kind::INT16 => Value::Int16(self.word()? as i16),
            kind::UINT16 => Value::Uint16(self.word()? as u16),
            kind::INT32 => Value::Int32(self.word()? as i32),
            kind::UINT32 => Value::Uint32(self.word()?),
            kind::INT64 => Value::Int64(self.long()? as i64),
            kind::UINT64 => Value::Uint64(self.long()?),
            kind::HRTIME => Value::Hrtime(self.long()? as i64),
            kind::DOUBLE => Value::Double(self.long()?),
            kind::STRING => Value::String(self.string()?),
            kind::NVLIST => Value::List(self.list(depth + 1)?),
            kind::NVLIST_ARRAY => {
                Value::ListArray(self.items(count, &mut |xdr| xdr.list(depth + 1))?)
            }
            kind::STRING_ARRAY => Value::StringArray(self.items(count, &mut Self::string)?),
            kind::BYTE_ARRAY => Value::ByteArray(self.opaque(count)?.into()),
            kind::BOOLEAN_ARRAY => Value::BooleanArray(self.array(count, Self::boolean)?),
            kind::INT8_ARRAY => Value::Int8Array(self.array(count, |xdr| Some(xdr.word()? as i8))?),
            kind::UINT8_ARRAY => {
                Value::Uint8Array(self.array(count, |xdr| Some(xdr.word()? as u8))?)
            }
            kind::INT16_ARRAY => {
                Value::Int16Array(self.array(count, |xdr| Some(xdr.word()? as i16))?)
            }
            kind::UINT16_ARRAY => {
                Value::Uint16Array(self.array(count, |xdr| Some(xdr.word()? as u16))?)
            }
            kind::INT32_ARRAY => {
                Value::Int32Array(self.array(count, |xdr| Some(xdr.word()? as i32))?)
            }
            kind::UINT32_ARRAY => Value::Uint32Array(self.array(count, Self::word)?),
            kind::INT64_ARRAY => {
                Value::Int64Array(self.array(count, |xdr| Some(xdr.long()? as i64))?)
            }
            kind::UINT64_ARRAY => Value::Uint64Array(self.array(count, Self::long)?),
            _ => return None,
        })
    }
}

/// A reader of the native form, which is the writer's memory image: little-endian, 8-byte aligned.
struct Native<'a> {
    rest: &'a [u8],
}

impl<'a> Native<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn pairs(&mut self, depth: usize) -> Option<Nvlist> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut list = Nvlist::new();
        loop {
            let size = self.rest.u32_at(0)? as usize;
            if size == 0 {
                self.take(4)?;
                return Some(list);
            }
            let pair = self.take(size)?;
            let name_size = pair.u16_at(4)? as usize;
            let count = pair.u32_at(8)? as usize;
            let kind = pair.u32_at(12)? as i32;
            let name = text(pair.bytes_at(16, name_size.checked_sub(1)?)?);
            let value = pair
                .get((16 + name_size).next_multiple_of(8)..)
                .unwrap_or_default();
            let value = self.value(kind, count, value, depth)?;
            list.pairs.push((name, value));
        }
    }

    fn value(&mut self, kind: i32, count: usize, bytes: &[u8], depth: usize) -> Option<Value> {
        Some(match kind {
            kind::BOOLEAN => Value::Boolean,
            kind::BOOLEAN_VALUE => Value::BooleanValue(bytes.u32_at(0)? != 0),
            kind::BYTE => Value::Byte(bytes.u8_at(0)?),
            kind::INT8 => Value::Int8(bytes.u8_at(0)? as i8),
            kind::UINT8 => Value::Uint8(bytes.u8_at(0)?),
            kind::INT16 => Value::Int16(bytes.u16_at(0)? as i16),
            kind::UINT16 => Value::Uint16(bytes.u16_at(0)?),
            kind::INT32 => Value::Int32(bytes.u32_at(0)? as i32),
            kind::UINT32 => Value::Uint32(bytes.u32_at(0)?),
            kind::INT64 => Value::Int64(bytes.u64_at(0)? as i64),
            kind::UINT64 => Value::Uint64(bytes.u64_at(0)?),
            kind::HRTIME => Value::Hrtime(bytes.u64_at(0)? as i64),
            kind::DOUBLE => Value::Double(bytes.u64_at(0)?),
            kind::STRING => Value::String(text(bytes.name_at(0, bytes.len())?)),
            kind::NVLIST => {
                bytes.bytes_at(0, NATIVE_LIST)?;
                Value::List(self.pairs(depth + 1)?)
            }
            kind::NVLIST_ARRAY => {
                bytes.bytes_at(0, count.checked_mul(8 + NATIVE_LIST)?)?;
                let lists: Option<Vec<Nvlist>> =
                    (0..count).map(|_| self.pairs(depth + 1)).collect();
                Value::ListArray(lists?)
            }
            kind::STRING_ARRAY => {
                let strings = bytes.get(count.checked_mul(8)?..)?;
                let strings: Vec<String> = strings
                    .split(|&byte| byte == 0)
                    .take(count)
                    .map(text)
                    .collect();
                Value::StringArray(strings)
            }
            kind::BYTE_ARRAY => Value::ByteArray(bytes.bytes_at(0, count)?.into()),
            kind::UINT8_ARRAY => Value::Uint8Array(bytes.bytes_at(0, count)?.into()),
            kind::UINT64_ARRAY => {
                Value::Uint64Array(bytes.bytes_at(0, count.checked_mul(8)?)?.words())
            }
            kind::INT64_ARRAY => {
                let words = bytes.bytes_at(0, count.checked_mul(8)?)?.words();
                Value::Int64Array(words.into_iter().map(|word| word as i64).collect())
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{put_u16, put_u32, put_u64};
    use alloc::vec;

    /// One native pair: header, name, value, each padded to 8 bytes.
    fn native_pair(name: &str, kind: i32, value: &[u8]) -> Vec<u8> {
        let at = (16 + name.len() + 1).next_multiple_of(8);
        let mut pair = vec![0; at + value.len().next_multiple_of(8)];
        let size = pair.len() as u32;
        put_u32(&mut pair, 0, size);
        put_u16(&mut pair, 4, name.len() as u16 + 1);
        put_u32(&mut pair, 8, 1);
        put_u32(&mut pair, 12, kind as u32);
        pair[16..16 + name.len()].copy_from_slice(name.as_bytes());
        pair[at..at + value.len()].copy_from_slice(value);
        pair
    }

    #[test]
    fn a_native_list_with_a_nested_one_is_read() {
        let mut number = [0; 8];
        put_u64(&mut number, 0, 42);
        let mut bytes = vec![0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        bytes.extend(native_pair("outer", kind::NVLIST, &[0; NATIVE_LIST]));
        bytes.extend(native_pair("inside", kind::UINT64, &number));
        bytes.extend([0; 4]);
        bytes.extend(native_pair("text", kind::STRING, b"words\0"));
        bytes.extend([0; 4]);
        let list = Nvlist::decode(&bytes).unwrap();
        assert_eq!(list.list("outer").unwrap().u64("inside"), Some(42));
        assert_eq!(list.string("text"), Some("words"));
    }
}
