//! Writing a planned stream: what each part says at its start, then its records.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::encode::{BeginFields, RecordWriter};
use super::planner::{SendPart, SendPlan};
use super::record::{begin_flag, feature};
use super::source::{ResumePlace, Source};
use super::{StreamKind, StreamWriter};
use crate::dmu::{Objset, ObjsetType};
use crate::dsl::{BlockForms, DslDataset};
use crate::error::{Error, Unsupported};
use crate::nvlist::Nvlist;
use crate::spa::Spa;
use crate::zpl::Zpl;

const LARGE_BLOCKS: &str = "org.open-zfs:large_blocks";
const LARGE_DNODE: &str = "org.zfsonlinux:large_dnode";
const ZSTD: &str = "org.freebsd:zstd_compress";
/// File system versions from this one on may have spill blocks.
const VERSION_SPILL: u64 = 5;
/// `flags` of a data set: names are compared without regard to case.
const FLAG_CASE_INSENSITIVE: u64 = 1 << 16;
const BEGIN_CASE_INSENSITIVE: u32 = 2;

/// Writes a planned stream. `progress` is told of every part before it starts.
///
/// # Errors
/// Those of reading the pool, `KeyUnavailable` for encrypted data without its key, and `Device` when the writer fails.
pub async fn send(
    spa: &Spa,
    plan: &SendPlan,
    name: &str,
    writer: &mut dyn StreamWriter,
    progress: &mut dyn FnMut(&SendPart),
) -> Result<u64, Error> {
    let mut out = RecordWriter::new(writer);
    if let Some(compound) = &plan.compound {
        let payload = match compound.datasets.is_empty() {
            true => Vec::new(),
            false => compound.encode(),
        };
        let begin = BeginFields {
            kind: StreamKind::Compound,
            features: 0,
            creation_time: 0,
            objset_type: 0,
            flags: 0,
            to_guid: 0,
            from_guid: 0,
            to_name: name,
        };
        out.begin(&begin, &payload).await?;
        out.end_description().await?;
    }
    for part in &plan.parts {
        progress(part);
        send_part(spa, plan, part, &mut out).await?;
    }
    if plan.compound.is_some() {
        out.end_all().await?;
    }
    Ok(out.bytes())
}

async fn send_part(
    spa: &Spa,
    plan: &SendPlan,
    part: &SendPart,
    out: &mut RecordWriter<'_>,
) -> Result<(), Error> {
    let entry = spa.find_dataset(&part.snapshot).await?;
    let objset = spa.open_objset(&entry.dataset, plan.key.clone()).await?;
    let resuming = plan.resume != ResumePlace::default();
    let mut features = features_of(spa, &entry.dataset, &objset, plan.forms).await?;
    let mut payload = Vec::new();
    if resuming {
        features |= feature::RESUMING;
        let mut place = Nvlist::new();
        place.set_u64("resume_object", plan.resume.object);
        place.set_u64("resume_offset", plan.resume.offset);
        payload = place.encode();
    }
    let mut flags = begin_flag::FREE_RECORDS | begin_flag::SPILL_BLOCKS;
    if part.is_clone {
        flags |= begin_flag::CLONE;
    }
    if entry.dataset.phys.flags & FLAG_CASE_INSENSITIVE != 0 {
        flags |= BEGIN_CASE_INSENSITIVE;
    }
    let begin = BeginFields {
        kind: StreamKind::Substream,
        features,
        creation_time: entry.dataset.phys.creation_time,
        objset_type: match objset.kind() {
            ObjsetType::Filesystem => 2,
            ObjsetType::Volume => 3,
            ObjsetType::Other(other) => {
                return Err(Error::Unsupported(Unsupported::ObjsetType(other)));
            }
            _ => return Err(Error::InvalidArgument),
        },
        flags,
        to_guid: entry.dataset.phys.guid,
        from_guid: part.from_guid,
        to_name: &part.snapshot,
    };
    out.begin(&begin, &payload).await?;
    let source = Source {
        objset: &objset,
        since: part.since,
        features,
        resume: plan.resume,
    };
    source.send(out).await?;
    out.end().await
}

/// Bits of the features that the stream of a snapshot uses.
async fn features_of(
    spa: &Spa,
    snapshot: &DslDataset,
    objset: &Rc<Objset>,
    forms: BlockForms,
) -> Result<u64, Error> {
    let mut features = 0;
    if objset.kind() == ObjsetType::Filesystem {
        let version = Zpl::open(objset.clone()).await?.version();
        if version >= VERSION_SPILL {
            features |= feature::SA_SPILL;
        }
    }
    let uses =
        async |guid: &str| Ok::<_, Error>(spa.dataset_extension(snapshot, guid).await?.is_some());
    if forms.large && uses(LARGE_BLOCKS).await? {
        features |= feature::LARGE_BLOCKS;
    }
    if uses(LARGE_DNODE).await? {
        features |= feature::LARGE_DNODE;
    }
    if forms.embedded {
        features |= feature::EMBEDDED;
    }
    if forms.compressed {
        features |= feature::COMPRESSED;
    }
    if forms.embedded || forms.compressed {
        features |= feature::LZ4;
        if uses(ZSTD).await? {
            features |= feature::ZSTD;
        }
    }
    Ok(features)
}
