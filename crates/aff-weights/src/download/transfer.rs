//! A body that becomes a file: whole, of the announced size, resumed where it was interrupted.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use super::{Address, Answer, Client, DownloadObserver, Failure, Patience, Tries};

const CHUNK_BYTES: usize = 1 << 18;
/// A body that brings less than this in each second is taken for a stalled one.
const LEAST_BYTES_PER_SECOND: f64 = 1024.0;
/// Progress after which failures count anew.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A file to download.
pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) patience: &'a Patience,
    pub(crate) address: Address,
    /// What messages call it.
    pub(crate) file: &'a str,
    pub(crate) size: u64,
    pub(crate) resume: Resume,
}

/// What becomes of the beginning of a file that an earlier download left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// It is kept: a digest tells whether the parts belong together.
    ByDigest,
    /// It is kept if the server still has the version of this `ETag`, of which it is.
    IfUnchanged(String),
    /// It is thrown away: nothing could tell whether the parts belong together.
    Never,
}

impl Transfer<'_> {
    /// Downloads into a file; what an interrupted download left there is continued.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses, or sends less or more than announced, as often as it is tried.
    pub(crate) fn run(&self, partial: &Path, observer: &mut dyn DownloadObserver) -> Result<(), Failure> {
        let mut tries = Tries::new(self.patience);
        loop {
            if self.resume == Resume::Never {
                std::fs::remove_file(partial).ok();
            }
            let before = length(partial);
            let Err(failure) = self.attempt(partial, observer) else { return Ok(()) };
            if length(partial) >= before + PROGRESS_BYTES {
                tries.reset();
            }
            tries.wait_after(failure, self.file, observer)?;
        }
    }

    fn attempt(&self, partial: &Path, observer: &mut dyn DownloadObserver) -> Result<(), Failure> {
        let kept = length(partial);
        let mut done = if kept > self.size { 0 } else { kept };
        if done < self.size || !partial.exists() {
            let answer = self.ask(done)?;
            done = match self.first_byte(&answer, done) {
                Ok(first) => first,
                Err(failure) => {
                    // Nothing of the server's other version may remain.
                    std::fs::remove_file(partial).ok();
                    return Err(failure);
                }
            };
            observer.started(self.file, done, self.size);
            self.receive(answer, partial, done, observer)?;
        }
        Ok(())
    }

    fn ask(&self, done: u64) -> Result<Answer, Failure> {
        let mut headers = Vec::new();
        if done > 0 {
            headers.push(("Range", format!("bytes={done}-")));
            if let Resume::IfUnchanged(etag) = &self.resume {
                headers.push(("If-Range", etag.clone()));
            }
        }
        self.client.get(&self.address, &headers)?.expect(|status| matches!(status, 200 | 206 | 416))
    }

    /// Which byte the body starts with. 206 continues, 200 begins again.
    fn first_byte(&self, answer: &Answer, asked: u64) -> Result<u64, Failure> {
        let first = match answer.status {
            206 => {
                let range = answer.header("content-range").unwrap_or("");
                let expected = format!("bytes {asked}-{}/{}", self.size.saturating_sub(1), self.size);
                if range != expected {
                    return Err(Failure::broken(format!(
                        "the server continues with another part ({range:?})"
                    )));
                }
                asked
            }
            416 => return Err(Failure::broken("the server cannot continue where it was interrupted")),
            _ => 0,
        };
        let remaining = self.size - first;
        if answer.header("content-encoding").is_some_and(|coding| coding != "identity") {
            return Err(Failure::Invalid(
                "the server sends it in another coding than was asked for".to_owned(),
            ));
        }
        match answer.header("content-length").and_then(|length| length.parse::<u64>().ok()) {
            Some(length) if length != remaining => {
                Err(Failure::Invalid(format!("the server sends {length} bytes, but announced {remaining}")))
            }
            _ => Ok(first),
        }
    }

    fn receive(
        &self,
        answer: Answer,
        partial: &Path,
        mut done: u64,
        observer: &mut dyn DownloadObserver,
    ) -> Result<(), Failure> {
        let mut file = open_at(partial, done).map_err(Failure::file(partial, "write it"))?;
        let mut body = answer.body.into_reader();
        let mut pace = Pace::new(self.patience);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = body.read(&mut chunk).map_err(|error| Failure::from(ureq::Error::from(error)))?;
            if length == 0 {
                break;
            }
            done += length as u64;
            if done > self.size {
                drop(file);
                std::fs::remove_file(partial).ok();
                return Err(Failure::Invalid(format!(
                    "the server sends more than the {} bytes announced",
                    self.size
                )));
            }
            file.write_all(&chunk[..length]).map_err(Failure::file(partial, "write it"))?;
            observer.advanced(self.file, done);
            pace.check(length)?;
        }
        if done < self.size {
            return Err(Failure::broken(format!("the body ends after {done} of {} bytes", self.size)));
        }
        file.sync_all().map_err(Failure::file(partial, "write it"))
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |facts| facts.len())
}

/// A file whose first `done` bytes are kept.
fn open_at(path: &Path, done: u64) -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_len(done)?;
    file.seek(SeekFrom::Start(done))?;
    Ok(file)
}

/// Notices bodies that trickle.
struct Pace<'a> {
    patience: &'a Patience,
    since: Instant,
    bytes: usize,
}

impl<'a> Pace<'a> {
    fn new(patience: &'a Patience) -> Self {
        Self { patience, since: Instant::now(), bytes: 0 }
    }

    fn check(&mut self, length: usize) -> Result<(), Failure> {
        self.bytes += length;
        let elapsed = self.since.elapsed();
        if elapsed < self.patience.stall {
            return Ok(());
        }
        let seconds = elapsed.as_secs_f64();
        if (self.bytes as f64) < seconds * LEAST_BYTES_PER_SECOND {
            return Err(Failure::broken(format!("only {} bytes arrived in {seconds:.1} s", self.bytes)));
        }
        *self = Self::new(self.patience);
        Ok(())
    }
}
