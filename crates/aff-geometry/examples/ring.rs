//! Draws the clusters of a ring of points as an SVG: `cargo run -p aff-geometry --example ring > ring.svg`
//!
//! Members of a cluster share a colour; a line through the clusters' centres shows the order of the curve. Give the name of
//! another curve to see it: `hilbert` or `peano`.
#![allow(clippy::print_stdout, reason = "the picture goes to standard output")]

use std::error::Error;
use std::fmt::Write;

use aff_geometry::{Canvas, ClusterOptions, Curve, cluster};

const SIDE: i32 = 64;
const CLUSTER_SIZE: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let curve = match std::env::args().nth(1).as_deref() {
        None | Some("scanline") => Curve::Scanline,
        Some("hilbert") => Curve::Hilbert,
        Some("peano") => Curve::Peano,
        Some(other) => {
            return Err(format!("{other:?} is no curve; expected scanline, hilbert or peano").into());
        }
    };
    let pos = ring();
    let canvas = Canvas::new(SIDE as u32, SIDE as u32)?;
    let clusters = cluster(&pos, canvas, &ClusterOptions { curve, ..ClusterOptions::new(CLUSTER_SIZE) })?;

    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {0} {0}" width="768">"#,
        SIDE + 1
    )?;
    writeln!(svg, r#"<rect x="-1" y="-1" width="{0}" height="{0}" fill="white"/>"#, SIDE + 1)?;
    for k in 0..clusters.len() {
        // The golden angle: neighbours on the curve get hues far apart.
        let hue = 137.5 * k as f64 % 360.0;
        for &token in clusters.members(k) {
            let [x, y] = pos[token as usize];
            writeln!(svg, r#"<circle cx="{x}" cy="{y}" r="0.45" fill="hsl({hue:.0},70%,50%)"/>"#)?;
        }
    }
    let path: Vec<String> = clusters.centers().iter().map(|[x, y]| format!("{x:.2},{y:.2}")).collect();
    writeln!(
        svg,
        r##"<polyline points="{}" fill="none" stroke="#222" stroke-width="0.15"/>"##,
        path.join(" ")
    )?;
    println!("{svg}</svg>");
    Ok(())
}

/// Every position near a circle, and one in four each way elsewhere: dense where the content is.
fn ring() -> Vec<[i32; 2]> {
    let is_kept = |&[x, y]: &[i32; 2]| {
        let middle = f64::from(SIDE - 1) / 2.0;
        let radius = (f64::from(x) - middle).hypot(f64::from(y) - middle);
        (radius - 20.0).abs() < 3.5 || (x % 4 == 0 && y % 4 == 0)
    };
    (0..SIDE * SIDE).map(|i| [i % SIDE, i / SIDE]).filter(is_kept).collect()
}
