//! Spawning on a runtime from outside, without keeping it alive.

use std::fmt;
use std::sync::{Arc, RwLock};

use gvt_traits::SchedError;

use crate::cancel::token::CancellationToken;
use crate::kernel::worker::core::CoreBase;
use crate::kernel::worker::section;
use crate::thread::join_handle::JoinHandle;
use crate::thread::{self, Refused};

/// Spawns green threads from outside the runtime. Cheap to clone; does not keep the runtime alive.
///
/// ```
/// let runtime = gvt::Runtime::new(Default::default());
/// let handle = runtime.handle();
/// let other = std::thread::spawn(move || handle.spawn(|_| gvt::is_in_gvthread()).join().unwrap());
/// assert!(other.join().unwrap());
/// ```
#[derive(Clone)]
pub struct Handle {
    gate: Arc<RwLock<Gate>>,
}

/// The core, or null once the runtime closes.
struct Gate(*const CoreBase);

// SAFETY: the core is `Sync`, and alive while the gate holds it (its owner shuts the gate before it frees the
// core).
unsafe impl Send for Gate {}
// SAFETY: as above.
unsafe impl Sync for Gate {}

impl Handle {
    /// A handle on a runtime that is open.
    ///
    /// # Safety
    ///
    /// **C1**: `core` stays alive until [`shut`](Self::shut).
    pub(crate) unsafe fn new(core: *const CoreBase) -> Self {
        Handle { gate: Arc::new(RwLock::new(Gate(core))) }
    }

    /// Spawns a green thread on the handle's runtime; see [`spawn`](crate::spawn()). Its token is a child of
    /// the runtime's, and not of the calling thread's.
    ///
    /// Context: any OS thread or green thread.
    ///
    /// # Panics
    ///
    /// With the sentence of the error that [`try_spawn`](Self::try_spawn) returns.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.try_spawn(f) {
            Ok(handle) => handle,
            Err(error) => thread::refused(error),
        }
    }

    /// Spawns a green thread on the handle's runtime.
    ///
    /// # Errors
    ///
    /// [`SchedError::ShutDown`] if the runtime has ended or is ending; else as
    /// [`try_spawn`](crate::try_spawn).
    pub fn try_spawn<F, T>(&self, f: F) -> Result<JoinHandle<T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_with(None, f)
    }

    /// Spawns a thread with the builder's name, priority, stack and so on.
    ///
    /// # Errors
    ///
    /// As [`try_spawn`](Self::try_spawn) and [`Builder::spawn`](crate::Builder::spawn).
    pub fn spawn_builder<F, T>(&self, builder: crate::Builder, f: F) -> Result<JoinHandle<T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_with(Some(builder.into_options()?), thread::staying(f))
    }

    fn spawn_with<F, T>(&self, options: Option<thread::Options>, f: F) -> Result<JoinHandle<T>, SchedError>
    where
        F: FnOnce(&CancellationToken) -> T + Send + 'static,
        T: Send + 'static,
    {
        section::demand_outside();
        let spawned = {
            // No preemption while the gate is held: the closing thread may wait for its holder.
            let _section = section::Section::new();
            let gate = self.gate.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            // SAFETY: alive while the gate holds it.
            match unsafe { gate.0.as_ref() } {
                // SAFETY: C1: `'static`. C2: none. C3: the gate is held.
                Some(core) => unsafe { thread::spawn_on(core, None, options, f) },
                None => Err(Refused(SchedError::ShutDown, f)),
            }
        };
        // A refused closure is dropped here, after the gate's lock: its destructor is user code.
        spawned.map_err(|Refused(error, _)| error)
    }

    /// Shuts the gate: this handle and its clones spawn nothing from here on.
    pub(crate) fn shut(&self) {
        // As in `spawn_with`: a thread that waits for the gate inside the runtime keeps its worker.
        let _steady = crate::protocol::preempt_count::Steady::new();
        self.gate.write().unwrap_or_else(|poisoned| poisoned.into_inner()).0 = std::ptr::null();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
