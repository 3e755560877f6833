//! Setting properties, and what follows from them for space and for blocks written from now on.

use alloc::rc::Rc;
use alloc::string::String;

use super::account::{SpaceChange, UsedBy};
use super::create::Creation;
use super::owner_quota::OwnerQuota;
use super::prop_table::{self, Form, Scope};
use super::prop_value::{ALGORITHM_BITS, NewValue, PropertyError, parse};
use super::{DatasetEntry, DslDir, OpenDataset};
use crate::block_device::Access;
use crate::checksum::ChecksumKind;
use crate::compress::{Compression, ZSTD_DEFAULT_LEVEL};
use crate::dmu::{AccessTimes, AttributePlace, ObjsetType, Settings, SyncMode};
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::{Zap, update};
use crate::zvol::Zvol;

/// Largest block of pools without the feature for larger ones.
const OLD_RECORD_MAX: usize = 128 << 10;

impl Spa {
    /// Sets a property of a data set, or of a snapshot if its users define it, and commits that.
    ///
    /// # Errors
    /// See [`PropertyError`]; nothing changed then.
    pub async fn set_property(
        &self,
        name: &str,
        property: &str,
        text: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), PropertyError> {
        self.check_writable().await?;
        if let Some(quota) = OwnerQuota::parse(property) {
            return self.set_owner_quota(name, quota, text, now).await;
        }
        let value = parse(property, text)?;
        let entry = self.find_dataset(name).await?;
        let mut creation = Creation {
            txg: self.open_txg(),
            now,
            random,
        };
        self.check_kind(&entry, property).await?;
        self.apply_property(&entry, property, &value, &mut creation)
            .await?;
        self.refresh_settings(&mut creation).await?;
        Ok(self.sync(now).await?)
    }

    /// Removes a property that is set here, so that it is inherited or has its default, and commits that.
    ///
    /// # Errors
    /// `ReadOnly` for properties that are not inherited.
    pub async fn inherit_property(
        &self,
        name: &str,
        property: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), PropertyError> {
        self.check_writable().await?;
        let native = prop_table::find(property);
        if native.is_none() && !property.contains(':') {
            return Err(PropertyError::Unknown);
        }
        if super::prop::NOT_INHERITED.contains(&property)
            || native.is_some_and(|native| {
                matches!(native.form, Form::Computed) && property != "mountpoint"
            })
        {
            return Err(PropertyError::ReadOnly);
        }
        let entry = self.find_dataset(name).await?;
        let table = match entry.dataset.is_snapshot() {
            true => entry.dataset.phys.props,
            false => entry.dir.phys.props,
        };
        match update::remove(self.mos(), table, property.as_bytes()).await {
            Ok(()) | Err(Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let mut creation = Creation {
            txg: self.open_txg(),
            now,
            random,
        };
        self.refresh_settings(&mut creation).await?;
        Ok(self.sync(now).await?)
    }

    async fn check_kind(&self, entry: &DatasetEntry, property: &str) -> Result<(), PropertyError> {
        let Some(native) = prop_table::find(property) else {
            return Ok(());
        };
        if entry.dataset.is_snapshot() {
            return Err(PropertyError::WrongKind);
        }
        let volume = self.open_objset(&entry.dataset, None).await?.kind() == ObjsetType::Volume;
        let fits = match native.scope {
            Scope::All | Scope::Head => true,
            Scope::Filesystem | Scope::FilesystemHead => !volume,
            Scope::Volume => volume,
            Scope::Snapshot => false,
        };
        if fits {
            Ok(())
        } else {
            Err(PropertyError::WrongKind)
        }
    }

    /// Stores a property and what depends on it.
    pub(super) async fn apply_property(
        &self,
        entry: &DatasetEntry,
        property: &str,
        value: &NewValue,
        creation: &mut Creation<'_>,
    ) -> Result<(), PropertyError> {
        if let NewValue::Number(number) = value {
            match property {
                "dedup" if *number != prop_table::OFF => return Err(Error::FeatureDisabled.into()),
                "quota" => self.set_quota(entry, *number).await?,
                "reservation" => self.set_reservation(&entry.dir, *number).await?,
                "refquota" if *number != 0 && *number < entry.dataset.phys.referenced_bytes => {
                    return Err(PropertyError::BelowUse);
                }
                "refreservation" => self.set_reference_reservation(entry, *number).await?,
                "volsize" => {
                    let objset = self.open_head(&entry.name).await?;
                    return Ok(Zvol::open(objset).await?.resize(*number).await?);
                }
                _ => {}
            }
        }
        let table = self.property_table(entry, creation).await?;
        Ok(self.store(table, property, value).await?)
    }

    async fn store(&self, table: u64, key: &str, value: &NewValue) -> Result<(), Error> {
        match value {
            NewValue::Number(number) => {
                update::update(self.mos(), table, key.as_bytes(), *number).await
            }
            NewValue::Text(_) => {
                update::set(self.mos(), table, key.as_bytes(), &value.stored()).await
            }
        }
    }

    /// Sets properties that a stream brought, as received, and others as the data set's own. What cannot hold here is left out: a
    /// stream is not refused for the quota of its source.
    pub(crate) async fn apply_received(
        &self,
        name: &str,
        received: &[(String, NewValue)],
        own: &[(String, NewValue)],
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        let entry = self.find_dataset(name).await?;
        for (property, value) in received {
            if !is_received(property, &entry) {
                continue;
            }
            let table = self.property_table(&entry, creation).await?;
            // What was set here stays in force, and hides the received value.
            let set = Zap::open(self.mos(), table)
                .await?
                .lookup(property.as_bytes())
                .await?;
            if set.is_none() {
                if self
                    .apply_property(&entry, property, value, creation)
                    .await
                    .is_err()
                {
                    continue;
                }
                update::remove(self.mos(), table, property.as_bytes()).await?;
            }
            let key = alloc::format!("{property}$recvd");
            self.store(table, &key, value).await?;
        }
        for (property, value) in own {
            if let Err(PropertyError::Pool(error)) =
                self.apply_property(&entry, property, value, creation).await
            {
                return Err(error);
            }
        }
        self.refresh_settings(creation).await
    }

    async fn property_table(
        &self,
        entry: &DatasetEntry,
        creation: &mut Creation<'_>,
    ) -> Result<u64, Error> {
        if !entry.dataset.is_snapshot() {
            return Ok(entry.dir.phys.props);
        }
        let mut phys = self.dsl_dataset(entry.dataset.object).await?.phys;
        if phys.props == 0 {
            phys.props =
                update::create(self.mos(), ObjectType::DSL_PROPS, (creation.random)()).await?;
            self.mos()
                .set_bonus(entry.dataset.object, phys.encode())
                .await?;
        }
        Ok(phys.props)
    }

    async fn set_quota(&self, entry: &DatasetEntry, quota: u64) -> Result<(), PropertyError> {
        let mut phys = self.dsl_dir(entry.dir.object).await?.phys;
        if quota != 0 && quota < phys.used_bytes.max(phys.reserved) {
            return Err(PropertyError::BelowUse);
        }
        phys.quota = quota;
        Ok(self
            .mos()
            .set_bonus(entry.dir.object, phys.encode())
            .await?)
    }

    /// What is reserved and not used counts as used in the parent.
    async fn set_reservation(&self, dir: &DslDir, reserved: u64) -> Result<(), PropertyError> {
        let mut phys = self.dsl_dir(dir.object).await?.phys;
        let counted = |reserved: u64| phys.used_bytes.max(reserved);
        let delta = counted(reserved) as i64 - counted(phys.reserved) as i64;
        if delta > 0 && phys.parent != 0 {
            let available = self.available(&self.dsl_dir(phys.parent).await?).await?;
            if delta as u64 > available {
                return Err(Error::NoSpace.into());
            }
        }
        phys.reserved = reserved;
        self.mos().set_bonus(dir.object, phys.encode()).await?;
        let change = SpaceChange {
            used: delta,
            ..SpaceChange::default()
        };
        Ok(self
            .count_space(phys.parent, UsedBy::ChildReservations, change)
            .await?)
    }

    /// The same for a head without its snapshots and children.
    async fn set_reference_reservation(
        &self,
        entry: &DatasetEntry,
        reserved: u64,
    ) -> Result<(), PropertyError> {
        let unique = self
            .dsl_dataset(entry.dataset.object)
            .await?
            .phys
            .unique_bytes;
        let old = self.reference_reservation(entry.dir.object).await?;
        let delta = reserved.saturating_sub(unique) as i64 - old.saturating_sub(unique) as i64;
        if delta > 0
            && delta as u64
                > self
                    .available(&self.dsl_dir(entry.dir.object).await?)
                    .await?
        {
            return Err(Error::NoSpace.into());
        }
        let change = SpaceChange {
            used: delta,
            ..SpaceChange::default()
        };
        Ok(self
            .count_space(entry.dir.object, UsedBy::ReferenceReservation, change)
            .await?)
    }

    /// Removes what a directory reserves before it goes.
    pub(super) async fn clear_reservations(&self, dir: &DslDir) -> Result<(), Error> {
        let failed = |error| match error {
            PropertyError::Pool(error) => error,
            _ => Error::InvalidArgument,
        };
        let entry = DatasetEntry {
            name: self.dir_name(dir).await?,
            dataset: self.dsl_dataset(dir.phys.head_dataset).await?,
            dir: dir.clone(),
        };
        self.set_reference_reservation(&entry, 0)
            .await
            .map_err(failed)?;
        match update::remove(self.mos(), dir.phys.props, b"refreservation").await {
            Ok(()) | Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        self.set_reservation(dir, 0).await.map_err(failed)
    }

    /// Lets the properties in force hold for all open heads.
    async fn refresh_settings(&self, creation: &mut Creation<'_>) -> Result<(), Error> {
        let open: alloc::vec::Vec<Rc<OpenDataset>> =
            self.datasets.borrow().values().cloned().collect();
        for open in open {
            let dir = self.dsl_dir(open.dir).await?;
            let entry = DatasetEntry {
                name: self.dir_name(&dir).await?,
                dataset: self.dsl_dataset(open.dataset).await?,
                dir,
            };
            self.apply_settings(&entry, &open, creation).await?;
        }
        Ok(())
    }

    /// Lets the properties in force hold for an open head, and counts the features that they need.
    pub(super) async fn apply_settings(
        &self,
        entry: &DatasetEntry,
        open: &OpenDataset,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        let settings = self.settings_of(entry).await?;
        open.objset.set_settings(settings);
        for guid in needed_features(&settings) {
            self.use_feature(open.dataset, guid, creation).await?;
        }
        Ok(())
    }

    /// Says that a data set uses a feature, once.
    pub(super) async fn use_feature(
        &self,
        dataset: u64,
        guid: &str,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        if self.extensions(dataset).await?.contains_key(guid) {
            return Ok(());
        }
        self.count_feature(guid, 1).await?;
        self.set_extension(dataset, guid, 0, creation).await
    }

    /// Lets a new data set use the features that another one uses.
    pub(super) async fn copy_features(
        &self,
        from: u64,
        to: u64,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        for name in self.extensions(from).await?.into_keys() {
            if super::destroy::DATASET_FEATURES.contains(&name.as_str()) {
                self.use_feature(to, &name, creation).await?;
            }
        }
        Ok(())
    }

    /// How blocks of a head are stored, by its properties.
    async fn settings_of(&self, entry: &DatasetEntry) -> Result<Settings, Error> {
        let stored = self.stored_properties(entry).await?;
        let number = |name: &str| stored.get(name).and_then(|(value, _)| value.u64());
        let mut settings = Settings::default();
        if let Some(size) = number("recordsize") {
            settings.record_size = usize::try_from(size).unwrap_or(OLD_RECORD_MAX);
        }
        if let Some(value) = number("compression") {
            settings.compression = compression_of(value)?;
        }
        settings.checksum = match number("checksum") {
            None | Some(0 | 1) => ChecksumKind::Fletcher4,
            Some(value) => ChecksumKind::from_id(value as u8)?,
        };
        if let Some(copies) = number("copies") {
            settings.copies = (copies as usize).clamp(1, 3);
        }
        settings.sync = match number("sync") {
            Some(1) => SyncMode::Always,
            Some(2) => SyncMode::Disabled,
            _ => SyncMode::Standard,
        };
        if number("readonly") == Some(1) {
            settings.access = Access::ReadOnly;
        }
        settings.access_times = match (number("atime"), number("relatime")) {
            (Some(0), _) => AccessTimes::Off,
            (_, Some(0)) => AccessTimes::On,
            _ => AccessTimes::Relative,
        };
        settings.attributes = match number("xattr") {
            Some(0) => AttributePlace::None,
            Some(1) => AttributePlace::Directory,
            _ => AttributePlace::List,
        };
        Ok(settings)
    }
}

/// Whether a property of a stream is stored: users' own, and of the pool's those that say how, not what is.
fn is_received(property: &str, entry: &DatasetEntry) -> bool {
    if property.contains(':') {
        return true;
    }
    let known = prop_table::find(property).is_some_and(|native| {
        native.name == "mountpoint" || !matches!(native.form, Form::Computed)
    });
    let of_source = matches!(property, "keylocation" | "dedup" | "volsize");
    known && !of_source && !entry.dataset.is_snapshot()
}

fn compression_of(value: u64) -> Result<Compression, Error> {
    let (algorithm, level) = (value & ((1 << ALGORITHM_BITS) - 1), value >> ALGORITHM_BITS);
    Ok(match (algorithm, level) {
        (0 | 1, _) => Compression::Lz4,
        (16, 0) => Compression::Zstd(ZSTD_DEFAULT_LEVEL),
        (16, level) => Compression::Zstd(level as u8),
        (algorithm, _) => Compression::from_id(algorithm as u8)?,
    })
}

/// Features that must be active before a block is stored like this.
fn needed_features(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let checksum = match settings.checksum {
        ChecksumKind::Sha512 => Some("org.illumos:sha512"),
        ChecksumKind::Skein => Some("org.illumos:skein"),
        ChecksumKind::EdonR => Some("org.illumos:edonr"),
        ChecksumKind::Blake3 => Some("org.openzfs:blake3"),
        _ => None,
    };
    let compression =
        matches!(settings.compression, Compression::Zstd(_)).then_some("org.freebsd:zstd_compress");
    let blocks = (settings.record_size > OLD_RECORD_MAX).then_some("org.open-zfs:large_blocks");
    [checksum, compression, blocks].into_iter().flatten()
}
