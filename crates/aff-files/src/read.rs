//! Reading what others made: nothing without an end, nothing larger than expected.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::FileError;
use crate::target::kind_of;

/// Opens a regular file. Devices, pipes and folders are refused before they are opened: opening a pipe waits for a writer, and some
/// devices act.
///
/// # Errors
/// [`FileError::NotAFile`]; [`FileError::Io`] for a file that is missing or may not be read.
///
/// ```
/// let error = aff_files::open_regular(std::env::temp_dir()).unwrap_err().to_string();
/// assert!(error.ends_with("it is a folder; expected a file"), "{error}");
/// ```
pub fn open_regular(path: impl AsRef<Path>) -> Result<File, FileError> {
    Ok(open(path.as_ref())?.0)
}

/// The file and its length.
fn open(path: &Path) -> Result<(File, u64), FileError> {
    let failed = || FileError::io(format!("{path:?}"), "read it");
    let check = |metadata: &std::fs::Metadata| {
        if metadata.is_file() {
            return Ok(metadata.len());
        }
        Err(FileError::NotAFile { path: path.to_path_buf(), found: kind_of(metadata.file_type()) })
    };
    check(&std::fs::metadata(path).map_err(failed())?)?;
    let file = File::open(path).map_err(failed())?;
    // Again: the name may have been given to something else in between.
    let length = check(&file.metadata().map_err(failed())?)?;
    Ok((file, length))
}

/// The bytes of a regular file of at most `limit` bytes.
///
/// # Errors
/// Those of [`open_regular`]; [`FileError::TooLarge`], before anything is read.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("four");
/// std::fs::write(&path, b"1234").unwrap();
/// assert_eq!(aff_files::read(&path, 4).unwrap(), b"1234");
/// let error = aff_files::read(&path, 3).unwrap_err().to_string();
/// assert!(error.ends_with("4 bytes or more; expected at most 3"), "{error}");
/// ```
pub fn read(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, FileError> {
    let path = path.as_ref();
    let (file, length) = open(path)?;
    if length > limit {
        return Err(FileError::TooLarge { origin: format!("{path:?}"), found: length, limit });
    }
    // The length may be wrong (0 under /proc) or grow: what is read is limited too.
    read_with_capacity(file, &format!("{path:?}"), limit, length)
}

/// The text of a regular file of at most `limit` bytes.
///
/// # Errors
/// Those of [`read`]; [`FileError::NotText`] where it is not UTF-8.
pub fn read_to_string(path: impl AsRef<Path>, limit: u64) -> Result<String, FileError> {
    let path = path.as_ref();
    String::from_utf8(read(path, limit)?).map_err(|error| FileError::NotText {
        origin: format!("{path:?}"),
        at: error.utf8_error().valid_up_to(),
    })
}

/// Everything from a stream of at most `limit` bytes, such as standard input; errors call it `origin`.
///
/// # Errors
/// [`FileError::TooLarge`] as soon as one byte more arrives; [`FileError::Io`].
///
/// ```
/// assert_eq!(aff_files::read_stream(&b"abc"[..], "standard input", 3).unwrap(), b"abc");
/// let error = aff_files::read_stream(std::io::repeat(0), "standard input", 1000).unwrap_err().to_string();
/// assert_eq!(error, "standard input: 1001 bytes or more; expected at most 1000");
/// ```
pub fn read_stream(reader: impl Read, origin: &str, limit: u64) -> Result<Vec<u8>, FileError> {
    read_with_capacity(reader, origin, limit, 0)
}

fn read_with_capacity(
    reader: impl Read,
    origin: &str,
    limit: u64,
    length: u64,
) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::with_capacity(length as usize);
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(FileError::io(origin, "read it"))?;
    let found = bytes.len() as u64;
    if found > limit {
        return Err(FileError::TooLarge { origin: origin.to_owned(), found, limit });
    }
    Ok(bytes)
}
