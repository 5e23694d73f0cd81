//! PNG, JPEG, WebP, TIFF, BMP: whatever the bytes are, they are a picture or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = aff_vision::decode(bytes) {
        // What has no pixels cannot be resized.
        assert!(image.width() > 0 && image.height() > 0);
    }
});
