//! Balanced clusters, neighbourhoods and selection of irregular 2-D points. Simple and quadratic for now.
#![allow(missing_docs)]
use std::fmt;
use std::ops::Range;

#[derive(Debug, Clone, PartialEq)]
pub struct GeometryError(String);
impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for GeometryError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Canvas {
    width: u32,
    height: u32,
}
impl Canvas {
    pub fn new(width: u32, height: u32) -> Result<Self, GeometryError> {
        if width == 0 || height == 0 {
            return Err(GeometryError("empty canvas".into()));
        }
        Ok(Self { width, height })
    }
    pub fn width(&self) -> u32 {
        self.width
    }
    pub fn height(&self) -> u32 {
        self.height
    }
}
pub trait Coordinate: Copy + Send + Sync {
    fn to_f64(self) -> f64;
}
impl Coordinate for i32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}
impl Coordinate for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

pub struct ClusterOptions {
    pub cluster_size: usize,
}
impl ClusterOptions {
    pub fn new(cluster_size: usize) -> Self {
        Self { cluster_size }
    }
}
#[derive(Debug, Clone)]
pub struct Clusters {
    order: Vec<u32>,
    cluster_size: usize,
    centers: Vec<[f32; 2]>,
}
impl Clusters {
    pub fn order(&self) -> &[u32] {
        &self.order
    }
    pub fn len(&self) -> usize {
        self.centers.len()
    }
    pub fn is_empty(&self) -> bool {
        self.centers.is_empty()
    }
    pub fn cluster_size(&self) -> usize {
        self.cluster_size
    }
    pub fn num_tokens(&self) -> usize {
        self.order.len()
    }
    pub fn range(&self, k: usize) -> Range<usize> {
        k * self.cluster_size..((k + 1) * self.cluster_size).min(self.order.len())
    }
    pub fn centers(&self) -> &[[f32; 2]] {
        &self.centers
    }
}
pub fn cluster<T: Coordinate>(
    pos: &[[T; 2]],
    canvas: Canvas,
    o: &ClusterOptions,
) -> Result<Clusters, GeometryError> {
    let (w, h) = (f64::from(canvas.width), f64::from(canvas.height));
    let k = pos.len().div_ceil(o.cluster_size);
    let l = (w * h / k as f64).sqrt();
    let rows = ((h / l).round_ties_even() as usize).max(1);
    let cols = ((w / l).round_ties_even() as usize).max(1);
    let (cx, cy) = (w / cols as f64, h / rows as f64);
    let cell = |rank: usize| {
        let y = rank / cols;
        let x = rank % cols;
        (if y % 2 == 0 { x } else { cols - 1 - x }, y)
    };
    let anchor = |rank: usize| {
        let (i, j) = cell(rank);
        [i as f64 * cx + cx / 2.0 - 0.5, j as f64 * cy + cy / 2.0 - 0.5]
    };
    let last = rows * cols - 1;
    let ext = |a: [f64; 2], b: [f64; 2]| [2.0 * a[0] - b[0], 2.0 * a[1] - b[1]];
    let d2 = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
    let mut keyed: Vec<(usize, f64, [f64; 2], u32)> = pos
        .iter()
        .enumerate()
        .map(|(i, p)| {
            let p = [p[0].to_f64(), p[1].to_f64()];
            let x = (p[0] * cols as f64 / w).floor() as usize;
            let y = (p[1] * rows as f64 / h).floor() as usize;
            let rank = y * cols + if y % 2 == 0 { x } else { cols - 1 - x };
            let a = anchor(rank);
            let (prev, next) = if last == 0 {
                ([a[0] - cx, a[1]], [a[0] + cx, a[1]])
            } else {
                (
                    if rank == 0 { ext(a, anchor(1)) } else { anchor(rank - 1) },
                    if rank == last { ext(a, anchor(last - 1)) } else { anchor(rank + 1) },
                )
            };
            (rank, d2(p, prev) / (d2(p, next) + 1e-5), p, i as u32)
        })
        .collect();
    keyed.sort_by(|a, b| {
        a.0.cmp(&b.0)
            .then(a.1.total_cmp(&b.1))
            .then(a.2[1].total_cmp(&b.2[1]))
            .then(a.2[0].total_cmp(&b.2[0]))
    });
    let order: Vec<u32> = keyed.iter().map(|k| k.3).collect();
    let centers = keyed
        .chunks(o.cluster_size)
        .map(|c| {
            let n = c.len() as f64;
            [
                (c.iter().map(|k| k.2[0]).sum::<f64>() / n) as f32,
                (c.iter().map(|k| k.2[1]).sum::<f64>() / n) as f32,
            ]
        })
        .collect();
    Ok(Clusters { order, cluster_size: o.cluster_size, centers })
}
pub fn cluster_batch<T: Coordinate>(
    images: &[&[[T; 2]]],
    canvas: Canvas,
    o: &ClusterOptions,
) -> Result<Vec<Clusters>, GeometryError> {
    images.iter().map(|i| cluster(i, canvas, o)).collect()
}
pub fn clusters_per_neighborhood(nbhd: usize, m: usize, k: usize) -> usize {
    ((nbhd as f64 / m as f64).round_ties_even() as usize).clamp(1, k.max(1))
}
#[derive(Debug, Clone)]
pub struct NearestClusters {
    per: usize,
    flat: Vec<u32>,
}
impl NearestClusters {
    pub fn per_token(&self) -> usize {
        self.per
    }
    pub fn as_slice(&self) -> &[u32] {
        &self.flat
    }
}
fn nearest<P: Coordinate, Q: Coordinate>(points: &[[P; 2]], queries: &[[Q; 2]], k: usize) -> Vec<u32> {
    let k = k.min(points.len());
    let mut out = Vec::new();
    for q in queries {
        let mut all: Vec<(f64, u32)> = points
            .iter()
            .enumerate()
            .map(|(i, p)| {
                ((p[0].to_f64() - q[0].to_f64()).powi(2) + (p[1].to_f64() - q[1].to_f64()).powi(2), i as u32)
            })
            .collect();
        let by = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if k < all.len() {
            all.select_nth_unstable_by(k - 1, by);
            all.truncate(k);
        }
        all.sort_by(by);
        out.extend(all.iter().map(|a| a.1));
    }
    out
}
pub fn nearest_clusters<T: Coordinate>(
    pos: &[[T; 2]],
    c: &Clusters,
    r: usize,
) -> Result<NearestClusters, GeometryError> {
    Ok(NearestClusters { per: r, flat: nearest(c.centers(), pos, r) })
}
#[derive(Debug, Clone)]
pub struct Neighbors {
    k: usize,
    flat: Vec<u32>,
}
impl Neighbors {
    pub fn k(&self) -> usize {
        self.k
    }
    pub fn as_slice(&self) -> &[u32] {
        &self.flat
    }
    pub fn row(&self, i: usize) -> &[u32] {
        &self.flat[i * self.k..(i + 1) * self.k]
    }
}
pub fn k_nearest<P: Coordinate, Q: Coordinate>(
    points: &[[P; 2]],
    queries: &[[Q; 2]],
    k: usize,
) -> Result<Neighbors, GeometryError> {
    PointIndex::new(points)?.k_nearest(queries, k)
}
pub struct PointIndex {
    points: Vec<[f64; 2]>,
}
impl Coordinate for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}
impl PointIndex {
    pub fn new<P: Coordinate>(points: &[[P; 2]]) -> Result<Self, GeometryError> {
        Ok(Self { points: points.iter().map(|p| [p[0].to_f64(), p[1].to_f64()]).collect() })
    }
    pub fn k_nearest<Q: Coordinate>(&self, queries: &[[Q; 2]], k: usize) -> Result<Neighbors, GeometryError> {
        Ok(Neighbors { k: k.min(self.points.len()), flat: nearest(&self.points, queries, k) })
    }
}
#[derive(Debug, Clone, Copy)]
pub struct SelectionOptions {
    pub stride: u32,
    pub rate: f64,
    pub alpha: f64,
}
#[derive(Debug, Clone)]
pub struct Selection {
    pub kept: Vec<u32>,
}
pub fn select<T: Coordinate>(
    pos: &[[T; 2]],
    _canvas: Canvas,
    scores: &[f32],
    o: &SelectionOptions,
) -> Result<Selection, GeometryError> {
    let div = |p: &[T; 2], t: f64| p[0].to_f64() % t == 0.0 && p[1].to_f64() % t == 0.0;
    let near = if pos.len() > 1 { nearest(pos, pos, 2) } else { vec![0, 0] };
    let mut rest = Vec::new();
    let mut kept = Vec::new();
    for (i, p) in pos.iter().enumerate() {
        if div(p, 2.0 * f64::from(o.stride)) {
            kept.push(i as u32);
            continue;
        }
        let t = if o.stride == 2 {
            2.0
        } else {
            let q = pos[near[2 * i + 1] as usize];
            let d =
                ((p[0].to_f64() - q[0].to_f64()).powi(2) + (p[1].to_f64() - q[1].to_f64()).powi(2)).sqrt();
            2f64.powf(d.log2().ceil() + 1.0)
        };
        let g = if div(p, t) { 1.0f32 } else { 0.0 };
        rest.push((g + o.alpha as f32 * scores[i], i as u32));
    }
    let raster = |i: u32| {
        let p = pos[i as usize];
        (p[1].to_f64(), p[0].to_f64())
    };
    rest.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then(raster(a.1).partial_cmp(&raster(b.1)).unwrap_or(std::cmp::Ordering::Equal))
    });
    let keep = ((pos.len() as f64 * o.rate) as usize).max(kept.len()).min(pos.len());
    let more = keep - kept.len();
    kept.extend(rest.iter().take(more).map(|r| r.1));
    kept.sort_by(|a, b| raster(*a).partial_cmp(&raster(*b)).unwrap_or(std::cmp::Ordering::Equal));
    Ok(Selection { kept })
}
pub fn relative_features(dx: f32, dy: f32) -> [f32; 5] {
    let d = (dx * dx + dy * dy).sqrt();
    if d == 0.0 { [dx, dy, 0.0, 0.0, 0.0] } else { [dx, dy, d, dy / d, dx / d] }
}
