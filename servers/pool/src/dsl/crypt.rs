//! The wrapped keys of encrypted data sets.

use alloc::rc::Rc;

use super::DslDir;
use crate::crypt::{DatasetKey, KeyFormat, Suite, WrappedKeys};
use crate::error::{Error, Structure, Unsupported};
use crate::spa::Spa;
use crate::zap::Zap;

const CORRUPT: Error = Error::Corrupt(Structure::Keys);

/// Entry of a directory whose data sets are encrypted.
const KEYS: &str = "com.datto:crypto_key_obj";
/// Values of the `keyformat` property.
const FORMAT_RAW: u64 = 1;
const FORMAT_HEX: u64 = 2;
const FORMAT_PASSPHRASE: u64 = 3;

impl Spa {
    /// Refuses what would write to the encrypted data sets of a directory, which are only read.
    ///
    /// # Errors
    /// `Unsupported` when they are encrypted.
    pub(super) async fn check_unencrypted(&self, dir: &DslDir) -> Result<(), Error> {
        match self.dir_extension(dir, KEYS).await? {
            Some(_) => Err(Error::Unsupported(Unsupported::Writing)),
            None => Ok(()),
        }
    }

    /// The keys of a directory's data sets, as stored; `None` when they are not encrypted.
    pub async fn wrapped_keys(&self, dir: &DslDir) -> Result<Option<WrappedKeys>, Error> {
        let Some(object) = self.dir_extension(dir, KEYS).await? else {
            return Ok(None);
        };
        let zap = Zap::open(self.mos(), object.u64().ok_or(CORRUPT)?).await?;
        let bytes = async |name: &str| {
            Ok::<_, Error>(zap.lookup(name.as_bytes()).await?.ok_or(CORRUPT)?.bytes)
        };
        let format = match zap.lookup_u64("keyformat").await? {
            FORMAT_RAW => KeyFormat::Raw,
            FORMAT_HEX => KeyFormat::Hex,
            FORMAT_PASSPHRASE => KeyFormat::Passphrase {
                salt: zap.lookup_u64("pbkdf2salt").await?,
                iterations: zap.lookup_u64("pbkdf2iters").await?,
            },
            _ => return Err(CORRUPT),
        };
        let version = zap
            .lookup(b"DSL_CRYPTO_VERSION")
            .await?
            .and_then(|value| value.u64());
        Ok(Some(WrappedKeys {
            suite: Suite::from_id(zap.lookup_u64("DSL_CRYPTO_SUITE").await?)?,
            guid: zap.lookup_u64("DSL_CRYPTO_GUID").await?,
            version: version.unwrap_or(0),
            nonce: bytes("DSL_CRYPTO_IV")
                .await?
                .try_into()
                .map_err(|_| CORRUPT)?,
            mac: bytes("DSL_CRYPTO_MAC")
                .await?
                .try_into()
                .map_err(|_| CORRUPT)?,
            master_key: bytes("DSL_CRYPTO_MASTER_KEY_1").await?,
            hmac_key: bytes("DSL_CRYPTO_HMAC_KEY_1").await?,
            format,
        }))
    }

    /// Unlocks the data sets of a directory with a key or passphrase.
    ///
    /// # Errors
    /// `WrongKey` when it does not fit, `InvalidArgument` when they are not encrypted.
    pub async fn unlock(&self, dir: &DslDir, secret: &[u8]) -> Result<Rc<DatasetKey>, Error> {
        let keys = self
            .wrapped_keys(dir)
            .await?
            .ok_or(Error::InvalidArgument)?;
        keys.unwrap(secret).map(Rc::new)
    }
}
