//! Files that are written whole or not at all.

use std::io::Write;
use std::path::Path;

use crate::WeightsError;

/// Writes a file beside its target and renames it into place.
pub(crate) fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), WeightsError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".aff-");
        // Temporary files are private by default; results are not secrets.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(WeightsError::io(path, "write it"))
}
