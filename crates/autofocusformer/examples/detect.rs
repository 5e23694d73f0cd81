//! Finds objects in a photo: `cargo run --release --example detect -- MODEL PHOTO OVERLAY.png`
use autofocusformer::{Detector, Device, vision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [model, photo, overlay]: [String; 3] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "MODEL PHOTO OVERLAY.png")?;
    let detector = Detector::from_pretrained(model, &Device::Cpu)?;
    let photo = vision::open(photo)?;
    let found = detector.detect(&photo)?;
    vision::write_png(overlay, &found.overlay(&photo)?)?;
    Ok(())
}
