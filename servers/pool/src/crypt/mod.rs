//! Encryption of data sets: unwrapping their keys and decrypting their blocks.
//!
//! A data set has a master key, wrapped by a key that the user gives or a passphrase makes. Blocks are encrypted with keys
//! derived from the master key and a salt in each block pointer (ZFS: `zio_crypt`, `dsl_crypt`).

mod dnode_block;
mod suite;

use alloc::vec::Vec;

use hkdf::Hkdf;
use sha2::Sha512;

pub use suite::Suite;

use crate::blkptr::BlockPointer;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};

/// Bytes of a key that wraps others.
pub const WRAPPING_KEY_SIZE: usize = 32;
/// Bytes of the key that authenticates.
const HMAC_KEY_SIZE: usize = 64;
/// Bytes the format reserves for a master key.
const MASTER_KEY_SIZE: usize = 32;

/// How the user gives the wrapping key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// 32 bytes.
    Raw,
    /// 64 hexadecimal digits.
    Hex,
    /// Text, stretched by PBKDF2.
    Passphrase {
        /// Salt of the stretching.
        salt: u64,
        /// Its iterations.
        iterations: u64,
    },
}

/// Iterations at most: a damaged count must not keep the pool busy for hours.
const MAX_ITERATIONS: u64 = 50_000_000;

impl KeyFormat {
    /// The wrapping key that `secret` gives.
    ///
    /// # Errors
    /// `WrongKey` when its length or digits do not fit the format.
    pub fn wrapping_key(self, secret: &[u8]) -> Result<[u8; WRAPPING_KEY_SIZE], Error> {
        match self {
            KeyFormat::Raw => secret.try_into().map_err(|_| Error::WrongKey),
            KeyFormat::Hex => decode_hex(secret).ok_or(Error::WrongKey),
            KeyFormat::Passphrase { salt, iterations } => {
                if iterations > MAX_ITERATIONS {
                    return Err(Error::Corrupt(Structure::Keys));
                }
                let mut key = [0; WRAPPING_KEY_SIZE];
                pbkdf2::pbkdf2_hmac::<sha1::Sha1>(
                    secret,
                    &salt.to_le_bytes(),
                    iterations as u32,
                    &mut key,
                );
                Ok(key)
            }
        }
    }
}

fn decode_hex(digits: &[u8]) -> Option<[u8; WRAPPING_KEY_SIZE]> {
    if digits.len() != 2 * WRAPPING_KEY_SIZE {
        return None;
    }
    let mut key = [0; WRAPPING_KEY_SIZE];
    for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(key)
}

/// The wrapped keys of a data set as the MOS has them.
#[derive(Clone, Debug)]
pub struct WrappedKeys {
    /// Cipher of the data set.
    pub suite: Suite,
    /// Identity of the key.
    pub guid: u64,
    /// Version of the key format: 0 or 1.
    pub version: u64,
    /// Nonce of the wrapping.
    pub nonce: [u8; 12],
    /// Authentication code of the wrapping.
    pub mac: [u8; 16],
    /// Wrapped master key, as long as the suite's keys.
    pub master_key: Vec<u8>,
    /// Wrapped authentication key.
    pub hmac_key: Vec<u8>,
    /// How the user gives the wrapping key.
    pub format: KeyFormat,
}

impl WrappedKeys {
    /// Unwraps the keys with what the user gave.
    ///
    /// # Errors
    /// `WrongKey` when it does not fit.
    pub fn unwrap(&self, secret: &[u8]) -> Result<DatasetKey, Error> {
        let corrupt = Error::Corrupt(Structure::Keys);
        let wrapping = self.format.wrapping_key(secret)?;
        let length = self.suite.key_size();
        let mut plain = Vec::from(self.master_key.get(..length).ok_or(corrupt)?);
        plain.extend_from_slice(self.hmac_key.get(..HMAC_KEY_SIZE).ok_or(corrupt)?);
        let mut authenticated = Vec::from(self.guid.to_le_bytes());
        if self.version > 0 {
            authenticated.extend(self.suite.id().to_le_bytes());
            authenticated.extend(self.version.to_le_bytes());
        }
        self.suite
            .decrypt(
                &wrapping,
                &self.nonce,
                &authenticated,
                &mut plain,
                &self.mac,
            )
            .map_err(|_| Error::WrongKey)?;
        let mut master = [0; MASTER_KEY_SIZE];
        master[..length].copy_from_slice(&plain[..length]);
        Ok(DatasetKey {
            suite: self.suite,
            version: self.version,
            master,
        })
    }
}

/// The unlocked key of a data set.
#[derive(Clone)]
pub struct DatasetKey {
    suite: Suite,
    version: u64,
    master: [u8; MASTER_KEY_SIZE],
}

/// The data is not what was encrypted under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAuthentic;

impl DatasetKey {
    /// The key of blocks with this salt.
    fn block_key(&self, salt: [u8; 8]) -> Result<Vec<u8>, NotAuthentic> {
        let length = self.suite.key_size();
        let mut key = alloc::vec![0; length];
        Hkdf::<Sha512>::new(None, &self.master[..length])
            .expand(&salt, &mut key)
            .map_err(|_| NotAuthentic)?;
        Ok(key)
    }

    /// Decrypts the stored bytes of a level-0 block in place.
    pub fn decrypt_block(
        &self,
        pointer: &BlockPointer,
        data: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        let (salt, nonce) = pointer.crypt_parameters();
        let key = self.block_key(salt)?;
        let mac = pointer.crypt_mac();
        if ObjectType(pointer.object_type()) == ObjectType::DNODE {
            return dnode_block::decrypt(self.suite, self.version, &key, &nonce, &mac, data);
        }
        self.suite.decrypt(&key, &nonce, &[], data, &mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hex_key_needs_exactly_64_digits() {
        assert_eq!(KeyFormat::Hex.wrapping_key(&[b'f'; 64]), Ok([0xff; 32]));
        assert_eq!(
            KeyFormat::Hex.wrapping_key(&[b'f'; 63]),
            Err(Error::WrongKey)
        );
        assert_eq!(
            KeyFormat::Hex.wrapping_key(&[b'g'; 64]),
            Err(Error::WrongKey)
        );
        assert_eq!(KeyFormat::Raw.wrapping_key(&[1; 31]), Err(Error::WrongKey));
    }

    #[test]
    fn an_absurd_iteration_count_is_refused_at_once() {
        let format = KeyFormat::Passphrase {
            salt: 1,
            iterations: u64::MAX,
        };
        assert_eq!(
            format.wrapping_key(b"x"),
            Err(Error::Corrupt(Structure::Keys))
        );
    }
}
