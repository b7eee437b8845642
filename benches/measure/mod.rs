//! A command run to its end, and what the operating system says it used.

#![allow(dead_code, reason = "each benchmark reads its part")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a whole process used.
pub struct Figures {
    pub wall: Duration,
    pub cpu: Duration,
    pub peak_bytes: u64,
}

/// Runs a command to its end and asks the system what it used.
#[expect(
    clippy::zombie_processes,
    reason = "wait4 reaps the child, and says what it used"
)]
pub fn measure(mut command: Command) -> Figures {
    let started = Instant::now();
    let child = command
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is valid, and both pointers outlive the call.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    let wall = started.elapsed();
    assert_eq!((pid, status), (child.id() as i32, 0), "{command:?} failed");
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    Figures {
        wall,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_bytes: usage.ru_maxrss as u64 * 1024,
    }
}
