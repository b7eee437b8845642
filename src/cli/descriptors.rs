//! File descriptors: every request in flight needs one, and systems allow few by default.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::refusal::Refusal;

/// Kept for files, pipes and the runtime.
const OURS: u64 = 64;

/// With fewer, files of the run itself cannot be opened.
const LEAST: u64 = 32;

/// Raises the limit as far as it goes, and returns how many requests in flight it allows.
pub fn allow(wanted: usize) -> Result<usize, Refusal> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // `None` is no limit.
    if let Some(few) = current.filter(|limit| *limit < LEAST) {
        let what = format!("only {few} open files are allowed, and {LEAST} are needed");
        return Err(Refusal::new(what).hint("raise `ulimit -n`"));
    }
    let room = current.map_or(u64::MAX, |limit| limit.saturating_sub(OURS).max(1));
    Ok(wanted.min(usize::try_from(room).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_at_least_one_and_at_most_what_was_wanted() {
        assert!(allow(1).is_ok_and(|allowed| allowed == 1));
        assert!(allow(usize::MAX).is_ok_and(|allowed| allowed >= 1));
    }
}
