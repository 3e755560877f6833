//! What `zfs get` shows of a data set: set properties in words, and those that are computed.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::prop::{Source, StoredProperties};
use super::prop_table::{Form, NATIVE, NativeProperty, Scope};
use super::{DatasetEntry, DatasetKind};
use crate::crypt::KeyFormat;
use crate::dmu::{Objset, ObjsetType};
use crate::error::Error;
use crate::layout::Fields;
use crate::spa::Spa;
use crate::zap::{Zap, ZapValue, entries_or_none};
use crate::zpl::Zpl;
use crate::zvol::Zvol;

/// A property as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyValue {
    /// Its name.
    pub name: String,
    /// Its value, in exact numbers.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// What computing the properties of one data set needs.
struct Subject<'a> {
    spa: &'a Spa,
    entry: &'a DatasetEntry,
    kind: DatasetKind,
    /// What the objects hold, for a snapshot too.
    contents: ObjsetType,
    stored: StoredProperties,
    inner: Inner,
}

/// What only the objects of the data set say. Locked ones say nothing.
#[derive(Default)]
struct Inner {
    zpl: Option<Zpl>,
    volume: Option<(u64, usize)>,
}

impl Spa {
    /// All properties of a data set in the order of `zfs get all`, native ones first.
    pub async fn properties(&self, entry: &DatasetEntry) -> Result<Vec<PropertyValue>, Error> {
        let objset = self.open_objset(&entry.dataset, None).await?;
        let contents = objset.kind();
        let kind = match (entry.dataset.is_snapshot(), contents) {
            (true, _) => DatasetKind::Snapshot,
            (false, ObjsetType::Volume) => DatasetKind::Volume,
            (false, _) => DatasetKind::Filesystem,
        };
        let inner = open_inner(objset).await?;
        let stored = self.stored_properties(entry).await?;
        let subject = Subject {
            spa: self,
            entry,
            kind,
            contents,
            stored,
            inner,
        };
        let mut all = Vec::new();
        for property in NATIVE {
            if subject.has(property)
                && let Some((value, source)) = subject.native(property).await?
            {
                all.push(PropertyValue {
                    name: property.name.into(),
                    value,
                    source,
                });
            }
        }
        for (name, (value, source)) in &subject.stored {
            if name.contains(':') {
                let value = value.string().unwrap_or_default();
                all.push(PropertyValue {
                    name: name.clone(),
                    value,
                    source: source.clone(),
                });
            }
        }
        Ok(all)
    }
}

async fn open_inner(objset: Rc<Objset>) -> Result<Inner, Error> {
    let mut inner = Inner::default();
    let opened = match objset.kind() {
        ObjsetType::Volume => Zvol::open(objset)
            .await
            .map(|volume| inner.volume = Some((volume.size(), volume.block_size()))),
        ObjsetType::Filesystem => Zpl::open(objset).await.map(|zpl| inner.zpl = Some(zpl)),
        _ => Ok(()),
    };
    match opened {
        Ok(()) | Err(Error::KeyUnavailable) => Ok(inner),
        Err(error) => Err(error),
    }
}

fn ratio(uncompressed: u64, compressed: u64) -> String {
    let hundredths = uncompressed
        .saturating_mul(100)
        .checked_div(compressed)
        .unwrap_or(100);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

impl Subject<'_> {
    fn has(&self, property: &NativeProperty) -> bool {
        let snapshot = self.kind == DatasetKind::Snapshot;
        match property.scope {
            Scope::All => true,
            Scope::Head => !snapshot,
            Scope::Snapshot => snapshot,
            Scope::Filesystem => self.contents == ObjsetType::Filesystem,
            Scope::FilesystemHead => self.contents == ObjsetType::Filesystem && !snapshot,
            Scope::Volume => self.contents == ObjsetType::Volume,
        }
    }

    async fn native(&self, property: &NativeProperty) -> Result<Option<(String, Source)>, Error> {
        let stored = self.stored.get(property.name);
        let number = |default| match stored {
            Some((value, source)) => (value.u64().unwrap_or(default), source.clone()),
            None => (default, Source::Default),
        };
        Ok(match property.form {
            Form::Computed => self.computed(property.name).await?,
            Form::Number(default) => {
                let (value, source) = number(default);
                let text = if value == u64::MAX {
                    "none".into()
                } else {
                    value.to_string()
                };
                Some((text, source))
            }
            Form::Words(words, default) => self.words(property.name, words, number(default)),
            Form::Text(default) => {
                let value = stored.map(|(value, source)| (text(value), source.clone()));
                Some(value.unwrap_or((default.into(), Source::Default)))
            }
        })
    }

    fn words(
        &self,
        name: &str,
        words: &[(&str, u64)],
        (value, source): (u64, Source),
    ) -> Option<(String, Source)> {
        if matches!(name, "utf8only" | "normalization" | "casesensitivity") {
            let value = self.inner.zpl.as_ref()?.master_number(name).unwrap_or(0);
            return word(words, value).map(|word| (word, Source::None));
        }
        if name == "compression" {
            return Some((compression_word(words, value), source));
        }
        Some((
            word(words, value).unwrap_or_else(|| value.to_string()),
            source,
        ))
    }

    async fn computed(&self, name: &str) -> Result<Option<(String, Source)>, Error> {
        if name == "mountpoint" {
            return Ok(Some(self.mountpoint()));
        }
        let value = match self.number(name).await? {
            Some(value) => Some(value.to_string()),
            None => self.computed_text(name).await?,
        };
        let source = if name == "volsize" || name.ends_with("_count") {
            Source::Local
        } else {
            Source::None
        };
        Ok(value.map(|value| (value, source)))
    }

    async fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let (dir, dataset) = (&self.entry.dir.phys, &self.entry.dataset.phys);
        let snapshot = self.kind == DatasetKind::Snapshot;
        Ok(Some(match name {
            "creation" => dataset.creation_time,
            "used" if snapshot => dataset.unique_bytes,
            "used" => dir.used_bytes,
            "available" => {
                self.spa
                    .dataset_available(&self.entry.dir, &self.entry.dataset)
                    .await?
            }
            "referenced" => dataset.referenced_bytes,
            "createtxg" => dataset.creation_txg,
            "guid" => dataset.guid,
            "objsetid" => self.entry.dataset.object,
            "usedbysnapshots" => dir.used.snapshots,
            "usedbydataset" => dir.used.head,
            "usedbychildren" => dir.used.children + dir.used.child_reservations,
            "usedbyrefreservation" => dir.used.reference_reservation,
            "logicalused" => dir.uncompressed_bytes,
            "logicalreferenced" => dataset.uncompressed_bytes,
            "written" => self.written().await?,
            "userrefs" => self.spa.holds(&self.entry.dataset).await?.len() as u64,
            "volsize" => return Ok(self.inner.volume.map(|(size, _)| size)),
            "volblocksize" => return Ok(self.inner.volume.map(|(_, block)| block as u64)),
            "version" => return Ok(self.inner.zpl.as_ref().map(Zpl::version)),
            "filesystem_count" => return self.dir_number("com.joyent:filesystem_count").await,
            "snapshot_count" => return self.dir_number("com.joyent:snapshot_count").await,
            "snapshots_changed" => return self.dir_number("com.ixsystems:snapshots_changed").await,
            _ => return Ok(None),
        }))
    }

    async fn computed_text(&self, name: &str) -> Result<Option<String>, Error> {
        let (dir, dataset) = (&self.entry.dir.phys, &self.entry.dataset.phys);
        let snapshot = self.kind == DatasetKind::Snapshot;
        Ok(match name {
            "type" => Some(self.kind.name().into()),
            "compressratio" if !snapshot => {
                Some(ratio(dir.uncompressed_bytes, dir.compressed_bytes))
            }
            "compressratio" | "refcompressratio" => {
                Some(ratio(dataset.uncompressed_bytes, dataset.compressed_bytes))
            }
            "origin" if dir.origin != 0 => {
                let origin = self.spa.dsl_dataset(dir.origin).await?;
                // Everything that is no clone starts from the pool's own empty snapshot.
                if self.spa.directory_of_origin(&origin).await? {
                    None
                } else {
                    Some(self.spa.dataset_name(&origin).await?)
                }
            }
            "clones" => self.clones().await?,
            "receive_resume_token" if !snapshot => self
                .spa
                .receive_state(&self.entry.name)
                .await?
                .map(|state| crate::send::token::encode(&state)),
            "defer_destroy" => Some(if dataset.flags & 8 != 0 { "on" } else { "off" }.into()),
            "encryption" | "keyformat" | "pbkdf2iters" | "encryptionroot" => {
                self.encryption(name).await?
            }
            _ => None,
        })
    }

    async fn dir_number(&self, name: &str) -> Result<Option<u64>, Error> {
        let value = self.spa.dir_extension(&self.entry.dir, name).await?;
        Ok(value.and_then(|value| value.integers().first().copied()))
    }

    /// Bytes written since the snapshot before.
    async fn written(&self) -> Result<u64, Error> {
        let dataset = &self.entry.dataset.phys;
        if dataset.previous_snapshot == 0 {
            return Ok(dataset.referenced_bytes);
        }
        let previous = self.spa.dsl_dataset(dataset.previous_snapshot).await?;
        let mut freed = 0;
        if dataset.deadlist != 0 {
            let deadlist = self.spa.mos().dnode(dataset.deadlist).await?;
            freed = deadlist.phys.bonus.u64_at(0).unwrap_or(0);
        }
        Ok((dataset.referenced_bytes + freed).saturating_sub(previous.phys.referenced_bytes))
    }

    async fn clones(&self) -> Result<Option<String>, Error> {
        let mut names = Vec::new();
        for entry in entries_or_none(self.spa.mos(), self.entry.dataset.phys.next_clones).await? {
            let clone = self.spa.dsl_dataset(entry.value.u64().unwrap_or(0)).await?;
            // The list has the clone's oldest snapshot, once it has one; its name is that of the head.
            names.push(
                self.spa
                    .dir_name(&self.spa.dsl_dir(clone.phys.dir).await?)
                    .await?,
            );
        }
        Ok((!names.is_empty()).then(|| names.join(",")))
    }

    async fn encryption(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(keys) = self.spa.wrapped_keys(&self.entry.dir).await? else {
            return Ok((name == "encryption").then(|| "off".into()));
        };
        Ok(match (name, keys.format) {
            ("encryption", _) => Some(keys.suite.name().into()),
            ("keyformat", KeyFormat::Raw) => Some("raw".into()),
            ("keyformat", KeyFormat::Hex) => Some("hex".into()),
            ("keyformat", KeyFormat::Passphrase { .. }) => Some("passphrase".into()),
            ("pbkdf2iters", KeyFormat::Passphrase { iterations, .. }) => {
                Some(iterations.to_string())
            }
            ("encryptionroot", _) => {
                let object = self
                    .dir_number("com.datto:crypto_key_obj")
                    .await?
                    .unwrap_or(0);
                let root = Zap::open(self.spa.mos(), object)
                    .await?
                    .lookup_u64("DSL_CRYPTO_ROOT_DDOBJ")
                    .await?;
                Some(self.spa.dir_name(&self.spa.dsl_dir(root).await?).await?)
            }
            _ => None,
        })
    }

    /// A mount point that is set above is followed by the rest of the name.
    fn mountpoint(&self) -> (String, Source) {
        let Some((value, source)) = self.stored.get("mountpoint") else {
            return (format!("/{}", self.entry.name), Source::Default);
        };
        let base = text(value);
        let rest = match source {
            Source::Inherited(from) if base.starts_with('/') => {
                self.entry.name.strip_prefix(from.as_str())
            }
            _ => None,
        };
        (
            format!(
                "{}{}",
                if base == "/" { "" } else { &base },
                rest.unwrap_or_default()
            ),
            source.clone(),
        )
    }
}

fn text(value: &ZapValue) -> String {
    value
        .string()
        .or_else(|| value.u64().map(|number| number.to_string()))
        .unwrap_or_default()
}

fn word(words: &[(&str, u64)], value: u64) -> Option<String> {
    words
        .iter()
        .find(|(_, number)| *number == value)
        .map(|(word, _)| (*word).into())
}

/// zstd's level is in the bits above the algorithm.
fn compression_word(words: &[(&str, u64)], value: u64) -> String {
    const ALGORITHM_BITS: u32 = 7;
    const ZSTD: u64 = 16;
    /// The word without a level; the fast levels follow: 1 to 10 one by one, then in steps.
    const FAST: u64 = 102;
    let (algorithm, level) = (value & ((1 << ALGORITHM_BITS) - 1), value >> ALGORITHM_BITS);
    if algorithm != ZSTD || level == 0 {
        return word(words, algorithm).unwrap_or_else(|| value.to_string());
    }
    if level < FAST {
        return format!("zstd-{level}");
    }
    let step = level - FAST;
    let fast = match step {
        0 => return "zstd-fast".into(),
        1..=10 => step,
        11..=19 => (step - 9) * 10,
        20 => 500,
        _ => 1000,
    };
    format!("zstd-fast-{fast}")
}
