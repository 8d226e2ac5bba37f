//! `lock` in models: loom's mutex.

use std::ops::{Deref, DerefMut};

use loom::sync::{Mutex, MutexGuard};

use crate::wait::host::{Here, Inside};

pub(crate) struct Lock<T> {
    mutex: Mutex<T>,
}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Lock { mutex: Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        LockGuard { lock: self, guard: self.mutex.lock().unwrap() }
    }

    pub(crate) fn lock_within(&self) -> LockGuard<'_, T> {
        self.lock()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.mutex.get_mut().unwrap()
    }
}

pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    guard: MutexGuard<'a, T>,
}

impl<'a, T> LockGuard<'a, T> {
    pub(crate) fn here(&self) -> Here {
        Here
    }

    pub(crate) fn lock(&self) -> &'a Lock<T> {
        self.lock
    }

    pub(crate) fn unlock_inside(self) -> Inside {
        Inside
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
