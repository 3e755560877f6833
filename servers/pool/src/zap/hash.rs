//! The hash of names: CRC-64, reflected, with the table's salt as start.

const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u64;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The hash of bytes, all 64 bits; tables use only the top ones.
pub fn crc64(salt: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(salt, |hash, byte| {
        (hash >> 8) ^ TABLE[usize::from(hash as u8 ^ byte)]
    })
}
