//! When and how the life of a run ends before its work does.

use super::evidence::{Claim, RESULTS};
use super::server::Server;
use super::{Folder, Running, Said, wait_until};

/// When a run's end comes.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// The output is locked, and perhaps being mended.
    Opening,
    /// So many more rows are written.
    Rows(usize),
    /// So many more answers are charged.
    Charges(u64),
    /// A checkpoint speaks of new rows.
    Checkpoint,
}

impl Moment {
    pub fn draw(random: &mut fastrand::Rng) -> Moment {
        match random.u8(..10) {
            0 => Moment::Opening,
            1 => Moment::Checkpoint,
            2..6 => Moment::Rows(random.usize(..14)),
            _ => Moment::Charges(random.u64(..14)),
        }
    }

    /// Waits for it, or for the run's own end.
    pub fn come(self, running: &mut Running, folder: &Folder, server: &Server) {
        let rows = folder.lines(RESULTS);
        let charges = || server.count("charged_answers");
        let charged = charges();
        wait_until("the moment of death", || {
            running.has_ended()
                || match self {
                    Moment::Opening => holds_lock(running.pid()),
                    Moment::Rows(more) => folder.lines(RESULTS) >= rows + more,
                    Moment::Charges(more) => charges() >= charged + more,
                    Moment::Checkpoint => {
                        Claim::read(folder).is_some_and(|claim| claim.finished_count > rows as u64)
                    }
                }
        });
    }
}

/// How it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    Kill,
    Signal(&'static str),
    /// The second one drops what is in flight.
    SignalTwice(&'static str),
}

impl Death {
    pub fn draw(random: &mut fastrand::Rng) -> Death {
        match random.u8(..12) {
            0 => Death::Signal("INT"),
            1 => Death::Signal("TERM"),
            2 => Death::SignalTwice("INT"),
            _ => Death::Kill,
        }
    }

    /// Ends a run. One that came to its own end first is heard all the same.
    pub fn strike(self, mut running: Running) -> Said {
        if running.has_ended() {
            return running.said();
        }
        match self {
            Death::Kill => return running.kill(),
            Death::Signal(name) => running.signal(name),
            Death::SignalTwice(name) => {
                running.signal(name);
                wait_until("the first signal is heard", || {
                    running.stderr_so_far().contains("stopping") || running.has_ended()
                });
                if !running.has_ended() {
                    running.signal(name);
                }
            }
        }
        let said = running.said();
        // Too early to be heard, a signal is a kill.
        let ends = [None, Some(0), Some(3), Some(130), Some(143)];
        let code = said.code;
        assert!(ends.contains(&code), "{code:?}: {}", said.stderr);
        said
    }
}

/// Tells whether a process has its output open.
pub fn holds_lock(pid: u32) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return true;
    };
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|path| path.ends_with("in.results.lock"))
}
