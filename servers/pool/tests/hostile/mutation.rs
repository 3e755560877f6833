//! Changing bytes the way that parsers dislike most.

/// Random numbers that are the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Numbers on which sums, shifts and sizes go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0xffff,
    1 << 16,
    u32::MAX as u64,
    1 << 32,
    1 << 47,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Changes a block in one to four places. Most changes are near something that is there: a table that is mostly zeros has its
/// fields where the zeros are not.
pub fn mutate(data: &mut [u8], random: &mut Random) {
    if data.is_empty() {
        return;
    }
    for _ in 0..=random.below(4) {
        let place = place(data, random);
        match random.below(10) {
            0 | 1 => data[place] ^= 1 << random.below(8),
            2 => data[place] = random.next() as u8,
            3 => data[place] = *random.choose(&[0, 1, 0x7f, 0x80, 0xff]),
            4 | 5 => {
                let width = *random.choose(&[2, 4, 8]);
                let number = *random.choose(&NUMBERS);
                put(data, place, width, number);
            }
            6 => {
                let near = data[place];
                put(
                    data,
                    place,
                    8,
                    u64::from(near).wrapping_add(random.next() % 64),
                );
            }
            7 => {
                let from = random.below(data.len());
                let length = random.below(256).min(data.len() - from.max(place));
                data.copy_within(from..from + length, place);
            }
            8 => {
                let end = data.len().min(place + 1 + random.below(64));
                data[place..end].fill_with(|| random.next() as u8);
            }
            _ => {
                let end = data.len().min(place + 1 + random.below(512));
                data[place..end].fill(*random.choose(&[0, 0xff]));
            }
        }
    }
}

fn place(data: &[u8], random: &mut Random) -> usize {
    let start = match random.below(4) {
        0 => random.below(data.len().min(192)),
        _ => random.below(data.len()),
    };
    let used = data[start..].iter().position(|&byte| byte != 0);
    let before = data[..start].iter().rposition(|&byte| byte != 0);
    used.map(|distance| start + distance)
        .or(before)
        .unwrap_or(start)
}

/// Puts a little-endian number at the multiple of its width before `place`.
fn put(data: &mut [u8], place: usize, width: usize, number: u64) {
    let place = place / width * width;
    let end = data.len().min(place + width);
    data[place..end].copy_from_slice(&number.to_le_bytes()[..end - place]);
}
