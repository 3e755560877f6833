//! The ciphers of the format: AES in CCM or GCM mode, with keys of three lengths.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{AeadInOut, KeyInit};
use ccm::Ccm;

use super::{NotAuthentic, WRAPPING_KEY_SIZE};
use crate::error::{Error, Unsupported};

/// Mode of the block cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Ccm,
    Gcm,
}

/// A cipher with its key length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    mode: Mode,
    key_size: usize,
}

impl Suite {
    /// The suite with this number in the format.
    pub fn from_id(id: u64) -> Result<Suite, Error> {
        let (mode, key_size) = match id {
            3 => (Mode::Ccm, 16),
            4 => (Mode::Ccm, 24),
            5 => (Mode::Ccm, 32),
            6 => (Mode::Gcm, 16),
            7 => (Mode::Gcm, 24),
            8 => (Mode::Gcm, 32),
            _ => return Err(Error::Unsupported(Unsupported::CryptoSuite(id))),
        };
        Ok(Suite { mode, key_size })
    }

    /// Its number in the format.
    pub fn id(self) -> u64 {
        let first = if self.mode == Mode::Ccm { 3 } else { 6 };
        first + (self.key_size as u64 - 16) / 8
    }

    /// The value of the `encryption` property.
    pub fn name(self) -> &'static str {
        match (self.mode, self.key_size) {
            (Mode::Ccm, 16) => "aes-128-ccm",
            (Mode::Ccm, 24) => "aes-192-ccm",
            (Mode::Ccm, _) => "aes-256-ccm",
            (Mode::Gcm, 16) => "aes-128-gcm",
            (Mode::Gcm, 24) => "aes-192-gcm",
            (Mode::Gcm, _) => "aes-256-gcm",
        }
    }

    /// Bytes of its keys.
    pub fn key_size(self) -> usize {
        self.key_size
    }

    /// Decrypts in place with a key of 16, 24 or 32 bytes, in this suite's mode.
    pub fn decrypt(
        self,
        key: &[u8],
        nonce: &[u8; 12],
        authenticated: &[u8],
        data: &mut [u8],
        mac: &[u8; 16],
    ) -> Result<(), NotAuthentic> {
        match (self.mode, key.len()) {
            (Mode::Ccm, 16) => open::<Ccm<Aes128, U16, U12>>(key, nonce, authenticated, data, mac),
            (Mode::Ccm, 24) => open::<Ccm<Aes192, U16, U12>>(key, nonce, authenticated, data, mac),
            (Mode::Ccm, WRAPPING_KEY_SIZE) => {
                open::<Ccm<Aes256, U16, U12>>(key, nonce, authenticated, data, mac)
            }
            (Mode::Gcm, 16) => open::<AesGcm<Aes128, U12>>(key, nonce, authenticated, data, mac),
            (Mode::Gcm, 24) => open::<AesGcm<Aes192, U12>>(key, nonce, authenticated, data, mac),
            (Mode::Gcm, WRAPPING_KEY_SIZE) => {
                open::<AesGcm<Aes256, U12>>(key, nonce, authenticated, data, mac)
            }
            _ => Err(NotAuthentic),
        }
    }
}

fn open<C: AeadInOut<NonceSize = U12, TagSize = U16> + KeyInit>(
    key: &[u8],
    nonce: &[u8; 12],
    authenticated: &[u8],
    data: &mut [u8],
    mac: &[u8; 16],
) -> Result<(), NotAuthentic> {
    let cipher = C::new_from_slice(key).map_err(|_| NotAuthentic)?;
    cipher
        .decrypt_inout_detached(nonce.into(), authenticated, data.into(), mac.into())
        .map_err(|_| NotAuthentic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_suites_agree() {
        for id in 3..=8 {
            assert_eq!(Suite::from_id(id).unwrap().id(), id);
        }
        assert!(Suite::from_id(9).is_err());
    }

    #[test]
    fn a_wrong_mac_is_refused() {
        for id in 3..=8 {
            let suite = Suite::from_id(id).unwrap();
            let key = alloc::vec![1; suite.key_size()];
            assert_eq!(
                suite.decrypt(&key, &[0; 12], &[], &mut [0; 32], &[0; 16]),
                Err(NotAuthentic)
            );
        }
    }
}
