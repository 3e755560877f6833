//! The system manifest: what people write, and what is refused.
//!
//! [`source`] is the shape of the TOML file, [`resolve`](mod@resolve) turns it into
//! `proto::boot::Manifest` or says exactly what is wrong with it, in [`refusal`]'s words, and
//! [`quantity`] reads sizes and durations.

pub mod calls;
pub mod quantity;
pub mod refusal;
pub mod resolve;
pub mod source;

pub use refusal::Refusal;
pub use resolve::resolve;

use proto::boot::Manifest;
use std::path::Path;

/// Reads, checks and resolves the manifest in the TOML text `text`.
///
/// # Errors
/// The first [`Refusal`] found.
pub fn parse(text: &str) -> Result<Manifest, Refusal> {
    let source: source::Source =
        toml::from_str(text).map_err(|error| Refusal::Syntax(error.message().to_owned()))?;
    resolve(&source)
}

/// Reads the manifest in the file at `path`.
///
/// # Errors
/// A sentence that names the file and the [`Refusal`].
pub fn read(path: &Path) -> Result<Manifest, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    parse(&text).map_err(|refusal| format!("{name}: {refusal}"))
}
