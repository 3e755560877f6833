//! Send streams: a data set, or the difference of two snapshots, as a sequence of records.
//!
//! A record is a header of fixed size and a payload. [`StreamDecoder`] takes them one at a time, so that a stream of any
//! length needs the memory of one record, and checks the running checksum on the way.

mod apply;
mod encode;
mod io;
pub mod plan;
mod planner;
mod receive;
mod receive_options;
pub mod record;
#[expect(
    clippy::module_inception,
    reason = "the part is called after ZFS's, and so is what it does first"
)]
mod send;
mod source;
pub mod token;

pub use io::{RecordReader, StreamFuture, StreamReader, StreamWriter};
pub use planner::{
    SendFrom, SendPart, SendPlan, SendRequest, SendScope, plan as plan_send, plan_resume,
};
pub use receive::receive;
pub use receive_options::{CutOff, InTheWay, Naming, Progress, ReceiveError, ReceiveOptions};
pub use record::{BeginRecord, ObjectRecord, Record, StreamKind, WriteRecord};
pub use send::send;

use crate::blkptr::MAX_BLOCK_SIZE;
use crate::checksum::{Checksum, Fletcher4};
use crate::error::{Error, Structure};
use crate::layout::Fields;

/// Bytes of a record's header.
pub const HEADER_SIZE: usize = 312;
/// Where the checksum of everything before is, in every header but the first.
const CHECKSUM_AT: usize = HEADER_SIZE - 32;
/// Largest payload: a block, or the properties of many data sets.
pub const MAX_PAYLOAD: usize = MAX_BLOCK_SIZE;

const CORRUPT: Error = Error::Corrupt(Structure::Stream);

/// Reads a stream record by record.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    sum: Fletcher4,
    /// Payload of the last record that is still to come, in bytes.
    pending: usize,
    phase: Phase,
}

/// Where in the stream the decoder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Before a BEGIN, or at the end.
    #[default]
    Between,
    /// Inside a stream.
    Inside,
}

impl StreamDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        StreamDecoder::default()
    }

    /// Reads the next header. Its payload, of [`StreamDecoder::payload_length`] bytes, has to be given before the next one.
    ///
    /// # Errors
    /// `Corrupt` when the checksum or the order of records is wrong, `Unsupported` for unknown features.
    pub fn header(&mut self, header: &[u8; HEADER_SIZE]) -> Result<Record, Error> {
        if self.pending != 0 {
            return Err(Error::InvalidArgument);
        }
        let record = Record::decode(header)?;
        let before = self.sum.value();
        match (&record, self.phase) {
            (Record::Begin(_), Phase::Between) => {
                self.phase = Phase::Inside;
                self.sum = Fletcher4::default();
                self.sum.update(header);
            }
            (Record::End { checksum }, phase) => {
                // The END after all parts of a compound stream stands alone, without a checksum.
                let alone = phase == Phase::Between && *checksum == [0; 4];
                if !alone && (phase == Phase::Between || *checksum != before) {
                    return Err(CORRUPT);
                }
                self.phase = Phase::Between;
                return Ok(record);
            }
            (Record::Begin(_), Phase::Inside) | (_, Phase::Between) => return Err(CORRUPT),
            (_, Phase::Inside) => self.check(header)?,
        }
        let length = record.payload_length(header.u32_at(4).ok_or(CORRUPT)?);
        self.pending = usize::try_from(length)
            .ok()
            .filter(|&length| length <= MAX_PAYLOAD)
            .ok_or(CORRUPT)?;
        Ok(record)
    }

    /// Adds a header to the sum and compares what it says of everything before.
    fn check(&mut self, header: &[u8; HEADER_SIZE]) -> Result<(), Error> {
        let (fields, checksum) = header.split_at(CHECKSUM_AT);
        self.sum.update(fields);
        let words: Checksum = checksum.words().try_into().map_err(|_| CORRUPT)?;
        if words != [0; 4] && words != self.sum.value() {
            return Err(CORRUPT);
        }
        self.sum.update(checksum);
        Ok(())
    }

    /// Bytes of payload that follow the last header.
    pub fn payload_length(&self) -> usize {
        self.pending
    }

    /// Takes the payload of the last header.
    pub fn payload(&mut self, payload: &[u8]) -> Result<(), Error> {
        if payload.len() != self.pending {
            return Err(Error::InvalidArgument);
        }
        self.pending = 0;
        self.sum.update(payload);
        Ok(())
    }
}
