//! Zero-length encoding: a control byte gives a run of literals or of zeros.

use alloc::vec::Vec;

/// Control bytes below this are literal runs, the others runs of zeros; also the longest literal run.
const LITERALS: usize = 64;
/// Longest run of zeros in one control byte.
const ZEROS: usize = 256 - LITERALS;

/// Fills `out`; `None` when the input ends early.
pub fn decompress(mut data: &[u8], out: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < out.len() {
        let (&control, rest) = data.split_first()?;
        data = rest;
        let control = usize::from(control);
        if control >= LITERALS {
            let run = (control - LITERALS + 1).min(out.len() - at);
            out[at..at + run].fill(0);
            at += run;
        } else {
            let run = control + 1;
            let (literals, rest) = data.split_at_checked(run)?;
            out.get_mut(at..at + run)?.copy_from_slice(literals);
            data = rest;
            at += run;
        }
    }
    Some(())
}

/// Compresses to at most `limit` bytes.
pub fn compress(data: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(limit);
    let mut rest = data;
    while let Some(&first) = rest.first() {
        let zeros = rest
            .iter()
            .take(ZEROS)
            .take_while(|&&byte| byte == 0)
            .count();
        if first == 0 {
            out.push((LITERALS + zeros - 1) as u8);
            rest = &rest[zeros..];
        } else {
            // A single zero costs less as a literal than as a run between two.
            let literals = literal_run(rest);
            out.push((literals - 1) as u8);
            out.extend_from_slice(&rest[..literals]);
            rest = &rest[literals..];
        }
        if out.len() > limit {
            return None;
        }
    }
    Some(out)
}

fn literal_run(data: &[u8]) -> usize {
    let end = data
        .windows(2)
        .take(LITERALS)
        .position(|pair| pair == [0, 0]);
    end.unwrap_or(data.len().min(LITERALS)).max(1)
}
