//! The first objects of a file system: master node, attribute registry, delete queue, root directory.

use super::FileType;
use super::new::{NewFile, Owner, Placement, Role, create_object};
use crate::dmu::Objset;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::sa::SaRegistry;
use crate::sa::pack::REGISTERED;
use crate::zap::update;

/// The version with system attributes.
const VERSION: u64 = 5;
/// Mode of a new root directory.
const ROOT_MODE: u64 = 0o755;

/// Fills an empty object set with an empty file system.
pub async fn create(
    objset: &Objset,
    txg: u64,
    now: u64,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Error> {
    let master = update::create(objset, ObjectType::MASTER_NODE, random()).await?;
    if master != super::MASTER_NODE {
        return Err(Error::Corrupt(Structure::Znode));
    }
    let attributes = update::create(objset, ObjectType::SA_MASTER, random()).await?;
    let registry = update::create(objset, ObjectType::SA_REGISTRATION, random()).await?;
    let layouts = update::create(objset, ObjectType::SA_LAYOUTS, random()).await?;
    let queue = update::create(objset, ObjectType::UNLINKED_SET, random()).await?;
    for attribute in REGISTERED {
        update::update(
            objset,
            registry,
            attribute.name.as_bytes(),
            attribute.encode(),
        )
        .await?;
    }
    update::update(objset, attributes, b"REGISTRY", registry).await?;
    update::update(objset, attributes, b"LAYOUTS", layouts).await?;
    let new = NewFile {
        file_type: FileType::Directory,
        mode: ROOT_MODE,
        owner: Owner { uid: 0, gid: 0 },
        now: [now, 0],
        rdev: 0,
        salt: random(),
    };
    let placement = Placement {
        object: None,
        parent: None,
        txg,
        role: Role::File,
    };
    let mut registry = SaRegistry::open(objset, attributes).await?;
    let root = create_object(objset, &mut registry, &new, placement, &[]).await?;
    for (name, value) in [
        ("VERSION", VERSION),
        ("utf8only", 0),
        ("normalization", 0),
        ("casesensitivity", 0),
        ("SA_ATTRS", attributes),
        ("DELETE_QUEUE", queue),
        ("ROOT", root),
    ] {
        update::update(objset, master, name.as_bytes(), value).await?;
    }
    Ok(())
}
