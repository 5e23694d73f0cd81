//! What a JPEG decoder would let pass: CMYK turned to RGB without its colour profile, which is far off, and the missing part of a
//! truncated picture filled with grey.
//!
//! A file that was cut and given an end again is told by reading the codes of its blocks: there must be as many as the picture has. Of
//! progressive files, which hold the picture several times over and better each time, only the end is looked for.

use super::{damaged, unsupported_colour};
use crate::VisionError;

const FORMAT: &str = "Jpeg";

/// Refuses CMYK and truncated files. What else may be wrong with a file is for the decoder to say.
pub(super) fn check(bytes: &[u8], origin: &str) -> Result<(), VisionError> {
    match walk(bytes) {
        Ok(()) => Ok(()),
        Err(Fault::Truncated) => Err(damaged(origin, FORMAT, "the file ends before the picture does")),
        Err(Fault::Cmyk) => Err(unsupported_colour("CMYK (printing colours)", origin)),
    }
}

enum Fault {
    Truncated,
    Cmyk,
}

/// A component of the picture: how many blocks it has for each unit of an interleaved scan.
#[derive(Debug, Clone, Copy)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
}

/// What the header of a sequential picture with Huffman codes says.
#[derive(Debug, Default)]
struct Frame {
    width: usize,
    height: usize,
    components: Vec<Component>,
}

/// Length of the code and symbol, of each 16 bits that begin with a code; length 0 where none does.
type Codes = Vec<(u8, u8)>;

#[derive(Debug, Default)]
struct Tables {
    /// Of the first coefficients of blocks, and of the others.
    codes: [[Codes; 4]; 2],
    restart_units: usize,
}

fn walk(bytes: &[u8]) -> Result<(), Fault> {
    let (mut frame, mut tables) = (None, Tables::default());
    let mut at = 2;
    loop {
        // A marker may be preceded by any number of fill bytes 0xFF. Anything else here is for the decoder to judge.
        if *bytes.get(at).ok_or(Fault::Truncated)? != 0xFF {
            return Ok(());
        }
        let marker = *bytes.get(at + 1).ok_or(Fault::Truncated)?;
        match marker {
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            0xD9 => return Ok(()),
            _ => {
                let length = bytes.get(at + 2..at + 4).ok_or(Fault::Truncated)?;
                let end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                let segment = bytes.get(at + 4..end).ok_or(Fault::Truncated)?;
                match marker {
                    0xC4 => read_codes(segment, &mut tables),
                    0xC0..=0xCF if !matches!(marker, 0xC8 | 0xCC) => {
                        if segment.get(5) == Some(&4) {
                            return Err(Fault::Cmyk);
                        }
                        frame = matches!(marker, 0xC0 | 0xC1).then(|| read_frame(segment)).flatten();
                    }
                    0xDD if segment.len() == 2 => {
                        tables.restart_units = usize::from(u16::from_be_bytes([segment[0], segment[1]]));
                    }
                    0xDA => {
                        let data = &bytes[end..];
                        let length = scan_length(data).ok_or(Fault::Truncated)?;
                        if let Some(scan) = frame.as_ref().and_then(|frame| Scan::new(frame, segment)) {
                            scan.check(&data[..length], &tables)?;
                        }
                        at = end + length;
                        continue;
                    }
                    _ => {}
                }
                at = end;
            }
        }
    }
}

/// Bytes of compressed data before the next marker: in it, 0xFF is followed by 0x00 or is a restart marker. `None` if it does not end.
fn scan_length(data: &[u8]) -> Option<usize> {
    data.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF))
}

/// `None` for what is no picture that can be counted.
fn read_frame(segment: &[u8]) -> Option<Frame> {
    let &[8, height_high, height_low, width_high, width_low, count] = segment.get(..6)? else { return None };
    let mut frame = Frame {
        width: usize::from(u16::from_be_bytes([width_high, width_low])),
        height: usize::from(u16::from_be_bytes([height_high, height_low])),
        components: Vec::new(),
    };
    for component in segment.get(6..6 + 3 * usize::from(count))?.chunks_exact(3) {
        let (across, down) = (usize::from(component[1] >> 4), usize::from(component[1] & 15));
        if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
            return None;
        }
        frame.components.push(Component { id: component[0], across, down });
    }
    Some(frame)
}

/// Reads the tables of a segment; those that are none are left as they were.
fn read_codes(mut segment: &[u8], tables: &mut Tables) {
    while let Some((&[kind, ref counts @ ..], rest)) = segment.split_first_chunk::<17>() {
        let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
        let (Some(table), Some(mut left)) = (
            tables
                .codes
                .get_mut(usize::from(kind >> 4))
                .and_then(|kind_of| kind_of.get_mut(usize::from(kind & 15))),
            rest.get(..symbols),
        ) else {
            return;
        };
        let mut codes = Vec::with_capacity(1 << 16);
        for (length, &count) in (1_u8..).zip(counts) {
            let (of_length, others) = left.split_at(usize::from(count));
            for &symbol in of_length {
                codes.resize((codes.len() + (1 << (16 - length))).min(1 << 16), (length, symbol));
            }
            left = others;
        }
        codes.resize(1 << 16, (0, 0));
        *table = codes;
        segment = &rest[symbols..];
    }
}

/// The blocks of a scan.
struct Scan {
    units: usize,
    /// For each block of a unit the tables of its first coefficient and of the others.
    blocks: Vec<(usize, usize)>,
}

impl Scan {
    /// `None` for what is no scan, or whose blocks cannot be counted in whole units.
    fn new(frame: &Frame, segment: &[u8]) -> Option<Self> {
        let count = usize::from(*segment.first()?);
        let most = |of: fn(&Component) -> usize| frame.components.iter().map(of).max();
        let (most_across, most_down) =
            (most(|component| component.across)?, most(|component| component.down)?);
        let (mut blocks, mut unit) = (Vec::new(), (8 * most_across, 8 * most_down));
        for named in segment.get(1..1 + 2 * count)?.chunks_exact(2) {
            let component = frame.components.iter().find(|component| component.id == named[0])?;
            let tables = (usize::from(named[1] >> 4), usize::from(named[1] & 15));
            if tables.0 > 3 || tables.1 > 3 {
                return None;
            }
            // The blocks of a component alone come row by row, and those beyond the picture are left out.
            let count_of = if count == 1 { 1 } else { component.across * component.down };
            if count == 1 {
                if most_across % component.across != 0 || most_down % component.down != 0 {
                    return None;
                }
                unit = (8 * most_across / component.across, 8 * most_down / component.down);
            }
            blocks.extend(std::iter::repeat_n(tables, count_of));
        }
        (!blocks.is_empty())
            .then(|| Self { units: frame.width.div_ceil(unit.0) * frame.height.div_ceil(unit.1), blocks })
    }

    /// Refuses data that ends before the last block does.
    fn check(&self, data: &[u8], tables: &Tables) -> Result<(), Fault> {
        let mut bits = Bits::new(data);
        for unit in 0..self.units {
            if tables.restart_units > 0 && unit > 0 && unit % tables.restart_units == 0 && !bits.restart() {
                return Ok(());
            }
            for &(first, others) in &self.blocks {
                match bits.skip_block(&tables.codes[0][first], &tables.codes[1][others]) {
                    Block::Whole => {}
                    Block::Missing if bits.is_at_end() => return Err(Fault::Truncated),
                    // Damaged within: how much is missing cannot be told.
                    Block::Missing | Block::Unreadable => return Ok(()),
                }
            }
        }
        Ok(())
    }
}

enum Block {
    Whole,
    Missing,
    Unreadable,
}

/// Compressed data, bit by bit, up to the next restart marker.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The bits that come next, from the highest on.
    window: u64,
    /// How many of them there are.
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, window: 0, count: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let Some(&byte) = self.data.get(self.at) else { return };
            if byte == 0xFF {
                if self.data.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.window |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Whether there is no restart marker behind the bits that are left.
    fn is_at_end(&self) -> bool {
        self.data[self.at.min(self.data.len())..].iter().all(|&byte| byte == 0xFF)
    }

    /// Goes on behind the next restart marker, if that comes now.
    fn restart(&mut self) -> bool {
        (self.window, self.count) = (0, 0);
        let is_marker = |pair: &[u8]| pair[0] == 0xFF && matches!(pair[1], 0xD0..=0xD7);
        // Bytes of padding may be left.
        let Some(skipped) = self.data[self.at..].windows(2).take(16).position(is_marker) else {
            return false;
        };
        self.at += skipped + 2;
        true
    }

    /// The symbol of the next code and as many bits behind it as its lower half says.
    fn skip_code(&mut self, codes: &Codes) -> Result<u8, Block> {
        self.fill();
        let Some(&(length, symbol)) = codes.get((self.window >> 48) as usize) else {
            return Err(Block::Unreadable);
        };
        if length == 0 {
            return Err(if self.count < 16 { Block::Missing } else { Block::Unreadable });
        }
        let used = u32::from(length) + u32::from(symbol & 15);
        if used > self.count {
            return Err(Block::Missing);
        }
        self.window <<= used;
        self.count -= used;
        Ok(symbol)
    }

    fn skip_block(&mut self, first: &Codes, others: &Codes) -> Block {
        if let Err(missing) = self.skip_code(first) {
            return missing;
        }
        let mut coefficient = 1;
        while coefficient < 64 {
            match self.skip_code(others) {
                Ok(0) => break,
                Ok(symbol) => coefficient += 1 + usize::from(symbol >> 4),
                Err(missing) => return missing,
            }
        }
        Block::Whole
    }
}
