//! `cargo xtask cuda`: the CUDA kernels through NVIDIA's compiler, and the code that launches them through the linter. No GPU is needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::check::repository_root;

/// The compiler's parts on PyPI.
const PACKAGES: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];
/// Compute capabilities that the kernels are compiled for.
const CAPABILITIES: [u32; 2] = [80, 90];

/// Arguments of `cargo xtask cuda`.
#[derive(Debug, clap::Args)]
pub(crate) struct Cuda {
    /// Compile the kernels only: no lints
    #[arg(long)]
    kernels: bool,
}

impl Cuda {
    /// Needs python3 with pip; the network, the first time.
    pub(crate) fn run(&self) -> Result<()> {
        let root = repository_root()?;
        let cache = root.join("target/cuda");
        std::fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
        let home = toolkit(&cache)?;
        for capability in CAPABILITIES {
            compile(&root, &home, &cache, capability)?;
            println!("kernels compile for capability {capability}, without spills");
        }
        if !self.kernels {
            lint(&root, &home, &cache)?;
        }
        Ok(())
    }
}

/// `CUDA_HOME`, or the compiler from PyPI, in the cache from the second time on.
fn toolkit(cache: &Path) -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CUDA_HOME") {
        return Ok(home.into());
    }
    let home = cache.join("toolkit/nvidia/cu13");
    if home.join("bin/nvcc").is_file() {
        return Ok(home);
    }
    // Beside its place first, so that half a download is never taken for a compiler.
    let (place, partial) = (cache.join("toolkit"), cache.join("toolkit.part"));
    let status = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--upgrade", "--target"])
        .arg(&partial)
        .args(PACKAGES)
        .status()
        .context("cannot run python3; set CUDA_HOME if there is a CUDA toolkit")?;
    ensure!(status.success(), "pip did not install NVIDIA's compiler");
    std::fs::rename(&partial, &place).with_context(|| place.display().to_string())?;
    Ok(home)
}

/// Compiles for one capability; an error if a kernel spills registers.
fn compile(root: &Path, home: &Path, cache: &Path, capability: u32) -> Result<()> {
    let output = Command::new(home.join("bin/nvcc"))
        .args(["-std=c++17", "-O3", "--cubin", "--ptxas-options=--warn-on-spills"])
        .args([&format!("-arch=sm_{capability}"), "-Werror=all-warnings", "-o"])
        .arg(cache.join(format!("kernels.{capability}.cubin")))
        .arg(root.join("crates/aff-ops/kernels/all.cu"))
        .output()
        .with_context(|| format!("cannot run {}", home.join("bin/nvcc").display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let spills = text.contains("spilled");
    ensure!(output.status.success() && !spills, "the kernels for capability {capability}: {}", text.trim());
    Ok(())
}

/// Clippy on the workspace with the feature; Candle's own kernels are left out.
fn lint(root: &Path, home: &Path, cache: &Path) -> Result<()> {
    let stand_in = root.join("xtask/cuda");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(stand_in.clone()).chain(std::env::split_paths(&path));
    let status = Command::new("cargo")
        .args(["clippy", "-p", "aff-ops", "-p", "aff-cli", "--all-targets"])
        .args(["--features", "aff-ops/cuda,aff-cli/cuda", "--locked", "--", "-D", "warnings"])
        .env("PATH", std::env::join_paths(paths)?)
        .env("NVCC", stand_in.join("nvcc"))
        .env("REAL_NVCC", home.join("bin/nvcc"))
        .env("CUDA_HOME", home)
        .env("CUDA_COMPUTE_CAP", CAPABILITIES[0].to_string())
        .env("CARGO_TARGET_DIR", cache.join("build"))
        .current_dir(root)
        .status()
        .context("cannot run cargo; is it in the path?")?;
    ensure!(status.success(), "clippy fails with the feature `cuda`");
    Ok(())
}
