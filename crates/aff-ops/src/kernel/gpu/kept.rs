//! What is made once for a device and kept: geometry, and what a forward pass leaves for the backward pass.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, bail};

/// Memory of devices that belongs to a piece of geometry or to an operator, by device and by what it is. Clones share it.
///
/// This is the only way by which geometry comes to a device: the first operator of a stage uploads what it needs, those after it find it.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Entry>>>);

struct Entry {
    device: usize,
    what: &'static str,
    memory: Box<dyn Any + Send + Sync>,
}

impl Kept {
    /// What `make` made for this device, now or before.
    pub(crate) fn once<T: Clone + Send + Sync + 'static>(
        &self,
        device: usize,
        what: &'static str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|entry| (entry.device, entry.what) == (device, what));
        if let Some(found) = found {
            let Some(memory) = found.memory.downcast_ref::<T>() else {
                bail!("{what} of device {device} is kept as something else")
            };
            return Ok(memory.clone());
        }
        let memory = make()?;
        kept.push(Entry { device, what, memory: Box::new(memory.clone()) });
        Ok(memory)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// What is kept does not tell geometry apart.
impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_made_once_for_a_device() {
        let kept = Kept::default();
        let made = std::cell::Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            Ok(made.get())
        };
        assert_eq!(kept.once(0, "lists", make).unwrap(), 1);
        // A clone of the geometry has it too.
        assert_eq!(kept.clone().once(0, "lists", make).unwrap(), 1);
        assert_eq!(kept.once(1, "lists", make).unwrap(), 2);
        assert_eq!(kept.once(0, "positions", make).unwrap(), 3);
        let error = kept.once(0, "lists", || Ok("other")).unwrap_err().to_string();
        assert!(error.contains("lists of device 0"), "{error}");
        // What failed is tried again.
        assert!(kept.once::<i32>(2, "lists", || bail!("no memory")).is_err());
        assert_eq!(kept.once(2, "lists", make).unwrap(), 4);
    }
}
