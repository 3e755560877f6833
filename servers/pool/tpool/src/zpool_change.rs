//! `zpool` commands that change a pool, with the words of zpool(8).

use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;

use crate::failure::{About, Failure};

/// Runs such a command.
pub fn run(spa: &Spa, words: &[&str], now: u64) -> Result<(), Failure> {
    match words {
        ["export", name] => {
            check_name(spa, name)?;
            block_on(spa.export(now)).about(name)
        }
        ["set", setting, name] => {
            check_name(spa, name)?;
            let (property, value) = setting
                .split_once('=')
                .ok_or_else(|| Failure::Usage("missing '=' in property=value argument".into()))?;
            set(spa, property, value, now)
        }
        _ => Err(Failure::Usage("zpool does not take these arguments".into())),
    }
}

fn check_name(spa: &Spa, name: &str) -> Result<(), Failure> {
    if name == spa.name() {
        Ok(())
    } else {
        Err(Failure::Told(format!("cannot open '{name}': no such pool")))
    }
}

fn set(spa: &Spa, property: &str, value: &str, now: u64) -> Result<(), Failure> {
    let pool = spa.name();
    let done = match (property, property.strip_prefix("feature@")) {
        (_, Some(feature)) if value == "enabled" => block_on(spa.enable_feature(feature, now)),
        ("comment", _) => block_on(spa.set_comment(value, now)),
        (_, Some(_)) => Err(Error::InvalidArgument),
        _ => Err(Error::NotFound),
    };
    done.map_err(|error| {
        let why = match error {
            Error::NotFound => format!("invalid property '{property}'"),
            Error::InvalidArgument if property == "comment" => {
                "comment must be at most 32 printable characters".into()
            }
            Error::InvalidArgument => format!("property '{property}' can only be set to 'enabled'"),
            other => other.to_string(),
        };
        Failure::Told(format!("cannot set property for '{pool}': {why}"))
    })
}
