//! A queue between threads that is bounded by the size of what waits in it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

/// Things of very different size, one megabyte of them or a single one.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    limit: usize,
}

struct State<T> {
    waiting: VecDeque<(T, usize)>,
    size: usize,
    open: bool,
}

impl<T> Queue<T> {
    pub fn new(limit: usize) -> Self {
        Queue {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                size: 0,
                open: true,
            }),
            changed: Condvar::new(),
            limit,
        }
    }

    /// Adds a thing once there is room for it; one that is larger than the whole queue waits until
    /// that is empty.
    pub fn push(&self, thing: T, size: usize) {
        let mut state = self.lock();
        while state.open && !state.waiting.is_empty() && state.size + size > self.limit {
            state = self.wait(state);
        }
        state.size += size;
        state.waiting.push_back((thing, size));
        self.changed.notify_all();
    }

    /// Returns the oldest thing, or nothing when all are taken and no more will come.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some((thing, size)) = state.waiting.pop_front() {
                state.size -= size;
                self.changed.notify_all();
                return Some(thing);
            }
            if !state.open {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Says that nothing more will come.
    pub fn close(&self) {
        self.lock().open = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state
            .lock()
            .expect("no code panics while it holds this lock")
    }

    fn wait<'q>(&self, state: MutexGuard<'q, State<T>>) -> MutexGuard<'q, State<T>> {
        self.changed
            .wait(state)
            .expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order_through_a_queue_that_is_too_small() {
        let queue = Queue::new(10);
        let taken: Vec<usize> = std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..100).for_each(|size| queue.push(size, size));
                queue.close();
            });
            std::iter::from_fn(|| queue.pop()).collect()
        });
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
    }
}
