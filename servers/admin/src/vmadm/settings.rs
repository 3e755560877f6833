//! What an operator says of a VM: the payload of `vmadm create`, checked.
//!
//! Owns the way from JSON that anybody may have written to [`Settings`] that can be started. All that
//! is wrong is said at once, in the form of `vmadm validate`.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;
use serde_json::{Map, Value};

use super::properties::{
    DEFAULT_RAM_MIB, DEFAULT_VCPUS, Kind, MAX_CMDLINE_BYTES, MAX_METADATA_ENTRIES, MAX_NAME_BYTES,
    MAX_PATH_BYTES, PROPERTIES, find,
};
use super::uuid::Uuid;

/// The brand of every VM.
pub const BRAND: &str = "bhyve";
/// Where boot files are.
pub const BOOT_DIRECTORY: &str = "/boot/";

/// A flat object.
pub type Metadata = BTreeMap<String, Value>;

/// What a VM is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its identifier.
    pub uuid: Uuid,
    /// Its name for people.
    pub alias: Option<String>,
    /// Its name for the guest.
    pub hostname: Option<String>,
    /// Whether it is started when it is created.
    pub autoboot: bool,
    /// Memory, in MiB.
    pub ram_mib: u64,
    /// Virtual CPUs.
    pub vcpus: u64,
    /// The kernel's file.
    pub kernel: String,
    /// The initial RAM disk's file.
    pub initrd: Option<String>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Whose it is.
    pub owner_uuid: Uuid,
    /// What it is billed as.
    pub billing_id: Uuid,
    /// Tags.
    pub tags: Metadata,
    /// Metadata that the guest may read.
    pub customer_metadata: Metadata,
    /// Metadata that it may not.
    pub internal_metadata: Metadata,
}

/// What is wrong with a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The brand, if there is none like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_brand: Option<String>,
    /// Properties that do not exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_properties: Vec<String>,
    /// Properties whose value they cannot have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_values: Vec<String>,
    /// Properties that must be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_properties: Vec<String>,
}

impl Problems {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why bytes are no payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// They are no JSON; where it breaks.
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// They are JSON, but no object.
    NotAnObject,
    /// The object is no VM.
    Invalid(Problems),
}

/// Checks a payload. `uuid` is for a VM that has none yet; `exists` says which boot files there are.
///
/// # Errors
/// [`PayloadError`], with everything that is wrong.
pub fn parse(
    bytes: &[u8],
    uuid: Uuid,
    exists: impl Fn(&str) -> bool,
) -> Result<Settings, PayloadError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| PayloadError::Json {
        line: error.line(),
        column: error.column(),
    })?;
    let Value::Object(payload) = value else {
        return Err(PayloadError::NotAnObject);
    };
    let problems = check(&payload, exists);
    if !problems.is_empty() {
        return Err(PayloadError::Invalid(problems));
    }
    Ok(build(&payload, uuid))
}

fn check(payload: &Map<String, Value>, exists: impl Fn(&str) -> bool) -> Problems {
    let mut problems = Problems::default();
    for (name, value) in payload {
        match find(name).map(|property| property.kind) {
            None | Some(Kind::ReadOnly) => problems.bad_properties.push(name.clone()),
            Some(Kind::Brand) if value != BRAND => {
                let brand = value
                    .as_str()
                    .map_or_else(|| value.to_string(), String::from);
                problems.bad_brand = Some(brand);
            }
            Some(kind) if !is_valid(kind, value, &exists) => problems.bad_values.push(name.clone()),
            Some(_) => {}
        }
    }
    for name in ["brand", "kernel"] {
        if !payload.contains_key(name) {
            problems.missing_properties.push(name.into());
        }
    }
    problems
}

fn is_valid(kind: Kind, value: &Value, exists: impl Fn(&str) -> bool) -> bool {
    let text = |limit: usize| {
        value
            .as_str()
            .filter(|text| text.len() <= limit && !text.chars().any(char::is_control))
    };
    match kind {
        Kind::Uuid => value.as_str().is_some_and(|text| Uuid::parse(text).is_ok()),
        Kind::Brand => value == BRAND,
        Kind::Name => text(MAX_NAME_BYTES).is_some_and(|name| !name.trim().is_empty()),
        Kind::Text => text(MAX_CMDLINE_BYTES).is_some(),
        Kind::BootFile => text(MAX_PATH_BYTES)
            .is_some_and(|path| path.starts_with(BOOT_DIRECTORY) && exists(path)),
        Kind::Number(least, most) => value
            .as_u64()
            .is_some_and(|number| (least..=most).contains(&number)),
        Kind::Flag => value.is_boolean(),
        Kind::Metadata => value.as_object().is_some_and(|object| {
            object.len() <= MAX_METADATA_ENTRIES
                && object
                    .values()
                    .all(|value| value.is_string() || value.is_number() || value.is_boolean())
        }),
        Kind::ReadOnly => false,
    }
}

/// The settings of a payload that was checked.
fn build(payload: &Map<String, Value>, uuid: Uuid) -> Settings {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).map(String::from);
    let number = |name: &str| payload.get(name).and_then(Value::as_u64);
    let identifier = |name: &str| text(name).and_then(|text| Uuid::parse(&text).ok());
    let metadata = |name: &str| {
        let object = payload.get(name).and_then(Value::as_object);
        object.map_or_else(Metadata::new, |object| {
            object
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        })
    };
    Settings {
        uuid: identifier("uuid").unwrap_or(uuid),
        alias: text("alias"),
        hostname: text("hostname"),
        autoboot: payload.get("autoboot") != Some(&Value::Bool(false)),
        ram_mib: number("ram").unwrap_or(DEFAULT_RAM_MIB),
        vcpus: number("vcpus").unwrap_or(DEFAULT_VCPUS),
        kernel: text("kernel").unwrap_or_default(),
        initrd: text("initrd"),
        cmdline: text("cmdline"),
        owner_uuid: identifier("owner_uuid").unwrap_or(Uuid::NIL),
        billing_id: identifier("billing_id").unwrap_or(Uuid::NIL),
        tags: metadata("tags"),
        customer_metadata: metadata("customer_metadata"),
        internal_metadata: metadata("internal_metadata"),
    }
}

/// Names of the properties that a payload may have.
pub fn payload_properties() -> impl Iterator<Item = &'static str> {
    PROPERTIES
        .iter()
        .filter(|property| property.kind != Kind::ReadOnly)
        .map(|property| property.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: Uuid = Uuid::NIL;

    fn files(path: &str) -> bool {
        path == "/boot/vmlinuz" || path == "/boot/initrd"
    }

    fn read(payload: &str) -> Result<Settings, PayloadError> {
        parse(payload.as_bytes(), UUID, files)
    }

    fn problems(payload: &str) -> Problems {
        match read(payload) {
            Err(PayloadError::Invalid(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_least_payload_gets_the_defaults() {
        let settings = read(r#"{"brand":"bhyve","kernel":"/boot/vmlinuz"}"#).unwrap();
        assert_eq!(settings.ram_mib, 256);
        assert_eq!(settings.vcpus, 1);
        assert!(settings.autoboot);
        assert_eq!((settings.alias, settings.initrd), (None, None));
        assert_eq!(settings.uuid, UUID);
    }

    #[test]
    fn every_property_is_taken() {
        let settings = read(
            r#"{"brand":"bhyve","uuid":"54f1cc77-68f1-42ab-acac-5c4f64f5d6e1","alias":"a",
                "hostname":"h","autoboot":false,"ram":512,"vcpus":4,"kernel":"/boot/vmlinuz",
                "initrd":"/boot/initrd","cmdline":"quiet","owner_uuid":
                "00000000-0000-0000-0000-000000000001","tags":{"a":1,"b":"c","d":true}}"#,
        )
        .unwrap();
        assert_eq!(
            settings.uuid.to_string(),
            "54f1cc77-68f1-42ab-acac-5c4f64f5d6e1"
        );
        assert!(!settings.autoboot);
        assert_eq!((settings.ram_mib, settings.vcpus), (512, 4));
        assert_eq!(settings.cmdline.as_deref(), Some("quiet"));
        assert_eq!(settings.owner_uuid.bits(), 1);
        assert_eq!(settings.tags["d"], Value::Bool(true));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let problems = problems(
            r#"{"brand":"kvm","disks":[],"state":"running","ram":"256","vcpus":5,
                "alias":"a\u0007","tags":{"a":{}},"uuid":"x","autoboot":1}"#,
        );
        assert_eq!(problems.bad_brand.as_deref(), Some("kvm"));
        assert_eq!(problems.bad_properties, ["disks", "state"]);
        assert_eq!(
            problems.bad_values,
            ["alias", "autoboot", "ram", "tags", "uuid", "vcpus"]
        );
        assert_eq!(problems.missing_properties, ["kernel"]);
        assert_eq!(
            serde_json::to_string(&Problems {
                bad_properties: vec!["disks".into()],
                ..Problems::default()
            })
            .unwrap(),
            r#"{"bad_properties":["disks"]}"#
        );
    }

    #[test]
    fn boot_files_must_be_there_and_under_boot() {
        for path in ["/boot/none", "/bin/root", "vmlinuz", ""] {
            let payload = format!(r#"{{"brand":"bhyve","kernel":"{path}"}}"#);
            let problems = match parse(payload.as_bytes(), UUID, |path| path != "/boot/none") {
                Err(PayloadError::Invalid(problems)) => problems,
                other => panic!("{other:?}"),
            };
            assert_eq!(problems.bad_values, ["kernel"], "{path}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused() {
        assert_eq!(
            read("{\n \"brand\": }"),
            Err(PayloadError::Json {
                line: 2,
                column: 11
            })
        );
        assert_eq!(read("[]"), Err(PayloadError::NotAnObject));
        assert_eq!(read(""), Err(PayloadError::Json { line: 1, column: 0 }));
    }

    /// Values of every shape, among them those that a property wants.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|flag| flag.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            (0u64..70_000).prop_map(|number| number.to_string()),
            "[a-z/\\PC]{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just(r#""/boot/vmlinuz""#.to_owned()),
            Just(r#"{"a":[1]}"#.to_owned()),
            Just(r#"{"a":"b"}"#.to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes, UUID, |_| true).is_err());
        }

        #[test]
        fn any_object_is_a_vm_within_the_limits_or_refused(
            entries in proptest::collection::btree_map(
                prop_oneof![
                    proptest::sample::select(payload_properties().collect::<Vec<_>>())
                        .prop_map(String::from),
                    "[a-z]{1,8}",
                ],
                value(),
                0..8,
            ),
        ) {
            let mut body: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .collect();
            body.push(r#""brand":"bhyve""#.into());
            let payload = format!("{{{}}}", body.join(","));
            match read(&payload) {
                Ok(settings) => {
                    prop_assert!((16..=65_536).contains(&settings.ram_mib));
                    prop_assert!((1..=4).contains(&settings.vcpus));
                    prop_assert!(files(&settings.kernel));
                }
                Err(PayloadError::Invalid(problems)) => prop_assert!(!problems.is_empty()),
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
