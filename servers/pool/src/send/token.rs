//! Resume tokens: how far a receive came, as a word that a person carries to the sender.
//!
//! `version-checksum-size-hex`: the hexadecimal part is a zlib-compressed packed list of `size` bytes, the checksum the first
//! word of fletcher4 over the compressed bytes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::CORRUPT;
use crate::checksum::Fletcher4;
use crate::compress::Compression;
use crate::dsl::{BlockForms, ReceiveState};
use crate::error::Error;
use crate::nvlist::{Nvlist, Value};

const VERSION: &str = "1";
/// zlib's level; what OpenZFS uses.
const LEVEL: u8 = 6;
/// Largest packed list: a name and a dozen numbers take a few hundred bytes.
const MAX_SIZE: usize = 64 << 10;

/// The token of a state.
pub fn encode(state: &ReceiveState) -> String {
    let mut list = Nvlist::new();
    if state.from_guid != 0 {
        list.set_u64("fromguid", state.from_guid);
    }
    list.set_u64("object", state.object);
    list.set_u64("offset", state.offset);
    list.set_u64("bytes", state.bytes);
    list.set_u64("toguid", state.to_guid);
    list.set_string("toname", &state.to_name);
    let forms = [
        ("largeblockok", state.forms.large),
        ("embedok", state.forms.embedded),
        ("compressok", state.forms.compressed),
    ];
    for (name, _) in forms.into_iter().filter(|(_, is)| *is) {
        list.set(name, Value::Boolean);
    }
    let packed = list.encode();
    let limit = 2 * packed.len() + 64;
    let bytes = Compression::Gzip(LEVEL)
        .compress(&packed, limit)
        .unwrap_or_default();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{VERSION}-{:x}-{:x}-{hex}", sum(&bytes), packed.len())
}

fn sum(bytes: &[u8]) -> u64 {
    let mut sum = Fletcher4::default();
    sum.update(bytes);
    sum.value()[0]
}

/// The state that a token means.
///
/// # Errors
/// `Corrupt` when it is no token or was changed.
pub fn decode(token: &str) -> Result<ReceiveState, Error> {
    let parts: Vec<&str> = token.trim().split('-').collect();
    let [VERSION, checksum, size, hex] = parts[..] else {
        return Err(CORRUPT);
    };
    let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| CORRUPT);
    let size = usize::try_from(number(size)?).map_err(|_| CORRUPT)?;
    if size > MAX_SIZE || hex.len() > 4 * MAX_SIZE || !hex.len().is_multiple_of(2) {
        return Err(CORRUPT);
    }
    let pairs = hex.as_bytes().as_chunks::<2>().0;
    let bytes: Result<Vec<u8>, Error> = pairs
        .iter()
        .map(|pair| {
            let text = core::str::from_utf8(pair).map_err(|_| CORRUPT)?;
            u8::from_str_radix(text, 16).map_err(|_| CORRUPT)
        })
        .collect();
    let bytes = bytes?;
    if sum(&bytes) != number(checksum)? {
        return Err(CORRUPT);
    }
    let packed = Compression::Gzip(LEVEL).decompress(&bytes, size)?;
    let list = Nvlist::decode(&packed)?;
    let field = |name: &str| list.u64(name).ok_or(CORRUPT);
    Ok(ReceiveState {
        from_guid: list.u64("fromguid").unwrap_or(0),
        to_guid: field("toguid")?,
        to_name: list.string("toname").ok_or(CORRUPT)?.into(),
        object: field("object")?,
        offset: field("offset")?,
        bytes: field("bytes")?,
        forms: BlockForms {
            large: list.get("largeblockok").is_some(),
            embedded: list.get("embedok").is_some(),
            compressed: list.get("compressok").is_some(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> ReceiveState {
        ReceiveState {
            from_guid: 7,
            to_guid: 0xdead_beef_0bad_cafe,
            to_name: "tank/x@s".into(),
            object: 128,
            offset: 1 << 20,
            bytes: 4096,
            forms: BlockForms {
                large: true,
                embedded: false,
                compressed: true,
            },
        }
    }

    #[test]
    fn a_token_gives_its_state_back() {
        assert_eq!(decode(&encode(&state())), Ok(state()));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = encode(&state());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed == token || decode(&changed).is_err(), "{changed}");
        }
    }

    proptest! {
        #[test]
        fn random_words_never_panic(word in ".{0,200}") {
            let _ = decode(&word);
        }
    }
}
