//! Metrics as JSON lines.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::TrainError;

/// A file that a line is added to for every update and validation.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the file and drops what was written after the given step: a run that is resumed writes it again.
    pub(crate) fn open(path: &Path, step: u64) -> Result<Self, TrainError> {
        let kept = if path.exists() { lines_until(path, step)? } else { Vec::new() };
        aff_files::write_atomically(path, &kept).map_err(TrainError::io(path, "write it"))?;
        let file = OpenOptions::new().append(true).open(path).map_err(TrainError::io(path, "open it"))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Adds a line. What a run is worth lies in its checkpoints: a log that cannot be written, because the disk is full or whoever
    /// read it has gone, is told of and does not end it.
    pub(crate) fn write(&mut self, report: &impl Serialize) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(report).unwrap_or_default();
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(TrainError::io(&self.path, "write it"))
    }
}

/// The lines of a log up to a step.
fn lines_until(path: &Path, step: u64) -> Result<Vec<u8>, TrainError> {
    let file = aff_files::open_regular(path)?;
    let mut kept = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(TrainError::io(path, "read it"))?;
        let text = String::from_utf8_lossy(&line);
        if step_of(&text).is_some_and(|of| of <= step) {
            kept.extend_from_slice(&line);
            kept.push(b'\n');
        }
    }
    Ok(kept)
}

/// The step of a line; none if the line is damaged, as one may be that a killed run was writing.
pub(crate) fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_drops_what_will_be_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"ste").unwrap();
        let mut log = MetricsLog::open(&path, 2).unwrap();
        log.write(&serde_json::json!({"step": 3, "new": true})).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            ["{\"step\":1}", "{\"step\":2}", "{\"new\":true,\"step\":3}"]
        );
    }

    impl MetricsLog {
        /// A log that nothing can be written to, as one on a full disk.
        pub(crate) fn closed(path: &Path) -> Self {
            std::fs::write(path, "").unwrap();
            Self { path: path.to_path_buf(), file: File::open(path).unwrap() }
        }
    }
}
