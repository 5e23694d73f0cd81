//! COCO's compressed form of run lengths: printable ASCII, 5 bits a character, each count from the fourth on as the
//! difference to the one two before it.

use serde::{Deserialize, Serialize};

use super::Rle;
use crate::{ImageSize, VisionError};

/// Characters are `'0'` plus six bits: five of the number, low ones first, and one that says whether more follow.
const OFFSET: u8 = b'0';
const MORE: u8 = 0x20;

/// A mask as COCO's JSON has it.
///
/// ```
/// use aff_vision::{CocoRle, ImageSize, Rle};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let coco: CocoRle = serde_json::from_str(r#"{"size": [2, 3], "counts": "231"}"#)?;
/// let mask = Rle::try_from(&coco)?;
/// assert_eq!(mask, Rle::from_bitmap(ImageSize::new(2, 3), &[false, true, true, false, true, false])?);
/// assert_eq!(CocoRle::from(&mask), coco);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoRle {
    /// Height and width.
    pub size: [u32; 2],
    /// What [`Rle::to_coco`] makes.
    pub counts: String,
}

impl From<&Rle> for CocoRle {
    fn from(mask: &Rle) -> Self {
        Self { size: [mask.size().height, mask.size().width], counts: mask.to_coco() }
    }
}

impl TryFrom<&CocoRle> for Rle {
    type Error = VisionError;

    fn try_from(coco: &CocoRle) -> Result<Self, VisionError> {
        let [height, width] = coco.size;
        Self::from_coco(ImageSize::new(height, width), &coco.counts)
    }
}

impl Rle {
    /// The `counts` string of COCO's `{"size": [height, width], "counts": "..."}`, as pycocotools writes it.
    #[must_use]
    pub fn to_coco(&self) -> String {
        let mut text = String::new();
        for (index, &count) in self.counts.iter().enumerate() {
            // pycocotools starts with the differences at the fourth count, not at the third.
            let before = if index > 2 { i64::from(self.counts[index - 2]) } else { 0 };
            let mut rest = i64::from(count) - before;
            loop {
                let bits = (rest & 0x1f) as u8;
                rest >>= 5;
                // The highest bit written is the sign of everything above it.
                let done = if bits & 0x10 == 0 { rest == 0 } else { rest == -1 };
                text.push(char::from(OFFSET + if done { bits } else { bits | MORE }));
                if done {
                    break;
                }
            }
        }
        text
    }

    /// Reads such a string for a mask of the given size.
    ///
    /// # Errors
    /// Characters outside `'0'..='o'`, a number that does not end, is negative or too large, and runs that do not
    /// add up to the number of pixels. Memory is bounded by the length of the string.
    ///
    /// ```
    /// use aff_vision::{ImageSize, Rle};
    ///
    /// let error = Rle::from_coco(ImageSize::new(2, 3), "2 1").unwrap_err().to_string();
    /// assert!(error.ends_with("character 1 is ' '; expected '0' to 'o'"), "{error}");
    /// ```
    pub fn from_coco(size: ImageSize, text: &str) -> Result<Self, VisionError> {
        let refuse = |reason: String| VisionError::RunLengths { size, reason };
        let mut counts: Vec<u32> = Vec::new();
        let (mut number, mut shift, mut ended) = (0i64, 0, true);
        for (at, character) in text.chars().enumerate() {
            let code = u8::try_from(character).ok().and_then(|byte| byte.checked_sub(OFFSET));
            let Some(code) = code.filter(|&code| code < 0x40) else {
                return Err(refuse(format!("character {at} is {character:?}; expected '0' to 'o'")));
            };
            // Seven characters hold 35 bits, which is enough for the difference of two 32-bit counts.
            if shift > 30 {
                return Err(refuse(format!("the number that ends at character {at} or later is too long")));
            }
            number |= i64::from(code & 0x1f) << shift;
            shift += 5;
            ended = code & MORE == 0;
            if !ended {
                continue;
            }
            if code & 0x10 != 0 {
                number |= -1 << shift;
            }
            let index = counts.len();
            let count = number + if index > 2 { i64::from(counts[index - 2]) } else { 0 };
            let count = u32::try_from(count)
                .map_err(|_| refuse(format!("run {index} is {count} long; expected 0 to {}", u32::MAX)))?;
            counts.push(count);
            (number, shift) = (0, 0);
        }
        if !ended {
            return Err(refuse("the last number is cut off".to_owned()));
        }
        Self::from_counts(size, &counts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,40}|\\PC{0,10}|[0-o]{0,40}", height in 0u32..70_000, width in 0u32..70_000) {
            let _ = Rle::from_coco(ImageSize::new(height, width), &text);
        }
    }

    #[test]
    fn hostile_texts_are_errors() {
        let size = ImageSize::new(10, 10);
        for (text, part) in [
            ("", "add up to 0"),
            ("T", "the last number is cut off"),
            ("oooooooooooo", "too long"),
            ("O", "run 0 is -1 long"),
            ("0123~", "character 4 is '~'"),
            ("01\u{e9}", "character 2 is 'é'"),
            ("ooooooO", "run 0 is -1 long"),
            ("11", "add up to 2 pixels; expected 100"),
        ] {
            let error = Rle::from_coco(size, text).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
