//! `zpool` commands that change a pool, with the words of zpool(8).

use std::io::IsTerminal;

use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;

use crate::arguments::Options;
use crate::failure::{About, Failure};

/// Runs such a command.
pub fn run(spa: &Spa, words: &[&str], now: u64) -> Result<(), Failure> {
    match words {
        ["export", name] => {
            check_name(spa, name)?;
            block_on(spa.export(now)).about(name)
        }
        ["scrub", rest @ ..] => scrub(spa, rest, now),
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

/// Bytes between two reports of how far a scrub is.
const SCRUB_STEP: u64 = 256 << 20;

/// `zpool scrub`: it runs to its end, and one that was interrupted goes on where it was.
fn scrub(spa: &Spa, words: &[&str], now: u64) -> Result<(), Failure> {
    let options = Options::parse(words, "psw", "")?;
    let [name] = options.rest[..] else {
        return Err(Failure::Usage("zpool scrub needs one pool".into()));
    };
    check_name(spa, name)?;
    let none = |verb: &str, error: Error| match error {
        Error::NotFound => Failure::Told(format!(
            "cannot {verb} scrubbing {name}: there is no active scrub"
        )),
        error => Failure::Pool(name.into(), error),
    };
    if options.has('p') {
        return block_on(spa.pause_scrub(now)).map_err(|error| none("pause", error));
    }
    if options.has('s') {
        return block_on(spa.stop_scrub(now)).map_err(|error| none("cancel", error));
    }
    // A scrub that another run left goes on.
    match block_on(spa.start_scrub(now)) {
        Ok(()) | Err(Error::Busy) => {}
        Err(error) => return Err(Failure::Pool(name.into(), error)),
    }
    let bar = std::io::stderr().is_terminal();
    loop {
        let now = crate::change::now()[0];
        let scan = block_on(spa.scrub_some(SCRUB_STEP, now)).about(name)?;
        if bar {
            let percent = (scan.examined * 100).checked_div(scan.to_examine);
            eprint!("\rscrub: {}% done", percent.unwrap_or(100).min(100));
        }
        if !scan.is_under_way() {
            if bar {
                eprintln!();
            }
            return Ok(());
        }
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
