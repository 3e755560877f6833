//! Properties that are set: where a value comes from, along the name tree.
//!
//! A directory keeps its properties in a ZAP. `name` is set here, `name$recvd` came with a stream, and
//! `name$inherit` hides a received value. Snapshots have a ZAP of their own before their directory's.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::future::Future;
use core::pin::Pin;

use super::{DatasetEntry, DslDir};
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::{ZapValue, entries_or_none};

/// Where a property's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The property says what is; it cannot be set.
    None,
    /// The built-in default.
    Default,
    /// Set here.
    Local,
    /// Set here by a receive.
    Received,
    /// Set at the directory with this name.
    Inherited(String),
}

impl Source {
    /// The text of `zfs get`'s source column.
    pub fn text(&self) -> String {
        match self {
            Source::None => "-".into(),
            Source::Default => "default".into(),
            Source::Local => "local".into(),
            Source::Received => "received".into(),
            Source::Inherited(from) => format!("inherited from {from}"),
        }
    }
}

/// Properties that were set somewhere, with their values as stored.
pub type StoredProperties = BTreeMap<String, (ZapValue, Source)>;

/// Properties that hold only where they are set.
pub(super) const NOT_INHERITED: [&str; 10] = [
    "quota",
    "reservation",
    "refquota",
    "refreservation",
    "canmount",
    "volsize",
    "filesystem_limit",
    "snapshot_limit",
    "keylocation",
    "objsetid",
];

impl Spa {
    /// Every stored property that is in force at a data set.
    pub async fn stored_properties(&self, entry: &DatasetEntry) -> Result<StoredProperties, Error> {
        let head_name = entry.name.split('@').next().unwrap_or_default();
        let mut properties = self
            .dir_properties(entry.dir.clone(), String::from(head_name))
            .await?;
        if entry.dataset.is_snapshot() {
            properties.retain(|name, _| !NOT_INHERITED.contains(&name.as_str()));
            let own = self.own_properties(entry.dataset.phys.props).await?;
            inherit(&mut properties, head_name);
            properties.extend(own.set);
        }
        Ok(properties)
    }

    /// A number that is set at a directory itself.
    pub async fn own_number(&self, dir: &DslDir, name: &str) -> Result<Option<u64>, Error> {
        let own = self.own_properties(dir.phys.props).await?;
        Ok(own.set.get(name).and_then(|(value, _)| value.u64()))
    }

    fn dir_properties(
        &self,
        dir: DslDir,
        name: String,
    ) -> Pin<Box<dyn Future<Output = Result<StoredProperties, Error>> + '_>> {
        Box::pin(async move {
            let mut properties = StoredProperties::new();
            if let (Some((parent_name, _)), true) = (name.rsplit_once('/'), dir.phys.parent != 0) {
                let parent = self.dsl_dir(dir.phys.parent).await?;
                properties = self.dir_properties(parent, parent_name.into()).await?;
                properties.retain(|name, _| !NOT_INHERITED.contains(&name.as_str()));
                inherit(&mut properties, parent_name);
            }
            properties.extend(self.own_properties(dir.phys.props).await?.set);
            Ok(properties)
        })
    }

    async fn own_properties(&self, object: u64) -> Result<OwnProperties, Error> {
        let mut own = OwnProperties::default();
        let entries = entries_or_none(self.mos(), object).await?;
        for entry in &entries {
            let name = entry.text();
            if let Some((base, suffix)) = name.rsplit_once('$') {
                let overridden = |by: &str| entries.iter().any(|other| other.text() == by);
                if suffix == "recvd" && !overridden(base) && !overridden(&format!("{base}$inherit"))
                {
                    own.set
                        .insert(base.into(), (entry.value.clone(), Source::Received));
                }
            } else {
                own.set.insert(name, (entry.value.clone(), Source::Local));
            }
        }
        Ok(own)
    }
}

/// What one ZAP of properties sets.
#[derive(Default)]
struct OwnProperties {
    set: StoredProperties,
}

/// Values set at `from` itself are inherited from there, one level down.
fn inherit(properties: &mut StoredProperties, from: &str) {
    for (_, source) in properties.values_mut() {
        if matches!(source, Source::Local | Source::Received) {
            *source = Source::Inherited(from.into());
        }
    }
}
