//! How long a server is waited for, and how often it is asked again.

use std::time::Duration;

use super::{DownloadObserver, Failure};

/// Limits on time. A request whose server keeps silent ends after `tries * (connect + response)` and the pauses between.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patience {
    /// For a connection, with the look-up of the name and the handshake.
    pub connect: Duration,
    /// From a request to the end of the answer's headers.
    pub response: Duration,
    /// In a body: in each span of this length at least 1 KiB for each of its seconds must arrive.
    pub stall: Duration,
    /// How often a request is made before it is given up. A download that has got on by a megabyte counts anew.
    pub tries: u32,
    /// Before the second try, unless the server says how long; doubled before each one after it.
    pub first_pause: Duration,
    /// Longest pause, also of those that a server asks for (`Retry-After`): a server that wants a longer one is given up.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// 10 s for a connection, 20 s for an answer and for a stalled body; 4 tries with pauses from 1 s up to 60 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            tries: 4,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    patience: &'a Patience,
    failed: u32,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(patience: &'a Patience) -> Self {
        Self { patience, failed: 0 }
    }

    /// Counts anew.
    pub(crate) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits for the next try.
    ///
    /// # Errors
    /// The failure itself, if there is no next try.
    pub(crate) fn wait_after(
        &mut self,
        failure: Failure,
        file: &str,
        observer: &mut dyn DownloadObserver,
    ) -> Result<(), Failure> {
        self.failed += 1;
        let Some(pause) = self.pause_after(&failure) else { return Err(failure) };
        let problem = failure.to_string();
        tracing::warn!("{file}: {problem}; trying again in {:.1} s", pause.as_secs_f32());
        observer.retrying(file, &problem, pause);
        std::thread::sleep(pause);
        Ok(())
    }

    fn pause_after(&self, failure: &Failure) -> Option<Duration> {
        if !failure.is_transient() || self.failed >= self.patience.tries {
            return None;
        }
        let longest = self.patience.longest_pause;
        match failure.retry_after() {
            Some(pause) => (pause <= longest).then_some(pause),
            None => {
                let doubled = 2_u32.saturating_pow(self.failed - 1);
                Some(self.patience.first_pause.saturating_mul(doubled).min(longest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_asked_for_and_are_bounded() {
        let patience = Patience::default();
        let status = |seconds: Option<u64>| Failure::Status {
            code: 503,
            error_code: None,
            retry_after: seconds.map(Duration::from_secs),
        };
        let pause = |failed, seconds| Tries { patience: &patience, failed }.pause_after(&status(seconds));
        let grown: Vec<_> = (1..4).map(|failed| pause(failed, None).unwrap().as_secs()).collect();
        assert_eq!(grown, [1, 2, 4]);
        assert_eq!(pause(4, None), None, "four tries were made");
        assert_eq!(pause(1, Some(7)), Some(Duration::from_secs(7)));
        assert_eq!(pause(1, Some(61)), None, "longer than one would wait");
        let patient = Patience { tries: 100, ..Patience::default() };
        let late = Tries { patience: &patient, failed: 90 }.pause_after(&status(None));
        assert_eq!(late, Some(Duration::from_secs(60)));
        let refused = Failure::Status { code: 404, error_code: None, retry_after: None };
        assert_eq!(Tries { patience: &patience, failed: 1 }.pause_after(&refused), None);
    }
}
